"""First-stage candidates for training: found by BM25 or a fusion, taken from a run, or given with the data."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lorank.data.candidates import from_run
from lorank.data.collection import Collection, Split
from lorank.data.trec import read_run
from lorank.errors import OnBad, UsageError
from lorank.progress import StageCallback
from lorank.ranking.losses.core.registry import needs_contrast
from lorank.ranking.scorers.bi_encoder import BiEncoder
from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.types import Run
from lorank.training.lists.retrieval import bm25_index, dense_run, fuse_runs, fusion_weights
from lorank.training.recipe import RecipeFile
from lorank.training.settings import Recipe
from lorank.tuned.first_stage import Component, FirstStage


@dataclass(frozen=True)
class Candidates:
    """Candidate lists with first-stage scores; ``has_first_stage`` says whether rankers stand on those.

    ``whole`` lists came with the data and are trained on as they are. ``test`` is there where the collection has a
    judged test split and the recipe asks for it to be judged at the end. ``untuned`` holds the base's own scores of
    the dev candidates before any training, where the caller has them.
    """

    train: Run
    dev: Run
    first_stage: FirstStage | None = None
    source: str = "given with the data"
    whole: bool = False
    test: Run | None = None
    untuned: Run | None = None

    @property
    def has_first_stage(self) -> bool:
        """True where a tuned ranker adds its score to the first stage's."""
        return self.first_stage is not None


def find_candidates(
    data: Collection, recipe: Recipe, ranker: TrainableRanker, free: Split | None, on_progress: StageCallback
) -> Candidates:
    """Return candidates for the training (and free) queries and for dev, as ``recipe.first_stage`` says.

    Args:
        data: The collection.
        recipe: The recipe, whose first stage is made or read.
        ranker: The ranker that is to be trained, whose base a fusion may use.
        free: The free training queries; None where there are none.
        on_progress: It receives the stage, the number of units done and their total.
    """
    source = recipe.first_stage.source
    if data.has_features:
        return _given(data, recipe)
    queries = data.train.queries | ({} if free is None else free.queries)
    if source in FINDERS:
        return FINDERS[source](data, queries, recipe, ranker, on_progress)
    return _from_file(data, queries, Path(source), recipe, ranker, on_progress)


def _given(data: Collection, recipe: Recipe) -> Candidates:
    source = recipe.first_stage.source
    if source not in ("auto", "none"):
        raise UsageError(
            f"--first-stage {source}: feature data carries no first-stage score; use --first-stage none "
            "and give the score as a feature"
        )
    train, dev = data.train.candidates, data.dev.candidates
    assert train is not None
    assert dev is not None
    return Candidates(train, dev, whole=True, test=_given_test(data, recipe))


def _given_or_bm25(
    data: Collection, queries: dict[str, str], recipe: Recipe, ranker: TrainableRanker, on_progress: StageCallback
) -> Candidates:
    """Take the lists of training rows as they are; find candidates for texts that come without, or without contrast."""
    return _given_lists(data, queries, recipe) or _bm25(data, queries, recipe, ranker, on_progress)


def _given_lists(data: Collection, queries: dict[str, str], recipe: Recipe) -> Candidates | None:
    """Return the lists that came with the data; None where some query has none, or the loss needs a contrast."""
    train, dev = data.train.candidates, data.dev.candidates
    if train is None or dev is None or len(queries) > len(data.train.queries):
        return None
    whole = holds_contrast(data.train, train) and holds_contrast(data.dev, dev)
    if not whole and needs_contrast(recipe.loss.name):
        return None
    return Candidates(train, dev, whole=True, test=_given_test(data, recipe))


def holds_contrast(split: Split, candidates: Run) -> bool:
    """Return whether any list of the split has a candidate that is relevant and one that is not.

    Rows that give positives only have none: their negatives must be found among the documents of the other rows.
    """
    return any(
        len({split.qrels.get(query, {}).get(document, 0) > 0 for document in row}) == 2
        for query, row in candidates.items()
    )


def _given_test(data: Collection, recipe: Recipe) -> Run | None:
    return data.test.candidates if test_queries(data, recipe) else None


def test_queries(data: Collection, recipe: Recipe) -> dict[str, str]:
    """Return the test queries that are judged at the end of a run; none where there is no judged test split."""
    judged = recipe.judge_test and "test" in data.splits and any(data.test.qrels.values())
    return data.test.queries if judged else {}


def _bm25(
    data: Collection, queries: dict[str, str], recipe: Recipe, ranker: TrainableRanker, on_progress: StageCallback
) -> Candidates:
    train, dev, test, statistics = _bm25_runs(data, queries, recipe, on_progress)
    return candidates_of_bm25(data, train, dev, test, statistics)


def _none(
    data: Collection, queries: dict[str, str], recipe: Recipe, ranker: TrainableRanker, on_progress: StageCallback
) -> Candidates:
    """Take the lists of training rows as they are, else BM25's best; no first-stage score is built on."""
    given = _given_lists(data, queries, recipe)
    if given is not None:
        return given
    train, dev, test, _ = _bm25_runs(data, queries, recipe, on_progress)
    return candidates_of_bm25(data, train, dev, test, None)


def candidates_of_bm25(
    data: Collection, train: Run, dev: Run, test: Run | None, statistics: BM25Statistics | None
) -> Candidates:
    """Return BM25's runs as candidates, and as the first stage where its ``statistics`` are given.

    Args:
        data: The collection with the dev split.
        train: The run of the training queries, and of free ones.
        dev: The run of the dev queries.
        test: The run of the test queries, None where test is not judged.
        statistics: The term statistics of the collection; None makes the runs candidates only.
    """
    if statistics is None:
        return Candidates(train, dev, None, "BM25, for candidates only", test=test)
    first_stage = FirstStage("bm25", (Component("bm25"),), statistics)
    return Candidates(train, dev, fit_scales_on_dev(first_stage, data, dev), "BM25", test=test)


