"""A stream of collections: each is learned from the weights of the one before, and every test set is judged each time.

``out/stage-K`` is the run folder of stage K. ``out/continual.json`` gets a row after each stage, in one step, and a
stage with a row is done: a stream that was killed does not train it again, and takes the stage under way up from its
newest checkpoint.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lorank.continual.core.matrix import QualityMatrix
from lorank.continual.core.method import ContinualMethod, make_method
from lorank.continual.core.stream import Stream
from lorank.data.collection import Collection
from lorank.data.folds import cross_validation, hold_out_dev
from lorank.errors import DataError, UsageError
from lorank.files import write_json
from lorank.progress import StageCallback
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.types import Run
from lorank.training.fitting import fit_run
from lorank.training.lists.retrieval import bm25_index
from lorank.training.loop.loop import MAIN_MEASURE
from lorank.training.open_recipe import reading_of_titles
from lorank.training.recipe import RecipeFile
from lorank.training.settings import as_plain

RECORD = "continual.json"
"""What a stream's folder calls its record."""

FOLDS = 5
"""How many parts the judged queries of a collection without a training split are divided into."""


@dataclass(frozen=True)
class Streamed:
    """A stream that ended: its matrix, the record of each stage, and the folder of the last ranker."""

    matrix: QualityMatrix
    stages: list[dict[str, Any]]
    folder: Path


def train_stream(
    recipe: RecipeFile,
    collections: Sequence[Collection],
    out: str | Path,
    *,
    command: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: StageCallback = lambda what, done, total: None,
) -> Streamed:
    """Train a ranker on the collections one after the other, by the method that ``recipe.continual`` names.

    Args:
        recipe: The recipe of every stage; each stage keeps its trained weights, whatever dev says.
        collections: Two or more collections of texts. One without a training split is divided.
        out: The folder of the stream.
        command: The command line, for the records.
        resume: Whether the stream in ``out`` is taken up; stages that are done are not trained again.
        overwrite: Whether the stream in ``out`` is replaced.
        on_progress: It receives stages.

    Returns:
        The matrix of all test sets and what is known of each stage.

    Raises:
        UsageError: For fewer than two collections, for feature rows, and where ``out`` holds a stream already.
    """
    out = Path(out)
    method = make_method(recipe.continual.name, recipe.continual.options)
    collections = [divided(each, recipe.seed) for each in collections]
    recipe = method.settle(_settled(recipe, collections))
    stream = Stream(recipe, collections, out)
    done = {**_claim(stream, resume, overwrite), "command": command}
    candidates = [_test_candidates(each, recipe.lists.depth, on_progress) for each in collections]
    if not done["quality"]:
        done["quality"].append(_judge(method, stream, 0, candidates, on_progress))
        _write(stream, done)
    for number in range(len(done["stages"]) + 1, len(collections) + 1):
        began = time.monotonic()
        extra = _train(method, stream, number, resume, command, on_progress)
        trained = time.monotonic()
        done["quality"].append(_judge(method, stream, number, candidates, on_progress))
        done["stages"].append(
            {
                "collection": collections[number - 1].name,
                "folder": stream.folder(number).name,
                "train_seconds": trained - began,
                "judge_seconds": time.monotonic() - trained,
                **extra,
            }
        )
        _write(stream, done)
    return Streamed(_matrix(stream, done), done["stages"], stream.folder(len(collections)) / "model")


def divided(data: Collection, seed: int) -> Collection:
    """Return a collection with splits to train, to choose and to test; the only judged split is dealt out in fifths.

    Queries that share relevant documents stay in one part where they can.
    """
    if data.has_features:
        raise UsageError(f"{data.name}: a stream learns collections of texts, and these are feature rows")
    if "train" not in data.splits:
        split = next(iter(data.splits)) if len(data.splits) == 1 else "test"
        try:
            return replace(cross_validation(data, FOLDS, seed, "target", split)[0], name=data.name)
        except UsageError:
            return replace(cross_validation(data, FOLDS, seed, "query", split)[0], name=data.name)
    if "test" not in data.splits or not any(data.test.qrels.values()):
        raise UsageError(f"{data.name} has no judged test split, which the matrix of a stream needs")
    return data if "dev" in data.splits else hold_out_dev(data, 0.15, seed)


def _settled(recipe: RecipeFile, collections: Sequence[Collection]) -> RecipeFile:
    """Return the recipe of every stage: trained weights stay, nothing is judged twice, and all is read in one way."""
    if len(collections) < 2:
        raise UsageError("a stream has two collections or more; give --then for each that follows --data")
    reading = reading_of_titles(recipe, collections[0])
    reading = replace(reading, long=reading.long or "truncate")
    return replace(recipe, keep="tuned", judge_test=False, reading=reading)


