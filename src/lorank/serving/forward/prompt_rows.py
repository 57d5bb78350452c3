"""Prompts of a causal model as the rows of a batch, and what the lists among them begin with, computed once each.

A list is the documents of one query under one adapter. A batch may hold a slice of it: what its prompts begin with is
then kept for the slices to come, until lists of later requests need the room (`HeldPrefixes`).
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.ranking.scorers.causal import CausalRanker
from lorank.ranking.scorers.causal_batches import HELD, Prompts
from lorank.ranking.scorers.pair_inputs import PairSpans, gather_passages
from lorank.ranking.scorers.shared_prefix import ATTENDED, WORTH, Prefixes, beginnings
from lorank.serving.forward.job_scores import JobScores
from lorank.serving.requests.engine import Job


@dataclass(frozen=True)
class Beginning:
    """The first tokens of a list's prompts, int64 [tokens], and keys and values [tokens, heads, width] per layer."""

    ids: np.ndarray
    layers: Sequence[tuple[Tensor, Tensor]]

    def cut(self, tokens: int) -> "Beginning":
        """Return its first ``tokens``."""
        return Beginning(self.ids[:tokens], [(keys[:tokens], values[:tokens]) for keys, values in self.layers])


class HeldPrefixes:
    """Beginnings by list, at most ``most`` tokens of them; the least recently used leave first."""

    def __init__(self, most: int) -> None:
        self.most, self.tokens = most, 0
        self._held: OrderedDict[tuple[object, ...], Beginning] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> Beginning | None:
        """Return the beginning of a list, None where it is not held."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def keep(self, key: tuple[object, ...], beginning: Beginning) -> None:
        """Hold a beginning, if it is not too long by itself."""
        before = self._held.pop(key, None)
        self.tokens += len(beginning.ids) - (0 if before is None else len(before.ids))
        self._held[key] = beginning
        while self.tokens > self.most:
            _, left = self._held.popitem(last=False)
            self.tokens -= len(left.ids)


@dataclass(frozen=True)
class PromptBatch:
    """Some rows as a model reads them: its arguments, and which pairs they are."""

    given: dict[str, Any]
    spans: PairSpans

    @property
    def lengths(self) -> np.ndarray:
        """The columns that are computed of each row, int64 [rows]: all are as wide as the widest."""
        rows, width = self.given["input_ids"].shape
        return np.full(rows, width, np.int64)


@dataclass
class PromptRows:
    """The rows of a causal ranker's jobs; ``job[row]`` says whose, ``lengths[row]`` what a row costs in tokens.

    Args:
        ranker: The ranker.
        prompts: The prompts of all rows.
        job: The int64 [rows] job of each.
        lengths: The int64 [rows] tokens that are computed for each alone, and a share of those that it goes on from.
        cut: The bool [documents] of each job, True for a document that is read in part only.
        owner: The int64 [rows] list of each.
        queries: The query of each list.
        firsts: The tokens that all prompts of a list have in common, one array per list.
        shared: The int64 [lists] tokens that are to be computed apart.
        begun: What is computed already, by list.
    """

    ranker: CausalRanker
    prompts: Prompts
    job: np.ndarray
    lengths: np.ndarray
    cut: list[np.ndarray]
    owner: np.ndarray
    queries: list[str]
    firsts: list[np.ndarray]
    shared: np.ndarray
    begun: dict[int, Beginning] = field(default_factory=dict)

    @classmethod
    def of(cls, ranker: CausalRanker, jobs: Sequence[Job]) -> "PromptRows":
        """Tokenise the jobs' texts, lay out their pairs, and find what the prompts of each list begin with."""
        if ranker.view == "log-ratio":
            raise UsageError("a log-ratio needs the model before and after it was adapted; serve view=yes-no or head")
        counts = [len(job.documents) for job in jobs]
        inputs = ranker.prepare([job.query for job in jobs], [text for job in jobs for text in job.documents])
        asker, split = np.repeat(np.arange(len(jobs)), counts), ranker.long in ("max", "mean")
        spans = (ranker.passage_spans if split else ranker.spans)(inputs, np.stack([asker, np.arange(sum(counts))], 1))
        cut = inputs.queries.lengths[asker] + inputs.documents.lengths > ranker.room
        job = asker[spans.owner]
        known: dict[tuple[str | None, str], int] = {}
        numbers = np.array([known.setdefault((one.adapter, one.query), len(known)) for one in jobs], np.int64)
        prompts, owner = ranker.prompts(inputs, spans), numbers[job]
        sizes = np.zeros(len(known), np.int64)
        np.add.at(sizes, numbers, [one.documents_in_list or len(one.documents) for one in jobs])
        firsts, shared = [], np.zeros(len(known), np.int64)
        for number in range(len(known)):
            own = np.flatnonzero(owner == number)
            firsts.append(prompts.common(own) if len(own) and ranker.reuses_prefix else np.zeros(0, np.int64))
            tokens = len(firsts[-1])
            if len(np.unique(spans.owner[own])) < sizes[number]:  # other documents follow, which begin otherwise
                tokens = min(tokens, prompts.before_document(own[0]))
            shared[number] = tokens if tokens * (sizes[number] - 1) >= WORTH else 0
        costs = prompts.lengths - shared[owner] + shared[owner] // ATTENDED
        return cls(
            ranker,
            prompts,
            job,
            costs,
            np.split(cut & (not split), np.cumsum(counts)[:-1]),
            owner,
            [query for _, query in known],
            firsts,
            shared,
        )

    def unbegun(self, rows: np.ndarray) -> list[int]:
        """Return the lists of ``rows`` whose beginning is not there yet."""
        return [int(number) for number in np.unique(self.owner[rows]) if int(number) not in self.begun]

    def goes_on(self, number: int, held: Beginning | None) -> bool:
        """Return whether a list can go on from what is held, and if so let it."""
        if held is None:
            return False
        first = self.firsts[number][: len(held.ids)]
        differs = np.flatnonzero(first != held.ids[: len(first)])
        tokens = int(differs[0]) if len(differs) else len(first)
        if not tokens or tokens + WORTH < self.shared[number]:
            return False
        self.begun[number] = held.cut(tokens)
        return True

    def begin(self, lists: Sequence[int], body: nn.Module) -> None:
        """Compute what ``lists`` begin with, by the model below its head."""
        at, shared = np.array([int(np.argmax(self.owner == one)) for one in lists]), self.shared[np.array(lists)]
        begun = beginnings(self.prompts.assemble(at), shared)
        made = Prefixes.of(body, self.prompts.padded(begun), shared)
        for place, (number, end) in enumerate(zip(lists, np.cumsum(shared).tolist(), strict=True)):
            own = slice(end - int(shared[place]), end)
            layers = [(keys[own].clone(), values[own].clone()) for keys, values in made.layers]
            self.begun[number] = Beginning(begun.ids[own], layers)

    def assemble(self, rows: np.ndarray) -> PromptBatch:
        """Return ``rows`` as the model reads them, each from where its list's beginning ends."""
        lists, place = np.unique(self.owner[rows], return_inverse=True)
        found = [self.begun.get(int(number)) for number in lists]
        lengths = np.array([0 if one is None else len(one.ids) for one in found], np.int64)
        there = [one.layers for one in found if one is not None]
        layers = [
            (torch.cat([keys for keys, _ in layer]), torch.cat([values for _, values in layer]))
            for layer in zip(*there, strict=True)
        ]
        whole = self.prompts.assemble(rows)
        given = Prefixes(lengths, layers).continued(self.prompts.padded(whole), whole.lengths, place.reshape(-1))
        return PromptBatch(given, self.prompts.spans[rows])

    def finish(self, job: int, rows: np.ndarray, values: np.ndarray) -> JobScores:
        """Return the scores of a job from the values of its ``rows``; whoever asks pays for whole prompts."""
        scores = values[:, 0]
        if self.ranker.long in ("max", "mean") and len(rows):
            documents = self.prompts.spans.owner[rows]
            scores = gather_passages(scores, documents - documents[0], self.ranker.long)
        return JobScores(scores, int(self.prompts.lengths[rows].sum()), self.cut[job])


