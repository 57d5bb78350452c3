"""`lorank adapter`: what can be done with a trained adapter."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorank import index
from lorank.cli.adapter_list import adapters
from lorank.cli.progress import console
from lorank.errors import LorankError, UsageError

if TYPE_CHECKING:
    from lorank.lowrank import ScoreChange
    from lorank.tuned.rewrite import Rewritten

adapter = typer.Typer(
    help="List adapters; merge, squeeze, average, convert or export trained ones.", no_args_is_help=True
)
adapter.command("list")(adapters)

Ranker = Annotated[str, typer.Argument(help="The --out folder of `lorank train`.")]
Out = Annotated[Path, typer.Option(help="Folder to write; it must not exist, unless --overwrite is given.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in --out.")]
NewOut = Annotated[Path, typer.Option(help="Folder to write; it must not exist.")]
Limit = Annotated[float, typer.Option(help="Largest score change allowed; above it nothing is written.")]
SoftLimit = Annotated[float | None, typer.Option(help="Largest score change allowed; by default any.")]
Seed = Annotated[int, typer.Option(help="Of random draws, where there are any.")]


@adapter.command()
def merge(ranker: Ranker, out: Out, limit: Limit = 1e-4, overwrite: Overwrite = False) -> None:
    """Write a whole model with the adapter merged in, as sentence-transformers and transformers load it.

    Example: `lorank adapter merge runs/first --out merged`
    """
    _export(ranker, out, "merged", limit, None, overwrite)


@adapter.command()
def export(
    ranker: Ranker,
    out: Out,
    format: Annotated[str, typer.Option(help="peft (faithful), portable (plain LoRA), or merged.")] = "peft",
    rank: Annotated[int | None, typer.Option(help="With portable: the rank to write.")] = None,
    limit: Limit = 1e-4,
    overwrite: Overwrite = False,
) -> None:
    """Write the adapter for others, score what was written again, and say how far scores moved.

    Example: `lorank adapter export runs/first --format portable --out for-others`
    """
    _export(ranker, out, format, limit, rank, overwrite)


@adapter.command()
def squeeze(
    ranker: Ranker,
    out: NewOut,
    rank: Annotated[int | None, typer.Option(min=0, help="The rank that every layer keeps.")] = None,
    energy: Annotated[
        float | None,
        typer.Option(
            help="Instead: the share of each update's squared norm to keep, "
            "0 to 1; each layer then gets a rank of its own."
        ),
    ] = None,
    limit: SoftLimit = None,
    seed: Seed = 0,
) -> None:
    """Write the ranker with an adapter of lower rank: the best approximation of each update, on its factors.

    Example: `lorank adapter squeeze runs/first --rank 4 --out runs/small`
    """
    if rank is None and energy is None:
        raise UsageError("say how far to squeeze: --rank 4, or --energy 0.9")
    _rewrite([ranker], out, rank=rank, energy=energy, limit=limit)


@adapter.command()
def convert(
    ranker: Ranker,
    out: NewOut,
    rank: Annotated[int | None, typer.Option(min=0, help="The rank at which other forms are cut off.")] = None,
    energy: Annotated[float | None, typer.Option(help="Instead: the share of the squared norm to keep.")] = None,
    limit: SoftLimit = None,
    seed: Seed = 0,
) -> None:
    """Write the ranker with its adapter as a plain LoRA: exactly where the form is one, else cut off by SVD.

    Example: `lorank adapter convert runs/gralora --out runs/plain`, `lorank adapter convert runs/dora --rank 16 --out
    runs/plain`
    """
    _rewrite([ranker], out, rank=rank, energy=energy, limit=limit)


@adapter.command()
def average(
    rankers: Annotated[list[str], typer.Argument(help="The --out folders of several `lorank train` of one base.")],
    out: NewOut,
    weights: Annotated[
        str | None, typer.Option(help="One number a ranker, comma-separated; by default equal shares.")
    ] = None,
    method: Annotated[str, typer.Option(help="linear (exact), svd, ties or dare.")] = "linear",
    rank: Annotated[int | None, typer.Option(min=0, help="Highest rank of a layer; by default ranks add up.")] = None,
    density: Annotated[float, typer.Option(help="With ties and dare: the share of entries kept.")] = 0.5,
    limit: SoftLimit = None,
    seed: Seed = 0,
) -> None:
    """Write one ranker whose update is the weighted sum of those of several; heads are averaged.

    The first ranker's first stage and mix are kept.

    Example: `lorank adapter average runs/a runs/b --weights 0.7,0.3 --rank 8 --out runs/both`
    """
    index.check("combination", method, "--method")
    _rewrite(rankers, out, weights=_numbers(weights), method=method, rank=rank, density=density, limit=limit, seed=seed)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--weights {text!r} are not numbers; write them as 0.7,0.3") from error


def _rewrite(rankers: Sequence[str], out: Path, **options: object) -> None:
    from lorank.training import load_ranker
    from lorank.tuned import rewrite as rewriting

    if out.exists():
        raise LorankError(f"{out} exists; nothing is written over, give another --out")
    tuned = [load_ranker(ranker) for ranker in rankers]
    done: Rewritten
    if "method" in options:
        done = rewriting.average(tuned, out, **options)  # type: ignore[arg-type]
    else:
        done = rewriting.squeeze(tuned[0], out, **options)  # type: ignore[arg-type]
    console.print(f"rank {done.ranks[0]} to {done.ranks[1]}, {done.values[0]:,} values to {done.values[1]:,}")
    for ranker, change in zip(rankers, done.changes, strict=True):
        console.print(f"from {ranker}: {_describe(change)}", soft_wrap=True)
    print(out)


def _describe(change: "ScoreChange") -> str:
    return (
        f"largest score change {change.largest:.2g}, Kendall tau {change.kendall_tau:.4f}, "
        f"{change.flipped_pairs} of {change.pairs} pairs flipped"
    )


def _export(ranker: str, out: Path, format: str, limit: float, rank: int | None, overwrite: bool) -> None:
    index.check("export", format, "--format")
    from lorank.training import load_ranker
    from lorank.tuned.export import export as write

    report = write(load_ranker(ranker), out, format, limit=limit, rank=rank, overwrite=overwrite)
    change = report.change
    if change is not None:
        console.print(_describe(change))
    print(out)