def _stage_recipe(recipe: RecipeFile, number: int, stages: int) -> RecipeFile:
    """Return the recipe of one stage alone, which its run.json states: its own collection, and none behind it."""
    sources = [recipe.data, *recipe.then]
    return replace(recipe, data=sources[number - 1] if len(sources) == stages else None, then=[])


def _claim(stream: Stream, resume: bool, overwrite: bool) -> dict[str, Any]:
    """Return what is done of the stream, with its folder there."""
    record, out = stream.out / RECORD, stream.out
    own = _head(stream)
    if record.exists() and not (resume or overwrite):
        raise UsageError(
            f"{out} already holds a stream; take it up with --resume, replace it with --overwrite, or choose another "
            "--out"
        )
    if overwrite and not resume:
        record.unlink(missing_ok=True)
        for folder in out.glob("stage-*"):
            shutil.rmtree(folder)
    out.mkdir(parents=True, exist_ok=True)
    if not record.exists():
        return {**own, "quality": [], "stages": []}
    try:
        known: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        same = {key: known[key] for key in own}
        stages, quality = known["stages"], known["quality"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            record, None, f"not the record of a stream ({error!r})", "start anew with --overwrite"
        ) from error
    if same != own:
        differs = next(key for key in own if same[key] != own[key])
        raise UsageError(
            f"{out}: the stream was begun with another {differs}; resume with the same, or start anew with --overwrite"
        )
    return {**own, "quality": quality[: len(stages) + 1], "stages": stages}


def _head(stream: Stream) -> dict[str, Any]:
    """Return what a stream is recorded under, as JSON data that was read would be."""
    recipe = replace(stream.recipe, data=None, out=None, then=[])
    settings = json.loads(json.dumps(as_plain(recipe)))
    tests = [each.name for each in stream.collections]
    return {"method": recipe.continual.name, "measure": MAIN_MEASURE, "tests": tests, "settings": settings}


def _matrix(stream: Stream, done: dict[str, Any]) -> QualityMatrix:
    names = tuple(each.name for each in stream.collections)
    return QualityMatrix(names, tuple(tuple(row) for row in done["quality"]), MAIN_MEASURE)


def _write(stream: Stream, done: dict[str, Any]) -> None:
    write_json(stream.out / RECORD, {**done, **_matrix(stream, done).to_dict()}, indent=1)


def _train(
    method: ContinualMethod, stream: Stream, number: int, resume: bool, command: str | None, on_progress: StageCallback
) -> dict[str, Any]:
    """Train stage ``number`` and return what the method and the run say of it."""
    folder, data = stream.folder(number), stream.collections[number - 1]
    report = partial(_report, on_progress, f"stage {number} of {len(stream.collections)}, {data.name}: ")
    taken_up = resume and folder.exists()
    fitted = fit_run(
        method.open(stream, number),
        data,
        method.recipe_of(_stage_recipe(stream.recipe, number, len(stream.collections)), number),
        folder,
        resume=taken_up,
        overwrite=not taken_up,
        command=command,
        on_progress=report,
        prepare=partial(method.prepare, stream, number),
    )
    extra = method.finish(stream, number, fitted, folder)
    stream.forget()
    outcome = fitted.outcome
    return {
        "steps": None if outcome is None else outcome.steps,
        "trained_parameters": fitted.trained_parameters,
        "bytes": sum(path.stat().st_size for path in (folder / "model").rglob("*") if path.is_file()),
        **extra,
    }


def _judge(
    method: ContinualMethod, stream: Stream, number: int, candidates: Sequence[Run], on_progress: StageCallback
) -> list[float]:
    """Return the quality of every test set after stage ``number``."""
    row = []
    for place, data in enumerate(stream.collections):
        report = partial(on_progress, f"judge {data.name}")
        run = method.rank(stream, number, place, candidates[place], report)
        row.append(mean_of(run, {query: data.test.qrels[query] for query in candidates[place]}, MAIN_MEASURE))
    return row


def _test_candidates(data: Collection, depth: int, on_progress: StageCallback) -> Run:
    """Return the candidates that the test set brings, or those that BM25 finds."""
    judged = {q: text for q, text in data.test.queries.items() if data.test.qrels.get(q)}
    if data.test.candidates is not None:
        found = data.test.candidates
    else:
        on_progress(f"candidates of {data.name}", 0, 1)
        found = bm25_index(data).search(judged, depth)
        on_progress(f"candidates of {data.name}", 1, 1)
    return {query: found[query] for query in judged if found.get(query)}


def _report(on_progress: StageCallback, prefix: str, what: str, done: int, total: int) -> None:
    on_progress(prefix + what, done, total)
