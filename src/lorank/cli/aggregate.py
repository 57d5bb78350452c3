"""`lorank aggregate`: many orders to one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank import index
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.elections import show_board, show_committee, show_games
from lorank.cli.options import key_value
from lorank.cli.progress import console
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.ranking.consensus import Consensus, Profile

ALL, OPEN_ENDED = "all", "open-ended"
"""The values of ``--method`` that are no rule of the registry: every rule of Vote'n'Rank, and the game of three."""


def aggregate(
    method: Annotated[
        str,
        typer.Option(
            help="borda, copeland, kemeny, minimax, baldwin, pagerank, bradley-terry, "
            "plackett-luce, openskill, nash, rrf, ...; a wrong name lists all. Of a table also `all`, every rule of "
            "Vote'n'Rank side by side; of --games, open-ended; with --choose, sntv, bloc, borda or "
            "chamberlin-courant. [default: rrf for runs, open-ended for games, chamberlin-courant with --choose, "
            "else bradley-terry]"
        ),
    ] = "",
    run: Annotated[list[Path] | None, typer.Option(help="A run; repeat it. Merged query by query.")] = None,
    rankings: Annotated[Path | None, typer.Option(help="A PrefLib file: .soc .soi .toc .toi .cat.")] = None,
    table: Annotated[Path | None, typer.Option(help="A leaderboard: CSV, a row a system, a column a task.")] = None,
    duels: Annotated[Path | None, typer.Option(help="CSV of winner,loser or a,b,outcome.")] = None,
    games: Annotated[Path | None, typer.Option(help="CSV of prompt,a,b,outcome, for open-ended.")] = None,
    choose: Annotated[
        int | None,
        typer.Option(min=1, help="Choose so many items as a committee, in place of ordering all of them."),
    ] = None,
    group_of: Annotated[Path | None, typer.Option("--group-of", help="CSV of item,group, for --at-least.")] = None,
    at_least: Annotated[
        list[str] | None, typer.Option(help="The fewest that a committee holds of a group, group=count; repeat it.")
    ] = None,
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

        lorank aggregate --method all --table glue.csv

        lorank aggregate --games arena.csv

        lorank aggregate --choose 5 --rankings panel.soi --group-of items.csv --at-least small=2
    """
    given = [
        what
        for what, value in (
            ("--run", run),
            ("--rankings", rankings),
            ("--table", table),
            ("--duels", duels),
            ("--games", games),
        )
        if value
    ]
    if len(given) != 1:
        raise UsageError(
            f"give one of --run, --rankings, --table, --duels and --games; got {' and '.join(given) or 'none'}"
        )
    if choose is None and (group_of or at_least):
        raise UsageError("--group-of and --at-least bound a committee; say how many items it has with --choose")
    options = dict(key_value(text, "--option") for text in option or [])
    if games:
        _check_plain(method in ("", OPEN_ENDED), given[0], choose, out, options, skip_bad)
        _check_games(missing, task, name, lower_is_better, split_cells, ignore_counts)
        show_games(games, as_json)
        return
    if choose is None and method and method != ALL:
        index.check("consensus", method, "--method")
    if run:
        if choose is not None or method == ALL:
            raise UsageError("runs merge into a run by one rule; --choose and `--method all` are for the other inputs")
        _merge_runs(run, out, method or "rrf", missing or "last", options, skip_bad)
        return
    if skip_bad:
        raise UsageError("--skip-bad leaves out rows of runs; a ballot without a row would say something else")
    if out is not None:
        raise UsageError("--out writes a run, from --run; the order of everything else goes to stdout")
    profile = _read_profile(rankings, table, duels, name, task, lower_is_better, split_cells, not ignore_counts)
    console.print(f"{profile.ballots} ballots of weight {profile.weight.sum():g} over {len(profile.items)} items")
    if choose is not None:
        _check_plain(True, given[0], None, None, options, False)
        profile = profile.with_missing_last() if missing == "last" else profile
        show_committee(profile, choose, method or "chamberlin-courant", group_of, at_least or [], as_json)
        return
    if method == ALL:
        _check_plain(True, given[0], None, None, options, False)
        show_board(profile.with_missing_last() if missing == "last" else profile, as_json)
        return
    from lorank.ranking.consensus import aggregate as merge

    _show(merge(profile, method or "bradley-terry", missing=missing or "unknown", **options), as_json)


def _check_plain(
    known: bool, what: str, choose: int | None, out: Path | None, options: dict[str, Any], skip_bad: bool
) -> None:
    """Raise UsageError for what neither games, nor a committee, nor all rules at once can use."""
    if not known:
        raise UsageError(f"{what} goes with --method {OPEN_ENDED}; --duels takes every other rule")
    for option, given in (("--choose", choose), ("--out", out), ("--option", options), ("--skip-bad", skip_bad)):
        if given:
            raise UsageError(f"{option} is not used here; {what} gives an order on stdout")


def _check_games(
    missing: str | None,
    task: list[str] | None,
    name: str | None,
    lower_is_better: list[str] | None,
    split_cells: bool,
    ignore_counts: bool,
) -> None:
    """Raise UsageError for an option of ballots or of a table, of which a file of games is neither."""
    table = "a file of games has no such columns; give a leaderboard to --table"
    remedies = {
        "--missing": (missing, "models that did not meet have no outcome; add a row for each pair, `tie` where equal"),
        "--task": (task, f"{table}, or keep the rows of the prompts that count"),
        "--name": (name, f"{table}; the models of a game are its columns a and b"),
        "--lower-is-better": (lower_is_better, f"{table}, or turn the outcomes round"),
        "--split-cells": (split_cells, table),
        "--ignore-counts": (ignore_counts, "only a PrefLib file states counts; give it to --rankings"),
    }
    for option, (given, remedy) in remedies.items():
        if given:
            raise UsageError(f"{option} is not used with --games: {remedy}")


def _read_profile(
    rankings: Path | None,
    table: Path | None,
    duels: Path | None,
    name: str | None,
    tasks: list[str] | None,
    lower_is_better: list[str] | None,
    split_cells: bool,
    check_counts: bool,
) -> "Profile":
    from lorank.ranking.consensus.duel_files import read_duels
    from lorank.ranking.consensus.leaderboards import read_leaderboard
    from lorank.ranking.consensus.preflib import read_preflib

    if rankings:
        return read_preflib(rankings, check_counts=check_counts)
    if table is None:
        assert duels is not None
        return read_duels(duels)
    profile = read_leaderboard(
        table,
        name=name,
        tasks=tasks or None,
        lower_is_better=lower_is_better or (),
        parts="split" if split_cells else "mean",
    )
    console.print(f"voting: {', '.join(profile.names)}", soft_wrap=True, markup=False)
    return profile


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
