"""`lorank compare`: an experiment from one file, and the page that tells what it found."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorank.cli.options import setting_value
from lorank.cli.progress import console
from lorank.cli.width import terminal_width

if TYPE_CHECKING:
    from lorank.compare.experiment import Experiment


def compare(
    experiment: Annotated[Path, typer.Argument(help="The experiment file, TOML.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the ledger, the page and the tables. [default: runs/ and the file's name, with --row the "
            "row's too]"
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Trials that run at once, each in a process pinned to its share of the cores.")
    ] = 1,
    engine: Annotated[str, typer.Option(help="Who runs the trials: local, or ray for many machines.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="With ray: the cluster's address. [default: this machine]")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run trials again that failed before.")] = False,
    rows: Annotated[
        list[str] | None, typer.Option("--row", help="Run and compare this row alone; repeat it for several.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key of the file, as in seed=0 or training.steps=10; repeat it."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew, in place of going on.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, print its rows and the number of trials, run nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records of all rows as JSON.")] = False,
) -> None:
    """Compare methods: every row, rate, seed and fold of a file is trained and judged, and one page tells the result.

    A list is an axis, `{sweep = [...]}` lets dev choose, a `[[row]]` adds what is not trained. The same command goes
    on where an earlier one was stopped, kill -9 included. The page is index.html in the folder, beside the tables.

    Examples:

        lorank compare experiment.toml

        lorank compare experiment.toml --out runs/forms --workers 2

        lorank compare experiment.toml --dry-run

        lorank compare experiment.toml --row lora --set seed=3

        lorank compare experiment.toml --engine ray --workers 16 --address auto

    An experiment file:

        data = "pydocs"
        base = "minilm"
        seed = [0, 1, 2]
        baseline = "lora"
        adapter.name = ["lora", "dora"]
        training.steps = 30
        training.lr = {sweep = [1e-3, 3e-3], per = "method"}
        [[row]]
        name = "BM25"
        ranker = "bm25"
    """
    from lorank.cli.live_table import live_table
    from lorank.compare.experiment_file import read_experiment
    from lorank.compare.selection import plain_name, select_rows

    given = dict(setting_value(text) for text in settings or [])
    made = select_rows(read_experiment(experiment, given), rows or [], references=True)
    folder = Path("runs") / "-".join([experiment.stem, *map(plain_name, rows or [])]) if out is None else out
    from lorank.compare.running import check_experiment, run_experiment

    if dry_run:
        check_experiment(made, str(experiment), folder)
        _print_plan(made)
        return
    try:
        with live_table(made.measures[0]) as (on_state, on_progress):
            found = run_experiment(
                experiment,
                folder,
                workers=workers,
                engine=engine,
                address=address,
                overwrite=overwrite,
                retry=retry,
                rows=rows or [],
                settings=given,
                command="lorank " + shlex.join(sys.argv[1:]),
                rerun=shlex.join(["lorank", "compare", str(experiment), *(f"--set={text}" for text in settings or [])]),
                on_progress=on_progress,
                on_state=on_state,
            )
    except KeyboardInterrupt as interrupted:
        console.print("interrupted; what has ended is kept, and the same command goes on from there", soft_wrap=True)
        raise typer.Exit(130) from interrupted
    print(found.to_json() if as_json else found.summary(terminal_width()))
    for note in found.notes:
        console.print(note, soft_wrap=True, markup=False)
    console.print(f"The page: {found.page}", soft_wrap=True, markup=False)
    if not found.whole:
        raise typer.Exit(1)


def _print_plan(experiment: "Experiment") -> None:
    """Print the rows and how many trials each has in sight."""
    from lorank.compare.schedule import plan_rows
    from lorank.data.collection import describe_count

    plans = plan_rows(experiment, {})
    for plan in plans:
        row = plan.row
        swept = "" if row.sweep is None else f", {row.sweep.key} of {', '.join(f'{v:g}' for v in row.sweep.values)}"
        number = "waits for the baseline" if plan.blocked else describe_count(plan.planned, "trial")
        print(f"{row.data}  {row.name}: {number}{swept}")
    edges = "; edges of sweeps may add some" if any(plan.row.sweep is not None for plan in plans) else ""
    trials = describe_count(sum(plan.planned for plan in plans), "trial")
    print(f"{describe_count(len(plans), 'row')}, {trials}{edges}")
