"""`lorank plan`: which reranking strategy to take, simulated before a question is paid for."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer

from lorank.cli.progress import progress_bars


def plan(
    documents: Annotated[int, typer.Option(min=1, help="Documents of each query.")] = 100,
    top: Annotated[int, typer.Option(min=1, help="How many first places matter.")] = 10,
    agreement: Annotated[
        float,
        typer.Option(help="How often the judge is right about two documents one grade apart, above 0.5 and below 1."),
    ] = 0.8,
    noise: Annotated[
        float | None, typer.Option(min=0, help="The judge's noise in grades, instead of --agreement.")
    ] = None,
    position_bias: Annotated[
        float, typer.Option(help="What the first place shown gains over the last, in grades.")
    ] = 0.0,
    malformed: Annotated[float, typer.Option(min=0, max=1, help="Share of answers that are nonsense.")] = 0.0,
    budget: Annotated[
        str | None, typer.Option(help="The most a query may cost: calls=200, tokens=50000, or both.")
    ] = None,
    kinds: Annotated[
        str | None, typer.Option(help="Kinds of question the judge answers, separated by commas; all if not given.")
    ] = None,
    longest: Annotated[int, typer.Option(min=2, help="Documents that the judge reads well in one question.")] = 20,
    words: Annotated[int, typer.Option(min=0, help="Words of a document.")] = 100,
    queries: Annotated[int, typer.Option(min=2, help="Queries to simulate.")] = 20,
    slack: Annotated[float, typer.Option(min=0, help="nDCG that you give up for a cheaper strategy.")] = 0.01,
    sorts: Annotated[
        bool, typer.Option("--sorts", help="Print instead what pairwise sorts cost, by batch and cache.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Simulate every strategy with a judge as good as yours, and recommend one with its expected nDCG and cost.

    Example: `lorank plan --documents 100 --top 10 --agreement 0.8 --budget calls=200`
    """
    from lorank.ranking.judges import KINDS, Budget
    from lorank.ranking.strategies.planning import noise_of_agreement
    from lorank.ranking.strategies.planning import plan as simulate
    from lorank.ranking.strategies.sorting_cost import sorting_costs

    if sorts:
        rows = [asdict(row) for row in sorting_costs(documents, top, seed=seed)]
        print(json.dumps(rows, indent=1) if as_json else _sorts_table(rows))
        return
    with progress_bars() as on_progress:
        forecasts = simulate(
            documents,
            top,
            noise=noise_of_agreement(agreement) if noise is None else noise,
            position_bias=position_bias,
            malformed=malformed,
            budget=Budget.parse(budget) if budget else None,
            kinds=[kind.strip() for kind in kinds.split(",")] if kinds else KINDS,
            longest=longest,
            document_words=words,
            queries=queries,
            slack=slack,
            seed=seed,
            on_progress=partial(on_progress, "simulate strategies"),
        )
    rows = [asdict(row) for row in forecasts]
    print(json.dumps(rows, indent=1) if as_json else _forecast_table(rows, top))


def _forecast_table(rows: Sequence[dict[str, Any]], top: int) -> str:
    names = [" ".join([row["strategy"], *(f"{k}={_short(v)}" for k, v in row["options"].items())]) for row in rows]
    width = max(map(len, names))
    lines = [f"  {'strategy':{width}}  {f'nDCG@{top}':>14}  {'calls':>8} {'rounds':>7} {'tokens':>10}  out of budget"]
    for name, row in zip(names, rows):
        quality = f"{row['ndcg']:.3f} ± {row['standard_error']:.3f}"
        lines.append(
            f"{'*' if row['recommended'] else ' '} {name:{width}}  {quality:>14}  {row['calls']:>8.1f} "
            f"{row['rounds']:>7.1f} {row['tokens']:>10.0f}  {row['stopped']:>6.0%}"
        )
    chosen = next(name for name, row in zip(names, rows) if row["recommended"])
    return "\n".join([*lines, f"* recommended: {chosen}"])


def _sorts_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'sort':10}  {'cache':5}  {'batch':>5}  {'comparisons':>11}  {'inferences':>10}"]
    lines += [
        f"{row['sort']:10}  {'yes' if row['cached'] else 'no':5}  {row['batch_size']:>5}  "
        f"{row['comparisons']:>11.1f}  {row['inferences']:>10.1f}"
        for row in rows
    ]
    return "\n".join(lines)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
