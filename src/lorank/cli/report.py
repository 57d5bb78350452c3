"""`lorank report`: the HTML report of a run folder."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="A run folder, as `lorank train` or `lorank demo` writes it.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: report.html in the folder.")] = None,
) -> None:
    """Write the report of a run: one HTML file that needs no network.

    Example: `lorank report runs/demo`
    """
    from lorank.reporting import write_report

    print(write_report(folder, out))
