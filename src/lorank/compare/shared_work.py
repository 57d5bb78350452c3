"""What trials share is done once: collections, folds, BM25's run of all queries, and the untuned base's scores.

A process keeps what it has read; runs are kept in the experiment's folder too, so that other workers and a run that is
taken up find them. Of two workers that need the same thing at once one makes it, and the other waits.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lorank.compare.run_candidates import candidates_of_run
from lorank.compare.trial import Trial, canonical_json
from lorank.data.collection import Collection, Split
from lorank.data.folds import hold_out_dev
from lorank.data.free_queries import free_queries
from lorank.data.load import load
from lorank.data.numbers import Negative
from lorank.files import write_text
from lorank.progress import StageCallback
from lorank.ranking.metrics.groups import group_tied_queries
from lorank.ranking.scorers.bm25 import BM25
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.types import Run
from lorank.training.cross_validation import divide
from lorank.training.lists.candidates import FINDERS, Candidates, candidates_of_bm25, find_candidates
from lorank.training.lists.retrieval import bm25_index
from lorank.training.plan import free_split
from lorank.training.recipe import RecipeFile
from lorank.training.settings import as_plain
from lorank.tuned.ranker import score_run

SEED = 0
"""The seed of folds and of a dev split that is held out: the same for all rows, so that they are compared in pairs."""


class SharedWork:
    """What the trials of one experiment share, in one process.

    Args:
        folder: The experiment's folder.
        on_progress: It receives stages.
    """

    def __init__(self, folder: Path, on_progress: StageCallback = lambda what, done, total: None) -> None:
        self.folder, self.on_progress = folder / "shared", on_progress
        self.collection = cache(self._collection)
        self.parts = cache(self._parts)
        self._kept: dict[str, Any] = {}

    def load(self, recipe: RecipeFile) -> Collection:
        """Return the collection of a recipe."""
        return self.collection(recipe.data, recipe.negative, recipe.skip_bad, recipe.language)

    def part(self, trial: Trial) -> Collection:
        """Return the collection with the train, dev and test splits of a trial; without folds its own."""
        recipe = trial.recipe
        folds = trial.folds if trial.fold else None
        parts = self.parts(recipe.data, recipe.negative, recipe.skip_bad, recipe.language, trial.split, folds)
        return parts[(trial.fold or 1) - 1]

    def fingerprint(self, recipe: RecipeFile) -> str:
        """Return what changes whenever the documents, queries or judgments of a recipe's collection do."""
        return fingerprint_of(self.load(recipe))

    def groups(self, recipe: RecipeFile, split: str) -> dict[str, str]:
        """Return the group of each judged query."""
        return group_tied_queries(self.load(recipe).split(split).qrels)

    def candidates(self, trial: Trial, ranker: Any) -> Candidates:
        """Return the first-stage candidates of a trial, those of test included.

        Args:
            trial: The trial.
            ranker: The untuned ranker, whose base a fusion uses.
        """
        data, recipe = self.part(trial), replace(trial.recipe, judge_test=True)
        source = recipe.first_stage.source
        given = any(split.candidates is not None for split in data.splits.values())
        free = [recipe.lists.free_queries, recipe.lists.free_documents]
        key = self._key(trial, first_stage=source, depth=recipe.lists.depth, free=free, loss=recipe.loss.name)
        if source == "fusion":
            key += canonical_json([recipe.base, as_plain(recipe.reading)])
        if key not in self._kept:
            if data.has_features or source not in ("auto", "bm25", "none") or (source == "auto" and given):
                found = (
                    find_candidates(data, recipe, ranker, free_split(data, recipe), self.on_progress)
                    if data.has_features or "train" in data.splits or source in FINDERS
                    else candidates_of_run(data, source, recipe.lists.depth)
                )
                self._kept[key] = found
            else:
                self._kept[key] = self._bm25_candidates(trial, data)
        kept: Candidates = self._kept[key]
        return kept

    def untuned(self, trial: Trial, ranker: Ranker, candidates: Candidates) -> Run:
        """Return the untuned ranker's own scores of the dev and test candidates.

        Where the candidates are BM25's, those of all queries are scored at once, for every fold.

        Args:
            trial: The trial, whose base, kind and reading say what ranker it is.
            ranker: That ranker, before training.
            candidates: The trial's candidates.
        """
        recipe, of_bm25 = trial.recipe, candidates.source.startswith("BM25")
        named = [recipe.base, recipe.kind, recipe.view, recipe.label, as_plain(recipe.reading)]
        named.append(None if trial.external is None else trial.external.ranker)
        whole = of_bm25 and trial.folds is not None
        place = [self._data_key(recipe), trial.split, recipe.lists.depth, trial.dev_only]
        place.append(None if whole else [trial.folds, trial.fold])
        key = self._key(None, untuned=named, place=place, source="BM25" if of_bm25 else candidates.source)

        def score() -> Run:
            part = self.part(trial)
            splits = [self.load(recipe).split(trial.split)] if whole else _judged(part, trial)
            queries = {query: text for split in splits for query, text in split.queries.items()}
            found = self._bm25(trial) if of_bm25 else {**candidates.dev, **(candidates.test or {})}
            return score_run(ranker, part, queries, {query: found[query] for query in queries if query in found})

        return self._run(key, score)

    def _collection(self, data: str, negative: Negative, skip_bad: bool, language: str) -> Collection:
        return load(data, negative=negative, skip_bad=skip_bad, language=language)

    def _parts(
        self, data: str, negative: str, skip_bad: bool, language: str, split: str, folds: int | None
    ) -> list[Collection]:
        whole = self.collection(data, negative, skip_bad, language)
        if folds is not None:
            return divide(whole, folds, SEED, split).parts
        splits = {name: each for name, each in whole.splits.items() if name in ("train", "dev") and name != split}
        if split in whole.splits:
            splits["test"] = replace(whole.split(split), name="test")
        part = replace(whole, splits=splits)
        return [hold_out_dev(part, 0.15, SEED) if "train" in splits and "dev" not in splits else part]

    def _bm25_candidates(self, trial: Trial, data: Collection) -> Candidates:
        run, recipe = self._bm25(trial), trial.recipe
        free = free_split(data, recipe)
        train = data.splits["train"].queries if "train" in data.splits else {}
        train = train if free is None else train | free.queries

        def of(queries: dict[str, str]) -> Run:
            return {query: run[query] for query in queries}

        dev = of(data.dev.queries) if "dev" in data.splits else {}
        statistics = None if recipe.first_stage.source == "none" or not dev else self._index(trial).statistics
        test = of(data.test.queries) if "test" in data.splits else None
        return candidates_of_bm25(data, of(train), dev, test, statistics)

    def _bm25(self, trial: Trial) -> Run:
        """Return BM25's run of all queries of the collection, free ones included."""
        recipe = trial.recipe
        depth, source = recipe.lists.depth, recipe.lists.free_queries

        def search() -> Run:
            collection = self.load(recipe)
            queries = {q: text for split in collection.splits.values() for q, text in split.queries.items()}
            if source != "none":
                queries |= free_queries(collection, source).queries
            return self._index(trial).search(queries, depth)

        return self._run(self._key(None, bm25=self._data_key(recipe), depth=depth, free=source), search)

    def _index(self, trial: Trial) -> BM25:
        recipe = trial.recipe
        key = self._key(None, index=self._data_key(recipe))
        if key not in self._kept:
            folder = self.folder / f"bm25-{_digest(key)}"
            with _alone(folder.with_suffix(".lock")):
                self._kept[key] = bm25_index(self.load(recipe), folder)
        index: BM25 = self._kept[key]
        return index

    def _data_key(self, recipe: RecipeFile) -> list[Any]:
        return [recipe.data, recipe.negative, recipe.skip_bad, recipe.language]

    def _key(self, trial: Trial | None, **named: Any) -> str:
        place = [] if trial is None else [self._data_key(trial.recipe), trial.split, trial.folds, trial.fold]
        return canonical_json([place, named])

    def _run(self, key: str, make: Callable[[], Run]) -> Run:
        """Return a run from memory, from the folder, or made now and kept in both."""
        if key not in self._kept:
            path = self.folder / f"{_digest(key)}.json"
            with _alone(path.with_suffix(".lock")):
                if path.is_file():
                    self._kept[key] = json.loads(path.read_text(encoding="utf-8"))
                else:
                    self._kept[key] = make()
                    write_text(path, json.dumps(self._kept[key], ensure_ascii=False))
        run: Run = self._kept[key]
        return run


def fingerprint_of(collection: Collection) -> str:
    """Return a hash of the documents, queries and judgments of a collection."""
    digest = hashlib.sha256()
    digest.update("\0".join(collection.document_ids).encode("utf-8", "surrogatepass"))
    documents = collection.documents
    if isinstance(documents, np.ndarray):
        digest.update(np.ascontiguousarray(documents).tobytes())
    else:
        digest.update("\0".join(map(str, documents)).encode("utf-8", "surrogatepass"))
    for name, split in collection.splits.items():
        digest.update(json.dumps([name, split.queries, split.qrels, split.candidates]).encode())
    return digest.hexdigest()[:24]


def _judged(part: Collection, trial: Trial) -> list[Split]:
    names = ("dev",) if trial.dev_only else ("dev", "test")
    return [part.splits[name] for name in names if name in part.splits]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Within it no other process of this machine holds the lock of ``path``; a process that dies gives it back."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
