"""What pairwise sorts cost when inferences are counted: the order of the sorts flips with batching and caching.

A perfect oracle sorts random orders; a comparison is one question, up to b questions share one inference, and with a
cache a question is paid once. Prints tables for the first place, the top k and the whole order, the cheapest of a
column in bold.

    python benchmarks/sorting.py
"""

import argparse
import sys

from lorank.ranking.strategies.sorting_cost import SORTS, SortingCost, sorting_costs

SIZES = (1, 2, 8, 32)


def table(rows: list[SortingCost]) -> str:
    """Return inferences as Markdown: a row a sort, a column a setting, the least of each column in bold."""
    cost = {(row.sort, row.cached, row.batch_size): row.inferences for row in rows}
    settings = [(cached, size) for cached in (False, True) for size in SIZES]
    least = {setting: min(cost[sort, *setting] for sort in SORTS) for setting in settings}
    lines = [
        "| sort | " + " | ".join(f"batch {size}{', cache' if cached else ''}" for cached, size in settings) + " |",
        "|---" * (1 + len(settings)) + "|",
    ]
    for sort in SORTS:
        cells = [f"{cost[sort, *setting]:,.0f}" for setting in settings]
        shown = [
            f"**{cell}**" if cost[sort, *setting] == least[setting] else cell
            for cell, setting in zip(cells, settings, strict=True)
        ]
        lines.append(f"| {'bubble sort' if sort == 'sliding' else sort} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--orders", type=int, default=10, help="random orders that costs are averaged over")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    for top in sorted({1, chosen.top, chosen.documents}):
        print(f"sorting {chosen.documents} documents, top {top} ...", file=sys.stderr)
        rows = sorting_costs(chosen.documents, top, batch_sizes=SIZES, orders=chosen.orders, seed=chosen.seed)
        if not all(row.exact for row in rows):
            sys.exit("a sort did not return the right top")
        print(f"### Inferences for the top {top} of {chosen.documents}\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
