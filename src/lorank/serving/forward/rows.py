"""Jobs as rows of tokens, and values of rows as scores: what differs between cross-encoders, bi-encoders and others.

A row is one token sequence that the model reads: a pair (or a passage of a pair) for a cross-encoder, a text for a
bi-encoder, a prompt for a causal model (`lorank.serving.forward.prompt_rows`). All texts of a batch of jobs are
tokenised in one call.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from lorank.errors import UsageError
from lorank.ranking.scorers.bi_encoder import BiEncoder
from lorank.ranking.scorers.causal import CausalRanker
from lorank.ranking.scorers.cross_encoder import CrossEncoder
from lorank.ranking.scorers.encoded import aggregate, titles_of
from lorank.ranking.scorers.packed import PackedEncoder, Project, can_pack
from lorank.ranking.scorers.pair_inputs import PairInputs, PairSpans, gather_passages
from lorank.ranking.scorers.paths import open_path
from lorank.ranking.scorers.tokens import Ragged, Span, TokenTable
from lorank.serving.forward.job_scores import JobScores
from lorank.serving.forward.prompt_rows import PromptReader, PromptRows
from lorank.serving.requests.engine import Job
from lorank.serving.requests.limits import CHARACTERS_A_TOKEN, cut_text


@dataclass
class PairRows:
    """The rows of a cross-encoder's jobs; ``job[row]`` and ``lengths[row]`` say whose and how long."""

    ranker: CrossEncoder
    inputs: PairInputs
    spans: PairSpans
    document: np.ndarray
    job: np.ndarray
    lengths: np.ndarray
    cut: list[np.ndarray]

    @classmethod
    def of(cls, ranker: CrossEncoder, jobs: Sequence[Job]) -> "PairRows":
        """Tokenise the jobs' texts and lay out their pairs."""
        counts = [len(job.documents) for job in jobs]
        inputs = ranker.prepare([job.query for job in jobs], [text for job in jobs for text in job.documents])
        queries = np.repeat(np.arange(len(jobs)), counts)
        pairs = np.stack([queries, np.arange(sum(counts))], 1)
        split = ranker.long in ("max", "mean")
        spans = (ranker.passage_spans if split else ranker.first_spans)(inputs, pairs)
        lengths = spans.query.length + spans.document.length + ranker.template.pair_cost
        whole = inputs.queries.lengths[queries] + inputs.documents.lengths <= ranker.room
        cut = np.zeros(len(pairs), bool) if split else ~whole
        return cls(
            ranker, inputs, spans, spans.owner, queries[spans.owner], lengths, np.split(cut, np.cumsum(counts)[:-1])
        )

    def assemble(self, rows: np.ndarray) -> Ragged:
        """Return the token sequences of ``rows``."""
        return self.ranker.assemble(self.inputs, self.spans[rows])

    def finish(self, job: int, rows: np.ndarray, values: np.ndarray) -> JobScores:
        """Return the scores of a job from the logits of its ``rows``, in the order of the rows."""
        scores = values[:, 0]
        if self.ranker.long in ("max", "mean") and len(rows):
            scores = gather_passages(scores, self.document[rows] - self.document[rows[0]], self.ranker.long)
        return JobScores(scores, int(self.lengths[rows].sum()), self.cut[job])


@dataclass
class TextRows:
    """The rows of a bi-encoder's jobs: each job's query, then its documents' passages."""

    ranker: BiEncoder
    table: TokenTable
    span: Span
    document: np.ndarray
    job: np.ndarray
    lengths: np.ndarray
    cut: list[np.ndarray]
    titled: list[np.ndarray]

    @classmethod
    def of(cls, ranker: BiEncoder, jobs: Sequence[Job]) -> "TextRows":
        """Tokenise the jobs' texts and lay out their rows."""
        inputs = ranker.prepare([job.query for job in jobs], [text for job in jobs for text in job.documents])
        counts = [len(job.documents) for job in jobs]
        start, length = ranker.template.cut(inputs.queries.lengths, ranker.room)
        every = np.arange(len(inputs.documents))
        passages = ranker.document_spans(inputs.documents, every)
        owners = np.repeat(np.arange(len(jobs)), counts)
        offset = len(inputs.queries)
        table = TokenTable(
            np.concatenate([inputs.queries.ids, inputs.documents.ids]),
            np.concatenate([inputs.queries.offsets, inputs.documents.offsets[1:] + inputs.queries.offsets[-1]]),
            ranker.room,
            both_prompts(inputs.queries, inputs.documents),
        )
        span = Span(
            np.concatenate([np.arange(offset), passages.text + offset]),
            np.concatenate([start, passages.start]),
            np.concatenate([length, passages.length]),
        )
        cut = (
            inputs.documents.lengths > ranker.room
            if ranker.long in ("truncate", "first")
            else np.zeros(len(inputs.documents), bool)
        )
        return cls(
            ranker,
            table,
            span,
            np.concatenate([np.full(offset, -1), passages.text]),
            np.concatenate([np.arange(offset), owners[passages.text]]),
            span.length + ranker.template.single_cost,
            np.split(cut, np.cumsum(counts)[:-1]),
            np.split(titles_of(inputs.documents, every), np.cumsum(counts)[:-1]),
        )

    def assemble(self, rows: np.ndarray) -> Ragged:
        """Return the token sequences of ``rows``."""
        return self.ranker.template.assemble_single(self.table, self.span[rows])

    def finish(self, job: int, rows: np.ndarray, values: np.ndarray) -> JobScores:
        """Return the scores of a job from the vectors of its ``rows``: the query's first."""
        count = len(self.cut[job])
        tokens = int(self.lengths[rows].sum())
        if not count:
            return JobScores(np.zeros(0, np.float32), tokens, self.cut[job])
        documents = self.document[rows[1:]]
        scores = aggregate(
            values[:1],
            values[1:],
            documents - documents[0],
            np.zeros(count, np.int64),
            np.arange(count),
            self.ranker.long,
            self.titled[job],
            self.ranker.title_weight,
        )
        return JobScores(scores / np.float32(self.ranker.temperature), tokens, self.cut[job])