def _fusion(
    data: Collection, queries: dict[str, str], recipe: Recipe, ranker: TrainableRanker, on_progress: StageCallback
) -> Candidates:
    """Fuse BM25 with the base as a bi-encoder, before it is adapted; weights chosen on dev."""
    encoder = ranker if isinstance(ranker, BiEncoder) else BiEncoder(ranker.base, dtype="auto")
    depth, both = recipe.lists.depth, queries | data.dev.queries | test_queries(data, recipe)
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

    Every query that is neither of dev nor of the test split is taken for a training query.

    Args:
        data: The collection with the dev split.
        encoder: The bi-encoder that made ``dense``.
        bm25: The BM25 run, which holds the dev queries.
        dense: The bi-encoder's run of the same queries.
        statistics: The term statistics of the collection.
        depth: The most candidates per query, 1 or more.

    Returns:
        The candidates, the weights [2] of BM25 and the bi-encoder, and the fused run of all queries.
    """
    weights = fusion_weights([{q: run[q] for q in data.dev.queries} for run in (bm25, dense)], data.dev)
    whole = fuse_runs([bm25, dense], weights, depth)
    dev = {q: whole[q] for q in data.dev.queries}
    test = {q: whole[q] for q in (data.test.queries if "test" in data.splits else {}) if q in whole}
    components = (Component("bm25", float(weights[0])), Component("bi-encoder", float(weights[1])))
    first_stage = FirstStage("fusion", components, statistics, str(encoder.base), reading=encoder.options())
    source = f"fusion of BM25 ({weights[0]:.2f}) and {encoder.base} ({weights[1]:.2f})"
    train = {q: row for q, row in whole.items() if q not in dev and q not in test}
    found = Candidates(train, dev, fit_scales_on_dev(first_stage, data, dev), source, test=test or None)
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
        raise UsageError(f"--first-stage {path}: no such run file; give a run, or one of {', '.join(FINDERS)}")
    on_bad = passing_over(recipe)
    run = read_run(path, on_bad=on_bad)
    missing = [q for q in (*data.train.queries, *data.dev.queries) if q not in run]
    if missing:
        raise UsageError(
            f"--first-stage {path}: the run lacks {len(missing)} training or dev queries, e.g. "
            f"{missing[0]!r}; write it over all splits with `lorank retrieve --split all`"
        )
    depth = recipe.lists.depth
    free = {q: text for q, text in queries.items() if q not in run}
    index = bm25_index(data)
    own = partial(from_run, collection=data, depth=depth, path=path, on_bad=on_bad)
    train = own({q: run[q] for q in data.train.queries}, split=data.train)
    train |= index.search(free, depth)
    dev = own({q: run[q] for q in data.dev.queries}, split=data.dev)
    first_stage = FirstStage(path.name, (Component("bm25"),), index.statistics)
    covered = {q: run[q] for q in test_queries(data, recipe) if q in run}
    test = own(covered, split=data.test) if covered else None
    return Candidates(train, dev, fit_scales_on_dev(first_stage, data, dev), f"run {path.name}", test=test)


def passing_over(recipe: Recipe) -> OnBad | None:
    """Return what leaves bad rows out where the recipe says so: the command has reported and kept them."""
    return (lambda error, row: None) if isinstance(recipe, RecipeFile) and recipe.skip_bad else None


def _bm25_runs(
    data: Collection, queries: dict[str, str], recipe: Recipe, on_progress: StageCallback
) -> tuple[Run, Run, Run | None, BM25Statistics]:
    on_progress("BM25", 0, 2)
    index = bm25_index(data)
    on_progress("BM25", 1, 2)
    train = index.search(queries, recipe.lists.depth)
    dev = index.search(data.dev.queries, recipe.lists.depth)
    test = test_queries(data, recipe)
    on_progress("BM25", 2, 2)
    return train, dev, index.search(test, recipe.lists.depth) if test else None, index.statistics


def fit_scales_on_dev(
    first_stage: FirstStage, data: Collection, dev: Run, queries: int = 50, depth: int = 20
) -> FirstStage:
    """Return the first stage with its scales taken from candidates of dev: evenly spread places of some queries.

    Args:
        first_stage: The first stage, with scales of any value.
        data: The collection of texts.
        dev: The candidates of the dev queries, best first.
        queries: About how many queries are read, 1 or more.
        depth: About how many candidates per query are read, 1 or more.

    Raises:
        UsageError: If no dev query has a candidate.
    """
    names = [q for q in dev if dev[q]]
    if not names:
        raise UsageError(
            f"{first_stage.source} finds no document for any of the {len(dev)} dev queries, so there is nothing to "
            "rerank: queries and documents share no word; use --first-stage fusion, or give a run that finds them"
        )
    names = names[:: max(1, len(names) // queries)]
    dev = {q: dict(list(dev[q].items())[:: max(1, len(dev[q]) // depth)]) for q in names}
    used = sorted({data.position[d] for q in names for d in dev[q]})
    place = {position: i for i, position in enumerate(used)}
    pairs = np.array([(i, place[data.position[d]]) for i, q in enumerate(names) for d in dev[q]], np.int64)
    return first_stage.fit_scales([data.dev.queries[q] for q in names], [data.documents[i] for i in used], pairs)
