"""The engine: adapters of any rank and form on one base model; one forward scores rows of many of them.

A batch of jobs becomes rows of tokens, sorted by adapter once. Rows are cut into forwards of at most the ranker's
token budget; a forward holds the rows of one or more adapters, and each layer adds every adapter's update to its own
run of rows (`lorank.serving.forward.products`). Adapters are read on first use and sent out least recently used first,
so that their memory never exceeds ``memory`` bytes, however many there are; those that a forward needs stay for it.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

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
from lorank.serving.adapters.source import Source
from lorank.serving.adapters.store import FolderStore, RemoteStore
from lorank.serving.adapters.whole_ranker import WholeRanker
from lorank.serving.forward.admission import Admission, Check
from lorank.serving.forward.batch import Batch, Run
from lorank.serving.forward.grouping import by_adapter, parts_of
from lorank.serving.forward.loaded_adapter import LoadedAdapter, base_member
from lorank.serving.forward.loader import AdapterLoader
from lorank.serving.forward.lru import NoRoom
from lorank.serving.forward.merged_copy import MergedCopy, Traffic, check_share, merge_copy
from lorank.serving.forward.mixed import Layout, MixedModel, Tables
from lorank.serving.forward.page_pool import PagePool, page_width
from lorank.serving.forward.prompt_rows import PromptReader, PromptRows
from lorank.serving.forward.rows import PathReader, Reader, open_reader, rows_of
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
    loaded: int
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


@catalogued(
    "s-lora",
    area="adapters.serve",
    title="S-LoRA: Serving Thousands of Concurrent LoRA Adapters",
    reach="`lorank serve --adapters`, and Python: a server has no recipe",
)
class MixedEngine:
    """An ``Engine``: scores jobs of many adapters on one base.

    Args:
        ranker: the base, a cross-encoder, bi-encoder or causal ranker without an adapter on it; its parameters are
            frozen.
        source: where adapters come from: a ``Store``, or ``LocalSource``.
        memory: bytes that adapters may take together, heads and statistics included.
        pinned: names that stay in memory once they are read.
        base_name: what the base is called in requests; the ranker's by default.
        merged_share: the share of the traffic from which an adapter gets a merged copy of the model, which takes
            memory of its own; None for never. Long runs are folded anyway and gain little from it.
        inspector: looks at every folder of a store before it is opened; ``version`` then says when it may be scored.
        path: the scoring path (`lorank.ranking.scorers.paths`) that reads what is one model's: rows of the base and
            of the merged copy; None for the ranker's own way, which mixed rows always take.
        whole: the tuned ranker whose model the base is: the base's own answers have its mix, first stage and
            calibration; None for a base by itself. Adapters bring their own.
        learned_alone: True answers what the models have learned, without mixes, first stages and calibrations.

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
        whole: WholeRanker | None = None,
        learned_alone: bool = False,
    ) -> None:
        self.ranker, self.source, self.path, self.whole = ranker, source, path, whole
        self.learned_alone = learned_alone
        refusal = refusal_of_base(ranker)
        self.base_reader = None if path is None else PathReader(cast(CrossEncoder, ranker), ranker.module, path)
        self.merged_share = check_share(merged_share)
        self.traffic = Traffic()
        self.merged: MergedCopy | None = None
        self.base_name = base_name or str(ranker.base)
        self.current = Current()
        self.model = MixedModel(ranker.module.requires_grad_(False).eval(), self.current)
        layers = {path: BaseLinear(module) for path, module in linear_layers(ranker.module).items()}
        widths = [size for base in layers.values() for size in (base.in_features, base.out_features)]
        self.pool = PagePool(memory, page_width(widths), ranker.device)
        self.layout = Layout.of(layers, self.pool)
        self.reader = open_reader(ranker, self.model.module, self.model.project)
        self.admission: Admission | None = None
        checked = inspector is not None and isinstance(source, FolderStore | RemoteStore)
        self.loader = AdapterLoader(ranker, source, self.layout, self.pool, self.model.wrap, checked=checked)
        if inspector is not None and isinstance(source, FolderStore | RemoteStore):
            self.admission = Admission(self.loader, source, inspector)
        self.loader.base_refusal = refusal
        self.loaded = self.loader.loaded
        self.loaded.pinned.update(pinned)
        self.mixes = True
        self._base = base_member(self.layout)
        self._forwards = self._mixed = self._tokens = 0

    @property
    def reads(self) -> int | None:
        """The most tokens that are read of a row; None where long documents are read in passages."""
        passages = getattr(self.ranker, "long", "truncate") in ("max", "mean")
        return None if passages else getattr(self.ranker, "max_length", None)

    def score(self, jobs: Sequence[Job]) -> list[Scored | LorankError]:
        """Return one answer per job, in order; an unknown or broken adapter is the error of its jobs alone."""
        self.loader.look_again()
        refused = {
            name: error
            for name in dict.fromkeys(job.adapter for job in jobs)
            if (error := self.loader.refusal(name)) is not None
        }
        good = [job for job in jobs if job.adapter not in refused]
        scored = iter(self.answers(good) if good else [])
        return [refused[job.adapter] if job.adapter in refused else next(scored) for job in jobs]

    def answers(self, jobs: Sequence[Job]) -> list[Scored | LorankError]:
        """Return the answers of jobs whose adapters may be served; one that turns out broken is its jobs' error."""
        batch = Batch.of(jobs, rows_of(self.ranker, jobs, self.reads), packs=self.reader.packs)
        self.fill(batch)
        if self.merged_share is not None:
            self.follow_traffic(batch, self.merged_share)
        return [
            batch.errors[job.adapter] if job.adapter in batch.errors else self.answer(batch, index, own)
            for index, (job, own) in enumerate(zip(jobs, batch.rows_by_job(), strict=True))
        ]

    def answer(self, batch: Batch, index: int, own: np.ndarray) -> Scored | LorankError:
        """Return the answer of job ``index`` from the values of its rows ``own``: mixed with the first stage,
        calibrated."""
        job = batch.jobs[index]
        found = batch.rows.finish(index, own, batch.values[own])
        scores, package = found.scores, self.whole if job.adapter is None else batch.packages.get(job.adapter)
        if not np.isfinite(scores).all():
            return LorankError(f"adapter {job.adapter!r} gives scores that are not finite; train it again")
        if self.learned_alone:
            package = None
        if package is not None and len(scores):
            offset = None
            if package.first_stage is not None:
                pairs = np.stack([np.zeros(len(scores), np.int64), np.arange(len(scores))], 1)
                offset = package.first_stage.score_pairs([job.query], job.documents, pairs)
            scores = package.mix.apply(offset, scores).astype(np.float32)
        probabilities = above = None
        if package is not None and package.calibration is not None:
            probabilities = package.calibration(scores)
            if (threshold := package.calibration.threshold) is not None:
                above = scores >= np.float32(threshold.score)
        return Scored(scores, found.tokens, int(found.cut.sum()), probabilities, found.cut, above)

    def fill(self, batch: Batch) -> None:
        """Compute the values of all rows."""
        budget = room = self.ranker.scoring_budget()
        adapters = [job.adapter for job in batch.jobs]
        for adapter, own in by_adapter(batch.rows, adapters, batch.bands, present=self.loaded.__contains__):
            if self.read_by_one_model(batch, adapter, own):
                continue
            if batch.pending and batch.cost(own) > room:
                self.flush(batch)
            for part in parts_of(own, batch.costs, budget):
                if batch.pending and batch.cost(part) > room:
                    self.flush(batch)
                loaded = None if adapter in batch.errors else self.acquire(batch, adapter)
                if loaded is None:
                    break
                room = (room if batch.pending else budget) - batch.cost(part)
                batch.pending.append(Run(adapter, part, loaded))
        self.flush(batch)

    def read_by_one_model(self, batch: Batch, adapter: str | None, own: np.ndarray) -> bool:
        """Compute rows that one whole model reads: the merged copy, or the base by its own path; False for others."""
        if self.merged is not None and self.is_merged(adapter):
            self.read_whole(self.merged.reader, batch, own)
            batch.packages[self.merged.name] = self.merged.package
            return True
        if adapter is None and self.base_reader is not None:
            self.read_whole(self.base_reader, batch, own)
            return True
        return False

    def is_merged(self, adapter: str | None) -> bool:
        """Return True where the merged copy is this adapter's as its files are now."""
        if self.merged is None or adapter != self.merged.name:
            return False
        if self.loader.version(adapter) != self.merged.version:
            self.merged = None
        return self.merged is not None

    def read_whole(self, reader: Reader | PathReader | PromptReader, batch: Batch, own: np.ndarray) -> None:
        """Compute the rows ``own`` by ``reader``, in as many forwards as the token budget asks for."""
        for part in parts_of(own, batch.costs, self.ranker.scoring_budget()):
            with torch.inference_mode():
                if isinstance(reader, PromptReader) and isinstance(batch.rows, PromptRows):
                    unknown = reader.unknown(batch.rows, part, None, "")
                    reader.begin(batch.rows, [(number, None, "") for number in unknown])
                inputs: Any = batch.rows.assemble(part)  # rows and reader are of one kind of ranker
                batch.values[part] = reader.values(inputs)
            self._forwards += 1
            self._tokens += int(inputs.lengths.sum())

    def follow_traffic(self, batch: Batch, share: float) -> None:
        """Count a batch, and merge the adapter that has ``share`` of the traffic from now on, if one does."""
        self.traffic.count(batch.tokens())
        leader = self.traffic.leader(share)
        if leader is None or leader in batch.errors or (self.merged is not None and self.merged.name == leader):
            return
        try:
            loaded = self.loader.open(leader)
        except LorankError:
            return
        self.merged = merge_copy(loaded, self.ranker, self.layout, self.path)

    def acquire(self, batch: Batch, adapter: str | None) -> LoadedAdapter | None:
        """Return the adapter in memory, after a flush where it does not fit beside those of the pending runs.

        One that cannot be opened is None and stands in ``batch.errors``.
        """
        if adapter is None:
            return self._base
        try:
            try:
                loaded = self.loader.open(adapter)
            except NoRoom:
                if not batch.pending:
                    raise
                self.flush(batch)
                loaded = self.loader.open(adapter)
        except LorankError as error:
            batch.errors[adapter] = error
            return None
        self.loaded.hold(adapter)
        batch.packages[adapter] = loaded.package
        return loaded

    def flush(self, batch: Batch) -> None:
        """Compute the pending runs, in one forward where that works, and let their adapters go."""
        if not batch.pending:
            return
        try:
            if not (self.mixes and self.forward_together(batch)):
                for run in batch.pending:
                    self.forward_alone(batch, run)
        finally:
            for run in batch.pending:
                if run.adapter is not None:
                    self.loaded.let_go(run.adapter)
            batch.pending.clear()

    def forward_together(self, batch: Batch) -> bool:
        """Compute the pending runs in one forward; False where that fails, and each adapter must be tried alone."""
        try:
            self.forward(batch, batch.pending)
        except Unmixable as error:
            logger.warning("this model's layers cannot tell adapters apart (%s); they run one after another", error)
            self.mixes = False
            return False
        except FAILS as error:
            logger.warning("a batch of %d adapters failed (%r); each is tried alone", len(batch.pending), error)
            return False
        return True

    def forward_alone(self, batch: Batch, run: Run) -> None:
        """Compute the run of one adapter; what it raises is its own error, the base's is everybody's."""
        try:
            self.forward(batch, [run])
        except FAILS as error:
            if run.adapter is None:
                raise
            broken = LorankError(f"adapter {run.adapter!r} fails: {type(error).__name__}: {error}; save it again")
            self.loader.refuse(run.adapter, run.loaded.version, broken)
            batch.errors[run.adapter] = broken

    def forward(self, batch: Batch, runs: Sequence[Run]) -> None:
        """Compute ``runs`` in one forward."""
        lengths = batch.rows.lengths
        runs = sorted(runs, key=lambda run: (bool(run.loaded.forms), -lengths[run.rows].mean()))
        if isinstance(batch.rows, PromptRows) and isinstance(self.reader, PromptReader):
            self.begin_lists(self.reader, batch.rows, runs)
        # neighbours of like length attend together: lengths fall within one run and rise within the next
        order = np.concatenate([run.rows[:: 1 if turn % 2 == 0 else -1] for turn, run in enumerate(runs)])
        inputs: Any = batch.rows.assemble(order)  # rows and reader are of one kind of ranker
        counts = [len(run.rows) for run in runs]
        segments = (
            Segments.of(counts, inputs.lengths)
            if self.reader.packs
            else Segments.of_padded(counts, int(inputs.lengths.max()))
        )
        with self.computing(runs, segments):
            batch.values[order] = self.reader.values(inputs)
        self._forwards += 1
        self._mixed += len(runs) > 1
        self._tokens += int(inputs.lengths.sum())

    def begin_lists(self, reader: PromptReader, rows: PromptRows, runs: Sequence[Run]) -> None:
        """Compute what the lists of ``runs`` begin with, each under its adapter, where it is not known yet."""
        lists: list[tuple[int, str | None, str]] = []
        members, counts = [], []
        for run in runs:
            seen = {number for number, *_ in lists}
            unknown = set(reader.unknown(rows, run.rows, run.adapter, run.loaded.version)) - seen
            if unknown:
                lists += [(number, run.adapter, run.loaded.version) for number in sorted(unknown)]
                members.append(run)
                counts.append(len(unknown))
        if lists:
            longest = int(rows.shared[[number for number, *_ in lists]].max())
            with self.computing(members, Segments.of_padded(counts, longest)):
                reader.begin(rows, lists)
            self._tokens += longest * len(lists)

    @contextmanager
    def computing(self, runs: Sequence[Run], segments: Segments) -> Iterator[None]:
        """Within it the model computes under the adapters of ``runs``, those of plain LoRAs first."""
        members = [run.loaded for run in runs]
        plain = sum(not member.forms for member in members)
        with torch.inference_mode():
            tables = Tables(self.layout, members[:plain]) if plain else None
            with self.current.batch(members, plain, tables, segments):
                yield

    def pin(self, name: str) -> None:
        """Keep ``name`` in memory from its next use on."""
        self.loaded.pinned.add(name)

    def unpin(self, name: str) -> None:
        """Let ``name`` be sent out again."""
        self.loaded.pinned.discard(name)

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
        return "base" if adapter is None else self.loader.current(adapter)

    def about(self, adapter: str) -> dict[str, object]:
        """Return what is known of an adapter without looking: its state, why it is refused or unchecked, remarks."""
        refused: object = self.loader.reason(adapter)
        unchecked, remarks = None, []
        if self.admission is not None:
            refused = refused or self.admission.faults.get(adapter)
            unchecked = self.admission.backoff.reason(adapter)
            remarks = list(self.admission.remarks.get(adapter, ()))
        if refused:
            state = "refused"
        elif adapter in self.loader.accepted or adapter in self.loaded:
            state = "ready"
        else:
            state = "unchecked" if unchecked else "not opened yet"
        reason = printable(str(refused or unchecked or ""))
        return {"state": state} | ({"reason": reason} if reason else {}) | ({"remarks": remarks} if remarks else {})

    def stats(self) -> dict[str, int]:
        """Return the fields of ``Stats``."""
        counts, pinned = self.loaded.counts, [key for key in self.loaded.pinned if key in self.loaded]
        return asdict(
            Stats(
                adapters=len(self.source.names()),
                loaded=len(self.loaded),
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
        counts = self.loaded.counts
        return {
            "loaded": len(self.loaded),
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
        for key in list(self.loaded.keys()):
            self.loaded.drop(key)
        self.source.close()