def both_prompts(queries: TokenTable, documents: TokenTable) -> np.ndarray | None:
    """Return the prompt's tokens of queries and then of documents, None where all are pooled."""
    if queries.prompts is None and documents.prompts is None:
        return None
    none = [np.zeros(len(table), np.int64) for table in (queries, documents)]
    return np.concatenate([z if t.prompts is None else t.prompts for t, z in zip((queries, documents), none)])


Rows = PairRows | TextRows | PromptRows


class Reader:
    """A ranker's own way from rows to values, with another module in the ranker's place."""

    def __init__(self, ranker: Any, module: nn.Module, project: Project | None = None) -> None:
        self.ranker = copy.copy(ranker)
        self.ranker.module = module
        self.pairs = isinstance(ranker, CrossEncoder)
        self.project = project
        self._packed: PackedEncoder | None = None
        base = ranker.module.base_model if self.pairs else ranker.module
        self.packs = ranker.can_pack() if self.pairs else can_pack(base)

    def values(self, batch: Ragged) -> np.ndarray:
        """Return float32 values [rows, width]: logits [rows, 1] of pairs, vectors of texts."""
        dtype = self.ranker.scoring_dtype()
        if self.packs and self._packed is None:
            module = self.ranker.module
            self._packed = PackedEncoder(module.base_model if self.pairs else module, dtype, self.project)
        if self.pairs:
            return np.asarray(self.ranker.logits(batch, self._packed, dtype).unsqueeze(1).cpu())
        return np.asarray(self.ranker.pool(batch, self._packed, dtype).cpu())


class PathReader:
    """A cross-encoder with ``module`` in its place, read by a scoring path of `lorank.ranking.scorers.paths`."""

    def __init__(self, ranker: CrossEncoder, module: nn.Module, path: str) -> None:
        placed = copy.copy(ranker)
        placed.module = module
        self.logits = open_path(path, placed)

    def values(self, batch: Ragged) -> np.ndarray:
        """Return float32 logits [rows, 1]."""
        return self.logits(batch)[:, None]


ROWS: dict[str, Callable[[Any, Sequence[Job]], Rows]] = {
    "cross-encoder": PairRows.of,
    "bi-encoder": TextRows.of,
    "causal": PromptRows.of,
}


def open_reader(ranker: Any, module: nn.Module, project: Project | None = None) -> Reader | PromptReader:
    """Return how a ranker's rows are read, with ``module`` in the place of its own."""
    return PromptReader(ranker, module) if isinstance(ranker, CausalRanker) else Reader(ranker, module, project)


def rows_of(ranker: Any, jobs: Sequence[Job], reads: int | None = None) -> Rows:
    """Return the rows of ``jobs`` for a ranker of any kind that is served.

    ``reads`` is the most tokens that the model reads of a row: what lies far beyond is not even tokenised.
    """
    if ranker.kind not in ROWS:
        raise UsageError(f"a {ranker.kind} ranker serves no adapters in batches; give one of {', '.join(ROWS)}")
    rows = ROWS[ranker.kind](ranker, [cut_job(job, reads) for job in jobs])
    if reads is not None:
        for cut, job in zip(rows.cut, jobs, strict=True):
            cut |= np.array([len(text) > reads * CHARACTERS_A_TOKEN for text in job.documents], bool)
    return rows


def cut_job(job: Job, reads: int | None) -> Job:
    """Return a job whose texts are cut far beyond what a model that reads ``reads`` tokens of a row can see."""
    if reads is None:
        return job
    return replace(job, query=cut_text(job.query, reads), documents=[cut_text(text, reads) for text in job.documents])


def empty_values(rows: Rows) -> np.ndarray:
    """Return room for the values of all rows, float32 [rows, width]."""
    width = rows.ranker.dimension if isinstance(rows, TextRows) else 1
    return np.zeros((len(rows.lengths), width), np.float32)
