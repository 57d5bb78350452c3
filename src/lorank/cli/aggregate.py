"""`lorank aggregate`: many orders to one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank import index
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import key_value
from lorank.cli.progress import console
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.ranking.consensus import Consensus


def aggregate(
    method: Annotated[
        str,
        typer.Option(
            help="borda, copeland, kemeny, minimax, baldwin, pagerank, bradley-terry, "
            "plackett-luce, openskill, nash, rrf, ...; a wrong name lists all. "
            "[default: rrf for runs, else bradley-terry]"
        ),
    ] = "",
    run: Annotated[list[Path] | None, typer.Option(help="A run; repeat it. Merged query by query.")] = None,
    rankings: Annotated[Path | None, typer.Option(help="A PrefLib file: .soc .soi .toc .toi .cat.")] = None,
    table: Annotated[Path | None, typer.Option(help="A leaderboard: CSV, a row a system, a column a task.")] = None,
    duels: Annotated[Path | None, typer.Option(help="CSV of winner,loser or a,b,outcome.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run to write (needed with --run); .gz compresses it.")] = None,
    name: Annotated[str | None, typer.Option(help="The table's column of names.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="A column of the table that votes; repeat it. [default: all that hold numbers]"),
    ] = None,
    lower_is_better: Annotated[list[str] | None, typer.Option(help="A task whose lower scores are better.")] = None,
    split_cells: Annotated[
        bool, typer.Option("--split-cells", help="Let both numbers of cells like 93.9/91.8 vote; else their mean does.")
    ] = False,
    missing: Annotated[
        str | None,
        typer.Option(
            help="What a ballot says of an item it does not list: `unknown`, or "
            "`last`. [default: last for runs, else unknown]"
        ),
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="An option of the method, key=value; repeat it.")] = None,
    ignore_counts: Annotated[
        bool,
        typer.Option("--ignore-counts", help="Accept a PrefLib file whose counts are not those its header states."),
    ] = False,
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the order as JSON.")] = False,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; aggregation is deterministic.")] = 0,
) -> None:
    """Merge runs, rankings, a leaderboard's columns or duels into one order.

    Runs give a run (--out). Everything else prints rank, score and item, best first; equal ranks are ties.

    Examples:

        lorank aggregate --method rrf --run bm25.run --run dense.run --out fused.run

        lorank aggregate --method kemeny --rankings cities.soi

        lorank aggregate --method copeland --table glue.csv --json

        lorank aggregate --method bradley-terry --duels arena.csv --option prior=0 --option ties=davidson
    """
    given = [
        what
        for what, value in (("--run", run), ("--rankings", rankings), ("--table", table), ("--duels", duels))
        if value
    ]
    if len(given) != 1:
        raise UsageError(f"give one of --run, --rankings, --table and --duels; got {' and '.join(given) or 'none'}")
    if method:
        index.check("consensus", method, "--method")
    options = dict(key_value(text, "--option") for text in option or [])
    if run:
        _merge_runs(run, out, method or "rrf", missing or "last", options, skip_bad)
        return
    if skip_bad:
        raise UsageError("--skip-bad leaves out rows of runs; a ballot without a row would say something else")
    if out is not None:
        raise UsageError("--out writes a run, from --run; the order of everything else goes to stdout")
    from lorank.ranking.consensus import aggregate as merge
    from lorank.ranking.consensus.duel_files import read_duels
    from lorank.ranking.consensus.leaderboards import read_leaderboard
    from lorank.ranking.consensus.preflib import read_preflib

    if rankings:
        profile = read_preflib(rankings, check_counts=not ignore_counts)
    elif table:
        profile = read_leaderboard(
            table,
            name=name,
            tasks=task or None,
            lower_is_better=lower_is_better or (),
            parts="split" if split_cells else "mean",
        )
        console.print(f"voting: {', '.join(profile.names)}", soft_wrap=True, markup=False)
    else:
        profile = read_duels(duels)
    console.print(f"{profile.ballots} ballots of weight {profile.weight.sum():g} over {len(profile.items)} items")
    _show(merge(profile, method or "bradley-terry", missing=missing or "unknown", **options), as_json)


def _merge_runs(
    paths: list[Path], out: Path | None, method: str, missing: str, options: dict[str, Any], skip_bad: bool
) -> None:
    from lorank.data import read_run, write_run
    from lorank.ranking.consensus import aggregate_runs

    if out is None:
        raise UsageError("runs merge into a run; say where to write it with --out")
    with skipping(skip_bad, out) as on_bad:
        runs = [read_run(path, on_bad=on_bad) for path in paths]
    merged = aggregate_runs(runs, method, missing=missing, **options)
    write_run(merged, out, f"lorank-{method}")
    console.print(f"{len(merged)} queries, {sum(map(len, merged.values()))} documents from {len(paths)} runs")
    print(out)


def _show(merged: "Consensus", as_json: bool) -> None:
    scores = list(merged.scores.values())
    rows = [
        {"rank": 1 + sum(score > merged.scores[item] for score in scores), "item": item, "score": merged.scores[item]}
        for item in merged.order
    ]
    if as_json:
        print(json.dumps({"method": merged.method, "order": rows}, indent=1, ensure_ascii=False))
        return
    for row in rows:
        print(f"{row['rank']}\t{row['score']:.6g}\t{row['item']}")
