"""First-stage candidates for training: found by BM25 or a fusion, taken from a run, or given with the data."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lorank.data.candidates import from_run
from lorank.data.collection import Collection, Split
from lorank.data.trec import read_run
from lorank.errors import UsageError
from lorank.progress import StageCallback
from lorank.ranking.scorers.bi_encoder import BiEncoder
from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.types import Run
from lorank.training.lists.retrieval import bm25_index, dense_run, fused, fusion_weights
from lorank.training.settings import Recipe
from lorank.tuned.first_stage import Component, FirstStage


@dataclass(frozen=True)
class Candidates:
    """Candidate lists with first-stage scores; ``offset`` says whether rankers stand on those scores.

    ``whole`` lists came with the data and are trained on as they are.
    """

    train: Run
    dev: Run
    first_stage: FirstStage | None = None
    source: str = "given with the data"
    whole: bool = False

    @property
    def offset(self) -> bool:
        """True where a tuned ranker adds its score to the first stage's."""
        return self.first_stage is not None


def find_candidates(
    data: Collection, recipe: Recipe, ranker: TrainableRanker, free: Split | None, on_progress: StageCallback
) -> Candidates:
    """Return candidates for the training (and free) queries and for dev, as ``recipe.offset`` says."""
    source = recipe.offset.source
    if data.has_features:
        return _given(data, source)
    queries = data.train.queries | ({} if free is None else free.queries)
    if source in FINDERS:
        return FINDERS[source](data, queries, recipe, ranker, on_progress)
    return _from_file(data, queries, Path(source), recipe, ranker, on_progress)


def _given(data: Collection, source: str) -> Candidates:
    if source not in ("auto", "none"):
        raise UsageError(
            f"--offset {source}: feature data carries no first-stage score; use --offset none "
            "and give the score as a feature"
        )
    train, dev = data.train.candidates, data.dev.candidates
    assert train is not None
    assert dev is not None
    return Candidates(train, dev, whole=True)


def _given_or_bm25(
    data: Collection, queries: dict[str, str], recipe: Recipe, ranker: TrainableRanker, on_progress: StageCallback
) -> Candidates:
    """Take the lists of training rows as they are; find candidates for texts that come without."""
    train, dev = data.train.candidates, data.dev.candidates
    if train is None or dev is None or len(queries) > len(data.train.queries):
        return _bm25(data, queries, recipe, ranker, on_progress)
    return Candidates(train, dev, whole=True)


def _bm25(
    data: Collection, queries: dict[str, str], recipe: Recipe, ranker: TrainableRanker, on_progress: StageCallback
) -> Candidates:
    train, dev, statistics = _bm25_runs(data, queries, recipe, on_progress)
    first_stage = FirstStage("bm25", (Component("bm25"),), statistics)
    return Candidates(train, dev, fitted_on_dev(first_stage, data, dev), "BM25")


def _none(
    data: Collection, queries: dict[str, str], recipe: Recipe, ranker: TrainableRanker, on_progress: StageCallback
) -> Candidates:
    train, dev, _ = _bm25_runs(data, queries, recipe, on_progress)
    return Candidates(train, dev, None, "BM25, for candidates only")


def _fusion(
    data: Collection, queries: dict[str, str], recipe: Recipe, ranker: TrainableRanker, on_progress: StageCallback
) -> Candidates:
    """Fuse BM25 with the base as a bi-encoder, before it is adapted; weights chosen on dev."""
    encoder = ranker if isinstance(ranker, BiEncoder) else BiEncoder(ranker.base, dtype="auto")
    depth, both = recipe.lists.depth, queries | data.dev.queries
    on_progress("BM25", 0, 1)
    index = bm25_index(data)
    bm25 = index.search(both, depth)
    on_progress("BM25", 1, 1)
    dense = dense_run(encoder, data, both, depth, partial(on_progress, "encode the documents"))
    return fusion_candidates(data, encoder, bm25, dense, index.statistics, depth)[0]


def fusion_candidates(
    data: Collection, encoder: BiEncoder, bm25: Run, dense: Run, statistics: BM25Statistics, depth: int
) -> tuple[Candidates, np.ndarray, Run]:
    """Return the candidates of the fusion whose weights serve dev best, the weights, and the whole fused run.

    Both runs hold the dev queries; every other query is taken for a training query.
    """
    weights = fusion_weights([{q: run[q] for q in data.dev.queries} for run in (bm25, dense)], data.dev)
    whole = fused([bm25, dense], weights, depth)
    dev = {q: whole[q] for q in data.dev.queries}
    components = (Component("bm25", float(weights[0])), Component("bi-encoder", float(weights[1])))
    first_stage = FirstStage("fusion", components, statistics, str(encoder.base))
    source = f"fusion of BM25 ({weights[0]:.2f}) and {encoder.base} ({weights[1]:.2f})"
    found = Candidates(
        {q: row for q, row in whole.items() if q not in dev}, dev, fitted_on_dev(first_stage, data, dev), source
    )
    return found, weights, whole


FINDERS = {"auto": _given_or_bm25, "bm25": _bm25, "none": _none, "fusion": _fusion}


def _from_file(
    data: Collection,
    queries: dict[str, str],
    path: Path,
    recipe: Recipe,
    ranker: TrainableRanker,
    on_progress: StageCallback,
) -> Candidates:
    if not path.is_file():
        raise UsageError(f"--offset {path}: no such run file; give a run, or one of {', '.join(FINDERS)}")
    run = read_run(path)
    missing = [q for q in (*data.train.queries, *data.dev.queries) if q not in run]
    if missing:
        raise UsageError(
            f"--offset {path}: the run lacks {len(missing)} training or dev queries, e.g. "
            f"{missing[0]!r}; write it over all splits with `lorank retrieve --split all`"
        )
    depth = recipe.lists.depth
    free = {q: text for q, text in queries.items() if q not in run}
    index = bm25_index(data)
    train = from_run({q: run[q] for q in data.train.queries}, data, data.train, depth)
    train |= index.search(free, depth)
    dev = from_run({q: run[q] for q in data.dev.queries}, data, data.dev, depth)
    first_stage = FirstStage(path.name, (Component("bm25"),), index.statistics)
    return Candidates(train, dev, fitted_on_dev(first_stage, data, dev), f"run {path.name}")


def _bm25_runs(data: Collection, queries: dict[str, str], recipe: Recipe, on_progress: StageCallback) -> tuple:
    on_progress("BM25", 0, 2)
    index = bm25_index(data)
    on_progress("BM25", 1, 2)
    train = index.search(queries, recipe.lists.depth)
    dev = index.search(data.dev.queries, recipe.lists.depth)
    on_progress("BM25", 2, 2)
    return train, dev, index.statistics


def fitted_on_dev(
    first_stage: FirstStage, data: Collection, dev: Run, queries: int = 50, depth: int = 20
) -> FirstStage:
    """Return the first stage with its scales taken from candidates of dev: evenly spread places of some queries."""
    names = [q for q in dev if dev[q]]
    names = names[:: max(1, len(names) // queries)]
    dev = {q: dict(list(dev[q].items())[:: max(1, len(dev[q]) // depth)]) for q in names}
    used = sorted({data.position[d] for q in names for d in dev[q]})
    place = {position: i for i, position in enumerate(used)}
    pairs = np.array([(i, place[data.position[d]]) for i, q in enumerate(names) for d in dev[q]], np.int64)
    return first_stage.fitted([data.dev.queries[q] for q in names], [data.documents[i] for i in used], pairs)
