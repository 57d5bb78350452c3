"""`lorank tune`: search over the keys of a recipe, and write the best one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorank.cli.options import setting_value
from lorank.cli.progress import console, progress_bars
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.compare.tuning import TuningResult

SHOWN = 10
"""How many configurations the table has."""


def tune(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="A recipe, TOML, or the run.json of a run; or a pipeline: a TOML file with [retrieve]."),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="A key with a range, training.lr=1e-5..1e-2:log, or a choice, adapter.rank=4,8,16; repeat it."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="hyperband; halving: successive halving, its first bracket alone; random: every configuration at the "
            "full budget. Of a pipeline also two-level and grid. [default: hyperband, of a pipeline two-level]"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the longest run. [default: training.steps of the recipe]")
    ] = None,
    least: Annotated[
        int | None, typer.Option(min=1, help="Steps of the shortest run. [default: a 27th of --steps]")
    ] = None,
    eta: Annotated[float, typer.Option(help="Of how many configurations one goes on to eta times the steps.")] = 3.0,
    configurations: Annotated[
        int | None, typer.Option(min=1, help="How many are drawn, of random and halving. [default: 16 of random]")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The collection, in place of the recipe's.")] = None,
    base: Annotated[str | None, typer.Option(help="The base model, in place of the recipe's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting of the recipe, section.key=value; repeat it.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=3, help="Divide the judged queries, for collections without a training split.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="With --folds: the judged split that is divided [default: test]; of a pipeline: the one that is tuned "
            "on. [default: dev]"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the ledger and of best.toml.")] = Path("runs/tune"),
    workers: Annotated[int, typer.Option(min=1, help="Trials that run at once.")] = 1,
    engine: Annotated[str, typer.Option(help="Who runs the trials: local, or ray for many machines.")] = "local",
    address: Annotated[str | None, typer.Option(help="With ray: the cluster's address.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the configurations.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, in place of going on.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every configuration at every budget as JSON.")] = False,
) -> None:
    """Search over the keys of a recipe: dev chooses, and the best recipe is written as best.toml.

    Configurations are drawn at random; Hyperband trains many for few steps and the best for more. Test is not used.
    The same command goes on where an earlier one was stopped.

    Examples:

        lorank tune recipe.toml --over training.lr=1e-5..1e-2:log --over adapter.rank=4,8,16

        lorank tune --data pydocs --base minilm --over training.lr=1e-4..1e-2:log --method random
        --configurations 8 --steps 30

        lorank tune recipe.toml --over loss.name=softmax,lambda --method halving --steps 81 --least 3 --workers 2

        lorank tune pipeline.toml --over top=20,0,50 --set search.price=0.01 --out runs/pipeline
    """
    from lorank.cli.tune_pipeline import is_pipeline, tune_file

    if recipe is not None and is_pipeline(recipe):
        usual: dict[str, tuple[object, object]] = {
            "--steps": (steps, None),
            "--least": (least, None),
            "--eta": (eta, 3.0),
            "--configurations": (configurations, None),
            "--base": (base, None),
            "--folds": (folds, None),
            "--workers": (workers, 1),
            "--engine": (engine, "local"),
            "--address": (address, None),
        }
        stated = [flag for flag, (value, default) in usual.items() if value != default]
        if stated:
            raise UsageError(f"{stated[0]} belongs to a recipe, and {recipe} is a pipeline; leave it out")
        tune_file(recipe, over or [], method, data, settings or [], split or "dev", out, seed, overwrite, as_json)
        return
    from lorank.compare.tuning import make_search
    from lorank.compare.tuning import tune as run_search
    from lorank.training.recipe import RecipeFile, override, read_recipe

    plan = RecipeFile() if recipe is None else read_recipe(recipe)
    given = {key: value for key, value in (("data", data), ("base", base)) if value is not None}
    plan = override(override(plan, given, "the command"), dict(setting_value(text) for text in settings or []))
    search = make_search(
        plan,
        over or [],
        method=method or "hyperband",
        steps=steps,
        least=least,
        eta=eta,
        configurations=configurations,
        seed=seed,
        folds=folds,
        split=split or "test",
    )
    try:
        with progress_bars() as on_progress:
            found = run_search(
                search,
                out,
                workers=workers,
                engine=engine,
                address=address,
                overwrite=overwrite,
                on_progress=lambda what, done, total: on_progress(what, done, total) if what == "trials" else None,
            )
    except KeyboardInterrupt as interrupted:
        console.print("interrupted; what has ended is kept, and the same command goes on from there", soft_wrap=True)
        raise typer.Exit(130) from interrupted
    print(json.dumps(found.records(), indent=1, ensure_ascii=False) if as_json else _table(found))
    if found.recipe is None:
        why = next((each.failed for each in found.tried if each.failed), "none has ended at the full budget")
        console.print(f"no configuration has a result: {why}", soft_wrap=True, markup=False)
        raise typer.Exit(1)
    said = f"{found.steps} steps in all. Train it: lorank train {found.recipe} --out runs/tuned"
    console.print(said, soft_wrap=True, markup=False)


def _table(found: "TuningResult") -> str:
    """Return the best configurations as Markdown."""
    records = found.records()[:SHOWN]
    if not records:
        return "no configuration was tried"
    keys = [key for key in records[0] if key not in ("bracket", "failed")]
    lines = ["| " + " | ".join(keys) + " |", "|" + "|".join("---" for _ in keys) + "|"]
    for record in records:
        lines.append("| " + " | ".join(_cell(record[key], key) for key in keys) + " |")
    return "\n".join(lines)


def _cell(value: object, key: str) -> str:
    if value is None:
        return "failed" if key == "dev" else ""
    return f"{value:.4f}" if key == "dev" else f"{value:g}" if isinstance(value, float) else str(value)
