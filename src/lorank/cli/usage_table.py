"""What asking a judge has cost, as a table: all queries together, and one on average."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorank.ranking.strategies import Reranked

NAMES = {
    "calls": "calls",
    "batches": "batches",
    "rounds": "rounds",
    "tokens_in": "tokens in",
    "tokens_out": "tokens out",
    "cache_hits": "answers from the cache",
    "malformed": "malformed answers",
    "refused": "questions beyond the budget",
    "wall_time_s": "seconds waited",
}


def usage_table(done: "Sequence[Reranked]") -> str:
    """Return lines of what was used, in all and per query; rows of zeros are left out, but for calls."""
    from lorank.ranking.judges import Usage

    total = sum((one.usage for one in done), Usage())
    rows = [
        (NAMES[f.name], getattr(total, f.name)) for f in fields(total) if getattr(total, f.name) or f.name == "calls"
    ]
    lines = [f"{'used':28} {'in all':>12} {'a query':>12}"]
    lines += [
        f"{name:28} {value:>12,.{digits}f} {value / len(done):>12,.{digits or 1}f}"
        for name, value in rows
        for digits in [2 if isinstance(value, float) else 0]
    ]
    stopped = sum(not one.complete for one in done)
    if stopped:
        lines.append(f"the budget ended {stopped} of {len(done)} queries early")
    chosen = [one.selected for one in done if one.selected is not None]
    if chosen:
        lines.append(f"{sum(chosen) / len(chosen):.1f} documents a query were chosen to be kept")
    return "\n".join(lines)
