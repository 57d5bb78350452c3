"""The option ``--skip-bad``: bad rows are left out and kept in a file, in place of a report that ends the command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lorank.cli.progress import console
from lorank.errors import OnBad

SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Leave bad rows of the data and of runs out, and keep them in a file: the name of --out and "
        ".skipped.jsonl, or skipped.jsonl here.",
    ),
]
"""The option of every command that reads data or runs."""


def again(on_bad: OnBad | None) -> OnBad | None:
    """Return what a reader calls where it reads a second time what was read with ``on_bad``: nothing is kept twice."""
    return None if on_bad is None else lambda error, row: None


@contextmanager
def skipping(asked: bool, out: str | Path | None = None) -> Iterator[OnBad | None]:
    """Yield what a reader calls with each bad row, None unless it was asked for; then report and write the rows.

    Args:
        asked: Whether bad rows are left out.
        out: What the command writes; the rows are written beside it.
    """
    if not asked:
        yield None
        return
    from lorank.data.bad_rows import BadRows

    rows = BadRows(keep=True)
    yield rows.add
    if len(rows):
        file = Path("skipped.jsonl" if out is None else f"{out}.skipped.jsonl")
        rows.write(file)
        console.print(f"left out {rows.report()}\nthey are in {file}", soft_wrap=True, markup=False)
