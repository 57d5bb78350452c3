"""The engine: adapters of any rank and form on one base model; one forward scores rows of many of them.

A batch of jobs becomes rows of tokens, sorted by adapter once. Rows are cut into forwards of at most the ranker's
token budget; a forward holds the rows of one or more adapters, and each layer adds every adapter's update to its own
run of rows (`lorank.serving.forward.products`). Adapters are read on first use and sent out least recently used first,
so that their memory never exceeds ``memory`` bytes, however many there are; those that a forward needs stay for it.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import cast

import numpy as np
import torch

from lorank.catalogue import catalogued
from lorank.errors import LorankError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.targets import linear_layers
from lorank.ranking.scorers.cross_encoder import CrossEncoder
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.scorers.text_ranker import check_head_is_trained
from lorank.serving.adapters.inspector import printable
from lorank.serving.adapters.package import Package
from lorank.serving.adapters.source import Source
from lorank.serving.adapters.store import FolderStore, RemoteStore
from lorank.serving.forward.admission import Admission, Check
from lorank.serving.forward.grouping import bands_of, by_adapter, parts_of
from lorank.serving.forward.loaded_adapter import LoadedAdapter, base_member
from lorank.serving.forward.loader import AdapterLoader
from lorank.serving.forward.lru import NoRoom
from lorank.serving.forward.merged_copy import MergedCopy, Traffic, checked_share, merge_copy
from lorank.serving.forward.mixed import Layout, MixedModel, Tables
from lorank.serving.forward.page_pool import PagePool, page_width
from lorank.serving.forward.rows import PathReader, Reader, Rows, empty_values, rows_of
from lorank.serving.forward.segments import Current, Segments, Unmixable
from lorank.serving.requests.engine import Job, NotYet, Scored

logger = logging.getLogger("lorank")

FAILS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)
"""What an adapter that could be read can still raise when it is used."""


def refusal_of_base(ranker: TrainableRanker) -> LorankError | None:
    """Return why the base itself cannot be served, None where it can: without a head every score would be 0."""
    try:
        check_head_is_trained(ranker)
    except LorankError as error:
        return error
    return None


@dataclass(frozen=True)
class Stats:
    """What the engine holds and did: adapters, bytes, and counts since it was made."""

    adapters: int
    resident: int
    pinned: int
    memory_bytes: int
    memory_limit_bytes: int
    hits: int
    loads: int
    evictions: int
    forwards: int
    mixed_forwards: int
    tokens: int
    merged_bytes: int


@dataclass(frozen=True)
class Run:
    """The rows of one adapter in one forward."""

    adapter: str | None
    rows: np.ndarray


@catalogued(
    "s-lora",
    area="adapters.serve",
    title="S-LoRA: Serving Thousands of Concurrent LoRA Adapters",
    reach="`lorank serve --adapters`, and Python: a server has no recipe",
)
class MixedEngine:
    """An ``Engine``: scores jobs of many adapters on one base.

    Args:
        ranker: the base, a cross- or bi-encoder without an adapter on it; its parameters are frozen.
        source: where adapters come from: a ``Store``, or ``LocalSource``.
        memory: bytes that adapters may take together, heads and statistics included.
        pinned: names that stay in memory once they are read.
        base_name: what the base is called in requests; the ranker's by default.
        merged_share: the share of the traffic from which an adapter gets a merged copy of the model, which takes
            memory of its own; None for never. Long runs are folded anyway and gain little from it.
        inspector: looks at every folder of a store before it is opened; ``version`` then says when it may be scored.
        path: the scoring path (`lorank.ranking.scorers.paths`) that reads what is one model's: rows of the base and
            of the merged copy; None for the ranker's own way, which mixed rows always take.

    >>> from lorank.ranking.scorers import CrossEncoder
    >>> engine = MixedEngine(CrossEncoder("minilm"), Store("adapters"))                                # doctest: +SKIP
    >>> engine.score([Job("team-a", "q", ["d1", "d2"]), Job("team-b", "q", ["d1"])])            # doctest: +SKIP
    [Scored(...), Scored(...)]
    """

    def __init__(
        self,
        ranker: TrainableRanker,
        source: Source,
        *,
        memory: int = 1 << 28,
        pinned: Sequence[str] = (),
        base_name: str | None = None,
        merged_share: float | None = None,
        path: str | None = None,
        inspector: Check | None = None,
    ) -> None:
        self.ranker, self.source, self.path = ranker, source, path
        refusal = refusal_of_base(ranker)
        self.base_reader = None if path is None else PathReader(cast(CrossEncoder, ranker), ranker.module, path)
        self.merged_share = checked_share(merged_share)
        self.traffic = Traffic()
        self.merged: MergedCopy | None = None
        self.base_name = base_name or str(ranker.base)
        self.current = Current()
        self.model = MixedModel(ranker.module.requires_grad_(False).eval(), self.current)
        layers = {path: BaseLinear(module) for path, module in linear_layers(ranker.module).items()}
        widths = [size for base in layers.values() for size in (base.in_features, base.out_features)]
        self.pool = PagePool(memory, page_width(widths), ranker.device)
        self.layout = Layout.of(layers, self.pool)
        self.reader = Reader(ranker, self.model.module, self.model.project)
        self.admission: Admission | None = None
        checked = inspector is not None and isinstance(source, FolderStore | RemoteStore)
        self.shelf = AdapterLoader(ranker, source, self.layout, self.pool, self.model.wrap, checked=checked)
        if inspector is not None and isinstance(source, FolderStore | RemoteStore):
            self.admission = Admission(self.shelf, source, inspector)
        self.shelf.base_refusal = refusal
        self.residents = self.shelf.residents
        self.residents.pinned.update(pinned)
        self.mixes = True
        self._base = base_member(self.layout)
        self._packages: dict[str | None, Package | None] = {}
        self._forwards = self._mixed = self._tokens = 0

    @property
    def reads(self) -> int | None:
        """The most tokens that are read of a row; None where long documents are read in passages."""
        passages = getattr(self.ranker, "long", "truncate") in ("max", "mean")
        return None if passages else getattr(self.ranker, "max_length", None)

    def score(self, jobs: Sequence[Job]) -> list[Scored | LorankError]:
        """Return one answer a job, in order; an unknown or broken adapter is the error of its jobs alone."""
        self.shelf.look_again()
        self._packages = {}
        errors = {
            name: error
            for name in dict.fromkeys(job.adapter for job in jobs)
            if (error := self.shelf.refusal(name)) is not None
        }
        good = [job for job in jobs if job.adapter not in errors]
        scored = iter(self.answers(good, errors) if good else [])
        refused = set(errors) - {job.adapter for job in good}
        return [errors[job.adapter] if job.adapter in refused else next(scored) for job in jobs]

    def answers(self, jobs: Sequence[Job], errors: dict[str | None, LorankError]) -> list[Scored | LorankError]:
        """Return the answers of jobs whose adapters may be served; those that turn out broken go to ``errors``."""
        rows = rows_of(self.ranker, jobs, self.reads)
        values = empty_values(rows)
        self.fill(rows, values, [job.adapter for job in jobs], errors)
        if self.merged_share is not None:
            self.follow_traffic(rows, jobs, errors)
        order = np.argsort(rows.job, kind="stable")
        bounds = np.searchsorted(rows.job[order], np.arange(len(jobs) + 1))
        return [
            errors[job.adapter]
            if job.adapter in errors
            else self.answer(job, rows, values, index, order[bounds[index] : bounds[index + 1]])
            for index, job in enumerate(jobs)
        ]

    def answer(self, job: Job, rows: Rows, values: np.ndarray, index: int, own: np.ndarray) -> Scored | LorankError:
        """Return a job's answer from the values of its rows: mixed with the first stage, calibrated."""
        found = rows.finish(index, own, values[own])
        scores, package = found.scores, self._packages.get(job.adapter)
        if not np.isfinite(scores).all():
            return LorankError(f"adapter {job.adapter!r} gives scores that are not finite; train it again")
        if package is not None and len(scores):
            offset = None
            if package.first_stage is not None:
                pairs = np.stack([np.zeros(len(scores), np.int64), np.arange(len(scores))], 1)
                offset = package.first_stage.score_pairs([job.query], job.documents, pairs)
            scores = package.mix.apply(offset, scores).astype(np.float32)
        probabilities = None
        if package is not None and package.calibration is not None:
            probabilities = package.calibration(scores)
        return Scored(scores, found.tokens, int(found.cut.sum()), probabilities, found.cut)

    def fill(
        self, rows: Rows, values: np.ndarray, adapters: Sequence[str | None], errors: dict[str | None, LorankError]
    ) -> None:
        """Compute the values of all rows; adapters that turn out broken are added to ``errors``."""
        waiting: list[tuple[Run, LoadedAdapter]] = []
        budget = room = self.ranker.scoring_budget()
        bands, costs = bands_of(rows.lengths, packs=self.reader.packs)
        for adapter, own in by_adapter(rows, adapters, bands, present=self.residents.__contains__):
            if self.merged is not None and self.is_merged(adapter):
                self.read_whole(self.merged.reader, rows, values, own, costs)
                self._packages[self.merged.name] = self.merged.package
                continue
            if adapter is None and self.base_reader is not None:
                self.read_whole(self.base_reader, rows, values, own, costs)
                continue
            if waiting and costs[own].sum() > room:
                self.flush(rows, values, waiting, errors)
            for part in parts_of(own, costs, budget):
                if waiting and costs[part].sum() > room:
                    self.flush(rows, values, waiting, errors)
                opened = None if adapter in errors else self.acquire(adapter, waiting, rows, values, errors)
                if opened is None:
                    break
                room = (room if waiting else budget) - int(costs[part].sum())
                waiting.append((Run(adapter, part), opened))
        self.flush(rows, values, waiting, errors)

    def is_merged(self, adapter: str | None) -> bool:
        """Return True where the merged copy is this adapter's as its files are now."""
        if self.merged is None or adapter != self.merged.name:
            return False
        if self.shelf.version(adapter) != self.merged.version:
            self.merged = None
        return self.merged is not None

    def read_whole(
        self, reader: Reader | PathReader, rows: Rows, values: np.ndarray, own: np.ndarray, costs: np.ndarray
    ) -> None:
        """Compute rows that one whole model reads: the base's, or those of the merged copy."""
        for part in parts_of(own, costs, self.ranker.scoring_budget()):
            batch = rows.assemble(part)
            with torch.inference_mode():
                values[part] = reader.values(batch)
            self._forwards += 1
            self._tokens += len(batch.ids)

    def follow_traffic(self, rows: Rows, jobs: Sequence[Job], errors: dict[str | None, LorankError]) -> None:
        """Count a batch, and merge the adapter that leads from now on, if one does."""
        tokens = np.bincount(rows.job, rows.lengths, minlength=len(jobs)).astype(np.int64)
        counted: dict[str | None, int] = {}
        for job, count in zip(jobs, tokens.tolist()):
            counted[job.adapter] = counted.get(job.adapter, 0) + count
        self.traffic.count(counted)
        if self.merged_share is None:
            return
        leader = self.traffic.leader(self.merged_share)
        if leader is None or leader in errors or (self.merged is not None and self.merged.name == leader):
            return
        try:
            opened = self.shelf.open(leader)
        except LorankError:
            return
        self.merged = merge_copy(opened, self.ranker, self.layout, self.path)

    def acquire(
        self,
        adapter: str | None,
        waiting: list[tuple[Run, LoadedAdapter]],
        rows: Rows,
        values: np.ndarray,
        errors: dict[str | None, LorankError],
    ) -> LoadedAdapter | None:
        """Return the adapter in memory, flushing the rows that wait where it does not fit beside theirs."""
        if adapter is None:
            return self._base
        try:
            try:
                opened = self.shelf.open(adapter)
            except NoRoom:
                if not waiting:
                    raise
                self.flush(rows, values, waiting, errors)
                opened = self.shelf.open(adapter)
        except LorankError as error:
            errors[adapter] = error
            return None
        self.residents.hold(adapter)
        self._packages[adapter] = opened.package
        return opened

    def flush(
        self,
        rows: Rows,
        values: np.ndarray,
        waiting: list[tuple[Run, LoadedAdapter]],
        errors: dict[str | None, LorankError],
    ) -> None:
        """Compute the rows that wait, in one forward, and let their adapters go."""
        if not waiting:
            return
        try:
            if not (self.mixes and self.forward_together(rows, values, waiting)):
                for one in waiting:
                    self.forward_alone(rows, values, one, errors)
        finally:
            for run, _ in waiting:
                if run.adapter is not None:
                    self.residents.let_go(run.adapter)
            waiting.clear()

    def forward_together(self, rows: Rows, values: np.ndarray, waiting: list[tuple[Run, LoadedAdapter]]) -> bool:
        """Compute the rows that wait in one forward; False where that fails, and each adapter must be tried alone."""
        try:
            self.forward(rows, values, waiting)
        except Unmixable as error:
            logger.warning("this model's layers cannot tell adapters apart (%s); they run one after another", error)
            self.mixes = False
            return False
        except FAILS as error:
            logger.warning("a batch of %d adapters failed (%r); each is tried alone", len(waiting), error)
            return False
        return True

    def forward_alone(
        self, rows: Rows, values: np.ndarray, one: tuple[Run, LoadedAdapter], errors: dict[str | None, LorankError]
    ) -> None:
        """Compute the rows of one adapter; what it raises is its own error, the base's is everybody's."""
        name = one[0].adapter
        try:
            self.forward(rows, values, [one])
        except FAILS as error:
            if name is None:
                raise
            broken = LorankError(f"adapter {name!r} fails: {type(error).__name__}: {error}; save it again")
            self.shelf.refuse(name, one[1].version, broken)
            errors[name] = broken

    def forward(self, rows: Rows, values: np.ndarray, group: Sequence[tuple[Run, LoadedAdapter]]) -> None:
        """Compute the rows of ``group`` in one forward."""
        group = sorted(group, key=lambda one: (bool(one[1].forms), -rows.lengths[one[0].rows].mean()))
        members = [opened for _, opened in group]
        plain = sum(not opened.forms for opened in members)
        # neighbours of like length attend together: lengths fall within one run and rise within the next
        order = np.concatenate([run.rows[:: 1 if turn % 2 == 0 else -1] for turn, (run, _) in enumerate(group)])
        batch = rows.assemble(order)
        counts = [len(run.rows) for run, _ in group]
        segments = (
            Segments.of(counts, batch.lengths)
            if self.reader.packs
            else Segments.padded(counts, int(batch.lengths.max()))
        )
        with torch.inference_mode():
            tables = Tables(self.layout, members[:plain]) if plain else None
            with self.current.batch(members, plain, tables, segments):
                values[order] = self.reader.values(batch)
        self._forwards += 1
        self._mixed += len(group) > 1
        self._tokens += len(batch.ids)

    def pin(self, name: str) -> None:
        """Keep ``name`` in memory from its next use on."""
        self.residents.pinned.add(name)

    def unpin(self, name: str) -> None:
        """Let ``name`` be sent out again."""
        self.residents.pinned.discard(name)

    def adapters(self) -> list[str]:
        """Return the names of the adapters that can be asked for, sorted; listing opens none of them."""
        return self.source.names()

    def version(self, adapter: str | None) -> str:
        """Return what changes whenever the adapter's files do; UnknownAdapter where no adapter has that name."""
        if adapter is not None and self.admission is not None and self.admission.must_wait(adapter):
            raise NotYet(adapter, partial(self.admission.start, adapter))
        return self.current_version(adapter)

    def current_version(self, adapter: str | None) -> str:
        """Return the version that is served now, without asking for a newer one to be checked."""
        return "base" if adapter is None else self.shelf.current(adapter)

    def about(self, adapter: str) -> dict[str, object]:
        """Return what is known of an adapter without looking: refused and why, and remarks on it."""
        refused = self.shelf.reason(adapter)
        remarks: list[str] = []
        if self.admission is not None:
            refused = refused or self.admission.faults.get(adapter)
            remarks = list(self.admission.remarks.get(adapter, ()))
        known = adapter in self.shelf.accepted or adapter in self.residents
        state = "refused" if refused is not None else "ready" if known else "not opened yet"
        return (
            {"state": state}
            | ({"reason": printable(str(refused))} if refused else {})
            | ({"remarks": remarks} if remarks else {})
        )

    def stats(self) -> dict[str, int]:
        """Return the fields of ``Stats``."""
        counts, pinned = self.residents.counts, [key for key in self.residents.pinned if key in self.residents]
        return asdict(
            Stats(
                adapters=len(self.source.names()),
                resident=len(self.residents),
                pinned=len(pinned),
                memory_bytes=self.pool.used_bytes,
                memory_limit_bytes=self.pool.pages.numel() * 4,
                hits=counts.hits,
                loads=counts.loads,
                evictions=counts.evictions,
                forwards=self._forwards,
                mixed_forwards=self._mixed,
                tokens=self._tokens,
                merged_bytes=self.merged.bytes if self.merged else 0,
            )
        )

    def occupancy(self) -> dict[str, int]:
        """Return how many adapters are in memory, their bytes, and counts since the start; looks into no store."""
        counts = self.residents.counts
        return {
            "resident": len(self.residents),
            "memory_bytes": self.pool.used_bytes,
            "memory_limit_bytes": self.pool.pages.numel() * 4,
            "loads": counts.loads,
            "evictions": counts.evictions,
        }

    def close(self) -> None:
        """Send all adapters out and remove what the source kept on disk."""
        self.merged = None
        if self.admission is not None:
            self.admission.close()
        for key in list(self.residents.keys()):
            self.residents.drop(key)
        self.source.close()
