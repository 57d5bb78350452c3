"""`lorank reproduce`: run a named experiment again, and say whether its recorded figures agree."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lorank.cli.options import key_value
from lorank.cli.progress import console


def reproduce(
    name: Annotated[str | None, typer.Argument(help="The experiment; without one the names are listed.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH of data that the experiment needs and lorank does not ship; repeat it."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run. [default: runs/ and the name]")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Trials that run at once.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, in place of going on.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run a named experiment again and compare it with the figures that were recorded.

    A figure is a mean, or a difference from the baseline; it agrees where the new one lies in the recorded 95%
    interval. Exits with 1 where one does not.

    Examples:

        lorank reproduce

        lorank reproduce pydocs

        lorank reproduce pydocs --out runs/again --json

        lorank reproduce strategies --data dl19=beir/dl19 --data dl19_run=runs/bm25.trec
    """
    from lorank.cli.live_table import live_table
    from lorank.compare.experiment_file import read_experiment
    from lorank.compare.reproduction import compare_with_recorded, read_named, read_recorded
    from lorank.compare.running import run_experiment

    if name is None:
        _print_names()
        return
    recorded = read_recorded(name)
    content = read_named(name, {given: str(path) for given, path in (key_value(text, "--data") for text in data or [])})
    with live_table(read_experiment(content).measures[0]) as (on_state, on_progress):
        found = run_experiment(
            content,
            Path("runs") / name if out is None else out,
            workers=workers,
            overwrite=overwrite,
            command=f"lorank reproduce {shlex.join([name, *(f'--data={text}' for text in data or [])])}",
            on_progress=on_progress,
            on_state=on_state,
        )
    figures = compare_with_recorded(found, recorded)
    if as_json:
        print(json.dumps([asdict(figure) | {"agrees": figure.agrees} for figure in figures], indent=1))
    else:
        print("| row | measure | figure | recorded | found | agrees |\n|---|---|---|---:|---:|---|")
        for figure in figures:
            new = "failed" if figure.found is None else f"{figure.found:.4f}"
            old = f"{figure.recorded:.4f} [{figure.low:.4f}, {figure.high:.4f}]"
            agrees = "yes" if figure.agrees else "no"
            print(f"| {figure.row} | {figure.measure} | {figure.figure} | {old} | {new} | {agrees} |")
    made = recorded["made"]
    agreeing = sum(figure.agrees for figure in figures)
    said = f"{agreeing} of {len(figures)} figures agree with those of {made['date']} ({made['machine']})"
    console.print(f"{said}. The page: {found.page}", soft_wrap=True, markup=False)
    if agreeing < len(figures):
        raise typer.Exit(1)


def _print_names() -> None:
    """Print each named experiment with the date of its last run, and the data that it needs."""
    from lorank.compare.experiment_file import read_experiment
    from lorank.compare.reproduction import experiment_names, experiment_path, read_recorded

    for name in experiment_names():
        recorded = read_recorded(name)
        print(f"{name}: {read_experiment(experiment_path(name)).name}; last run {recorded['made']['date']}")
        for thing, what in recorded.get("needs", {}).items():
            print(f"    --data {thing}=PATH: {what}")