class PromptReader:
    """A causal ranker's own way from rows to values, with another module in the ranker's place."""

    packs = False

    def __init__(self, ranker: CausalRanker, module: nn.Module) -> None:
        self.ranker = copy.copy(ranker)
        self.ranker.module = module
        self.held = HeldPrefixes(max(HELD, ranker.scoring_budget() // 8))

    def unknown(self, rows: PromptRows, part: np.ndarray, adapter: str | None, version: str) -> list[int]:
        """Return the lists of rows ``part`` whose beginning must be computed; the others go on from what is held."""
        lists = rows.unbegun(part)
        return [
            number
            for number in lists
            if not rows.goes_on(number, self.held.get((adapter, version, rows.queries[number]))) and rows.shared[number]
        ]

    def begin(self, rows: PromptRows, lists: Sequence[tuple[int, str | None, str]]) -> None:
        """Compute what lists begin with, and hold it.

        Args:
            rows: The rows of the batch.
            lists: The number of each list, its adapter and the version of that; there may be none.
        """
        if not lists:
            return
        with self.in_scoring_format():
            body: Any = self.ranker.module.base_model
            rows.begin([number for number, _, _ in lists], body)
        for number, adapter, version in lists:
            self.held.keep((adapter, version, rows.queries[number]), rows.begun[number])

    def values(self, batch: PromptBatch) -> np.ndarray:
        """Return float32 values [rows, 1] of the ranker's view."""
        with self.in_scoring_format():
            return np.asarray(self.ranker.values(batch.given, batch.spans).unsqueeze(1).float().cpu())

    def in_scoring_format(self) -> torch.autocast:
        """Return the context in which products are computed in the ranker's format."""
        dtype, device = self.ranker.scoring_dtype(), self.ranker.device.type
        return torch.autocast(device, dtype=dtype, enabled=dtype is not torch.float32)
