"""`lorank adapter`: what can be done with a trained adapter."""

from pathlib import Path
from typing import Annotated

import typer

from lorank.cli.progress import console

adapter = typer.Typer(help="Merge or export a trained adapter.", no_args_is_help=True)

Ranker = Annotated[str, typer.Argument(help="The --out folder of `lorank train`.")]
Out = Annotated[Path, typer.Option(help="Folder to write.")]
Limit = Annotated[float, typer.Option(help="Largest score change allowed; above it nothing is written.")]


@adapter.command()
def merge(ranker: Ranker, out: Out, limit: Limit = 1e-4) -> None:
    """Write a whole model with the adapter merged in, as sentence-transformers and transformers load it.

    Example: `lorank adapter merge runs/first --out merged`
    """
    _export(ranker, out, "merged", limit, None)


@adapter.command()
def export(
    ranker: Ranker, out: Out,
    format: Annotated[str, typer.Option(help="peft (faithful), portable (plain LoRA), or merged.")] = "peft",
    rank: Annotated[int | None, typer.Option(help="With portable: the rank to write.")] = None,
    limit: Limit = 1e-4,
) -> None:
    """Write the adapter for others, score what was written again, and say how far scores moved.

    Example: `lorank adapter export runs/first --format portable --out for-others`
    """
    _export(ranker, out, format, limit, rank)


def _export(ranker: str, out: Path, format: str, limit: float, rank: int | None) -> None:
    from lorank.training import load_ranker
    from lorank.training.exporting import export as write

    report = write(load_ranker(ranker), out, format, limit=limit, rank=rank)
    change = report.change
    if change is not None:
        console.print(f"largest score change {change.largest:.2g}, Kendall tau {change.kendall_tau:.4f}, "
                      f"{change.flipped_pairs} of {change.pairs} pairs flipped")
    print(out)
