"""A pipeline at work: the runs of its engines, and the scores of its ranker, each pair of which is scored once.

fused(q, d) = sum_e weight_e n(s_e(q, d))                 over the ``depth`` best documents of each engine
final(q, d) = (1 - mix) z(fused) + mix z(ranker)          for the ``top`` best, which stay above the others
"""

import json
from collections.abc import Collection as Container
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lorank.compare.pipelines.pipeline_file import Pipeline, Setting
from lorank.data import from_run, read_run
from lorank.data.collection import Collection, Split
from lorank.errors import DataError
from lorank.progress import StageCallback
from lorank.ranking.consensus.fusion import NORMALISATIONS, fuse
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.types import Run
from lorank.training.lists.retrieval import bm25_index, dense_run
from lorank.tuned.dense_index import open_encoder
from lorank.tuned.naming import BM25_NAME
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import merged, rerank_run

Scores = dict[tuple[str, str], float]


@dataclass
class Stages:
    """What the settings of a pipeline share.

    Attributes:
        collection: The texts.
        queries: The text of each query, by id.
        runs: The run of each engine.
        ranker: The ranker, or None.
        scores: Of each query and document that the ranker has scored.
        journal: The file that keeps scores from call to call; None keeps none.
        on_progress: It receives the stage, the number of units that are done and their total.
    """

    collection: Collection
    queries: Mapping[str, str]
    runs: Mapping[str, Run]
    ranker: Ranker | None = None
    scores: Scores = field(default_factory=dict)
    journal: Path | None = None
    on_progress: StageCallback = lambda what, done, total: None

    def run(self, setting: Setting, names: Container[str] | None = None) -> Run:
        """Return the pipeline's run at a setting.

        Args:
            setting: The value of each knob.
            names: The ids of the queries; None takes all.
        """
        asked = [query for query in self.queries if names is None or query in names]
        parts = [{q: _best(run.get(q, {}), setting["depth"]) for q in asked} for run in self.runs.values()]
        weights = [1.0, *(setting[f"weight.{name}"] for name in list(self.runs)[1:])]
        fused = fuse(parts, weights, setting.get("normalise", "z"))
        if self.ranker is None or not setting["top"] or not setting["mix"]:
            return fused
        heads = {q: _best(row, setting["top"]) for q, row in fused.items()}
        self._score(self.ranker, heads)
        return {q: self._reordered(q, fused[q], heads[q], setting["mix"]) for q in fused}

    def _score(self, ranker: Ranker, heads: Run) -> None:
        missing = {q: {d: s for d, s in row.items() if (q, d) not in self.scores} for q, row in heads.items()}
        missing = {q: row for q, row in missing.items() if row}
        if not missing:
            return
        queries = {q: self.queries[q] for q in missing}
        said = partial(self.on_progress, "score documents")
        found = rerank_run(ranker, self.collection, queries, missing, said)
        self.scores |= {(q, d): score for q, row in found.items() for d, score in row.items()}
        if self.journal is not None:
            with self.journal.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps([q, row], ensure_ascii=False) + "\n" for q, row in found.items())

    def _reordered(self, query: str, fused: dict[str, float], head: dict[str, float], mix: float) -> dict[str, float]:
        z = NORMALISATIONS["z"]
        first, learned = z(head), z({document: self.scores[query, document] for document in head})
        mixed = {document: (1 - mix) * first[document] + mix * learned[document] for document in head}
        others = {document: score for document, score in fused.items() if document not in head}
        above = max(others.values(), default=0.0) + 1.0 - min(mixed.values(), default=0.0)
        return {document: score + above for document, score in mixed.items()} | others


def open_stages(
    pipeline: Pipeline,
    collection: Collection,
    split: Split,
    *,
    journal: Path | None = None,
    on_progress: StageCallback = lambda what, done, total: None,
) -> Stages:
    """Return a pipeline's stages over the queries of a split: its engines have searched, its ranker is open.

    Args:
        pipeline: The pipeline.
        collection: The texts.
        split: The queries.
        journal: The file of scores; what it holds is not scored again.
        on_progress: It receives the stage, the number of units that are done and their total.

    Raises:
        UsageError: For a ranker that is not known, or an engine that cannot search.
        DataError: For a run that does not fit the collection, and a damaged journal.
    """
    ranker = (
        None if pipeline.ranker is None else open_ranker(pipeline.ranker, collection=collection, flag="rerank.ranker")
    )
    depth = max(pipeline.knobs["depth"])
    runs = {
        name: _searched(what, f"retrieve.{name}", collection, split, depth, on_progress)
        for name, what in pipeline.engines.items()
    }
    kept = {} if journal is None else _read_journal(journal)
    return Stages(collection, dict(split.queries), runs, ranker, kept, journal, on_progress)


def _searched(what: str, key: str, collection: Collection, split: Split, depth: int, on_progress: StageCallback) -> Run:
    """Return the run of one engine: BM25, a bi-encoder, or a file."""
    queries = dict(split.queries)
    if what == BM25_NAME:
        return bm25_index(collection).search(queries, depth)
    if Path(what).is_file():
        return from_run(read_run(what), collection, split, depth, path=what)
    encoder, adapter = open_encoder(what, None, flag=key)
    with merged(adapter):
        return dense_run(encoder, collection, queries, depth, partial(on_progress, "encode documents"))


def _read_journal(path: Path) -> Scores:
    """Return the scores of a journal; a last line that was cut off by a crash is dropped."""
    if not path.exists():
        return {}
    scores: Scores = {}
    lines = path.read_text("utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            query, row = json.loads(line)
            scores |= {(query, document): float(score) for document, score in row.items()}
        except (ValueError, TypeError, AttributeError) as error:
            if number == len(lines):
                path.write_text("".join(lines[:-1]), "utf-8")
                break
            raise DataError(
                path, number, f"this is no row of scores ({error})", "give --overwrite to begin anew"
            ) from error
    return scores


def _best(row: Mapping[str, float], count: int) -> dict[str, float]:
    order = sorted(row.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return dict(order[:count])
