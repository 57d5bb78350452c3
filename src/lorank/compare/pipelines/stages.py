"""A pipeline at work: the runs of its engines, and its ranker's own scores, each pair of which is scored once.

fused(q, d) = sum_e weight_e n(s_e(q, d))                 over the ``depth`` best documents of each engine
final(q, d) = (1 - mix) z(fused) + mix z(ranker)          for the ``top`` best, which stay above the others
"""

from collections.abc import Collection as Container
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lorank.compare.pipelines.journal import ScoreJournal
from lorank.compare.pipelines.pipeline_file import Pipeline, Setting
from lorank.data import from_run, read_run
from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.progress import StageCallback
from lorank.ranking.consensus.fusion import NORMALISATIONS, fuse
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.types import Run
from lorank.training.lists.retrieval import bm25_index, dense_run, require_texts
from lorank.tuned.dense_index import indexed_run, open_encoder, open_index
from lorank.tuned.naming import BM25_NAME
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import merged, score_run
from lorank.tuned.second_stage import best_of_run


@dataclass
class Stages:
    """What the settings of a pipeline share.

    Attributes:
        collection: The texts.
        queries: The text of each query, by id.
        runs: The run of each engine.
        ranker: The ranker, or None.
        journal: The scores of every query and document that the ranker has scored.
        on_progress: It receives the stage, the number of units that are done and their total.
    """

    collection: Collection
    queries: Mapping[str, str]
    runs: Mapping[str, Run]
    ranker: Ranker | None = None
    journal: ScoreJournal = field(default_factory=ScoreJournal)
    on_progress: StageCallback = lambda what, done, total: None

    def run(self, setting: Setting, names: Container[str] | None = None) -> Run:
        """Return the pipeline's run at a setting.

        Args:
            setting: The value of each knob.
            names: The ids of the queries; None takes all.
        """
        asked = [query for query in self.queries if names is None or query in names]
        parts = [best_of_run({q: run.get(q, {}) for q in asked}, setting["depth"]) for run in self.runs.values()]
        weights = [1.0, *(setting[f"weight.{name}"] for name in list(self.runs)[1:])]
        fused = fuse(parts, weights, setting.get("normalise", "z"))
        if self.ranker is None or not setting["top"] or not setting["mix"]:
            return fused
        heads = best_of_run(fused, setting["top"])
        self._score(self.ranker, heads)
        return {q: self._reordered(q, fused[q], heads[q], setting["mix"]) for q in fused}

    def _score(self, ranker: Ranker, heads: Run) -> None:
        known = self.journal.scores
        missing = {q: {d: s for d, s in row.items() if (q, d) not in known} for q, row in heads.items()}
        missing = {q: row for q, row in missing.items() if row}
        if missing:
            queries = {q: self.queries[q] for q in missing}
            said = partial(self.on_progress, "score documents")
            self.journal.add(score_run(ranker, self.collection, queries, missing, said))

    def _reordered(self, query: str, fused: dict[str, float], head: dict[str, float], mix: float) -> dict[str, float]:
        z = NORMALISATIONS["z"]
        first, learned = z(head), z({document: self.journal.scores[query, document] for document in head})
        mixed = {document: (1 - mix) * first[document] + mix * learned[document] for document in head}
        others = {document: score for document, score in fused.items() if document not in head}
        above = max(others.values(), default=0.0) + 1.0 - min(mixed.values(), default=0.0)
        return {document: score + above for document, score in mixed.items()} | others


def open_stages(
    pipeline: Pipeline,
    collection: Collection,
    split: Split,
    *,
    journal: ScoreJournal | None = None,
    vectors: Path | None = None,
    on_progress: StageCallback = lambda what, done, total: None,
) -> Stages:
    """Return a pipeline's stages over the queries of a split: its engines have searched, its ranker is open.

    Args:
        pipeline: The pipeline.
        collection: The texts.
        split: The queries.
        journal: What is scored already, and kept; None keeps scores in memory.
        vectors: The folder of a dense index for each bi-encoder, in a folder called as its engine; vectors that are
            there are used, others are encoded and added. None encodes all documents anew.
        on_progress: It receives the stage, the number of units that are done and their total.

    Raises:
        UsageError: For a ranker that is not known or scores no pair by itself, an engine that cannot search, and
            vectors for a pipeline without a bi-encoder.
        DataError: For a run that does not fit the collection, and vectors of another encoder.
    """
    if vectors is not None:
        _check_vectors(vectors, pipeline)
    ranker = None if pipeline.ranker is None else open_scorer(pipeline.ranker, collection)
    depth = max(pipeline.knobs["depth"])
    runs = {
        name: _searched(what, f"retrieve.{name}", collection, split, depth, vectors and vectors / name, on_progress)
        for name, what in pipeline.engines.items()
    }
    return Stages(collection, dict(split.queries), runs, ranker, journal or ScoreJournal(), on_progress)


def open_scorer(name: str, collection: Collection) -> Ranker:
    """Return a ranker's own score, without the first stage that it was mixed with: the pipeline mixes by itself.

    Raises:
        UsageError: For a cascade, and for judges and policies, whose scores depend on the whole list.
    """
    tuned = open_ranker(name, collection=collection, flag="rerank.ranker")
    tuned.refuse_cascade("the ranker of a pipeline")
    if tuned.policy is not None or tuned.ranker.kind == "judge":
        raise UsageError(
            f"rerank.ranker {name}: it orders whole lists by its answers, and a pipeline needs a score of each pair; "
            "give a bi-encoder or a cross-encoder, and rerank with it after `lorank retrieve --pipeline`"
        )
    tuned.merge()
    return tuned.learned


def _encodes(what: str) -> bool:
    return what != BM25_NAME and not Path(what).is_file()


def _check_vectors(vectors: Path, pipeline: Pipeline) -> None:
    encoders = [name for name, what in pipeline.engines.items() if _encodes(what)]
    if not encoders:
        raise UsageError(f"--vectors {vectors}: no engine of the pipeline is a bi-encoder; leave it out")
    for name in encoders:
        if Path(name).name != name or name == "..":
            raise UsageError(f"retrieve.{name}: the engine's vectors cannot lie in a folder of that name; rename it")


def _searched(
    what: str,
    key: str,
    collection: Collection,
    split: Split,
    depth: int,
    vectors: Path | None,
    on_progress: StageCallback,
) -> Run:
    """Return the run of one engine: BM25, a bi-encoder with the folder of its vectors, or a file."""
    queries = dict(split.queries)
    if what == BM25_NAME:
        return bm25_index(collection).search(queries, depth)
    if not _encodes(what):
        return from_run(read_run(what), collection, split, depth, path=what)
    encoder, adapter = open_encoder(what, None, flag=key)
    if vectors is not None:
        require_texts(collection)
        return indexed_run(
            open_index(vectors, encoder, what), encoder, adapter, collection, queries, depth, on_progress
        )
    with merged(adapter):
        return dense_run(encoder, collection, queries, depth, partial(on_progress, "encode documents"))
