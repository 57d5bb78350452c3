"""`lorank tune PIPELINE.toml`: the knobs of a pipeline of retrieval, tuned on judged queries."""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorank.cli.options import setting_value
from lorank.cli.progress import console, progress_bars, stage
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.compare.pipelines import Pipeline, TunedPipeline

SHOWN = 10
"""How many settings the table has."""


def is_pipeline(path: Path) -> bool:
    """Return whether a file is TOML with a section ``retrieve``."""
    if path.suffix != ".toml":
        return False
    try:
        return "retrieve" in tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False


def tune_file(
    path: Path,
    over: Sequence[str],
    method: str | None,
    data: str | None,
    settings: Sequence[str],
    split: str,
    out: Path,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Tune the pipeline of a file, print the settings that were tried, and write the best as best.toml."""
    import lorank
    from lorank import index
    from lorank.compare.pipelines import open_journal, open_stages, tune_pipeline, write_pipeline

    pipeline = _changed(path, over, method, settings, data, seed)
    if pipeline.data is None:
        raise UsageError(f"{path} names no collection; write data = ..., or give --data")
    index.check_data(pipeline.data, "--data")
    with stage(f"read {pipeline.data}"):
        collection = lorank.load(pipeline.data)
    judged = collection.split(split)
    journal = open_journal(out, pipeline.ranker, collection, judged.queries, overwrite=overwrite)
    with progress_bars() as on_progress:
        stages = open_stages(pipeline, collection, judged, journal=journal, on_progress=on_progress)
        found = tune_pipeline(pipeline, stages, judged.qrels, partial(on_progress, "evaluate queries"))
    write_pipeline(pipeline.fixed(found.setting), out / "best.toml")
    print(_as_json(found) if as_json else _table(found))
    measure = pipeline.search.measure
    console.print(
        f"{measure} on {split}: {found.initial:.4f} where it began, {found.value:.4f} at the best setting; "
        f"{found.evaluations} evaluations of a query of the grid's {found.grid}, {found.scored} documents scored. "
        f"Use it: lorank retrieve --data {pipeline.data} --pipeline {out / 'best.toml'} --out best.run",
        soft_wrap=True,
        markup=False,
    )


def _changed(
    path: Path, over: Sequence[str], method: str | None, settings: Sequence[str], data: str | None, seed: int
) -> "Pipeline":
    """Return the pipeline of a file with what the command changes."""
    from lorank.compare.pipelines import read_pipeline
    from lorank.compare.pipelines.pipeline_file import SearchPlan, check_knobs
    from lorank.compare.search_space import read_dimension

    pipeline = read_pipeline(path)
    given = dict(pipeline.given)
    for text in over:
        dimension = read_dimension(text)
        if not dimension.values:
            raise UsageError(f"--over {text}: the knobs of a pipeline are choices; write {dimension.key}=20,0,50")
        given[dimension.key] = list(dimension.values)
    changes: dict[str, Any] = {} if method is None else {"method": method}
    changes |= {"seed": seed} if seed else {}
    known = [each.name for each in fields(SearchPlan)]
    for key, value in (setting_value(text) for text in settings):
        section, _, name = key.partition(".")
        if section != "search" or name not in known:
            raise UsageError(f"--set {key}: of a pipeline, set {', '.join(f'search.{each}' for each in known)}")
        changes[name] = value
    changed = replace(pipeline, given=given, search=replace(pipeline.search, **changes), data=data or pipeline.data)
    check_knobs(changed)
    return changed


def _as_json(found: "TunedPipeline") -> str:
    tried = [{"setting": setting, "utility": value, "queries": queries} for setting, value, queries in found.tried]
    facts = {
        "setting": found.setting,
        "value": found.value,
        "initial": found.initial,
        "evaluations": found.evaluations,
        "grid": found.grid,
        "scored": found.scored,
        "tried": tried,
    }
    return json.dumps(facts, indent=1, ensure_ascii=False)


def _table(found: "TunedPipeline") -> str:
    """Return the settings that were tried on most queries as Markdown, the best of them first."""
    keys = list(found.setting)
    lines = ["| " + " | ".join([*keys, "queries", "utility"]) + " |", "|" + "---|" * len(keys) + "--:|--:|"]
    for setting, value, queries in found.tried[:SHOWN]:
        cells = [*(str(setting[key]) for key in keys), str(queries), f"{value:.4f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
