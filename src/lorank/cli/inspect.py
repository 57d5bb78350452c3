"""`lorank inspect`: ranks, spectra and sizes of an adapter."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lorank.cli.width import cut_middle, terminal_width
from lorank.errors import LorankError

NUMBERS = 54
"""The columns that the numbers of a layer take beside its path."""


def inspect(
    adapter: Annotated[Path, typer.Argument(help="An adapter folder, or the --out folder of `lorank train`.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print, for every layer, its rank, its effective rank, the norm of its update, and its largest singular values.

    The effective rank is exp(entropy) of the update's singular values (Roy & Vetterli 2007).

    Example: `lorank inspect runs/first`
    """
    from lorank.lowrank.spectra import adapter_spectra

    rows = adapter_spectra(_adapter_folder(adapter))
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    columns = terminal_width()
    width = max(len(row["path"]) for row in rows)
    width = width if columns is None else max(12, min(width, columns - NUMBERS))
    print(f"{'layer':{width}}  rank  effective    norm  largest singular values")
    for row in rows:
        values = " ".join(f"{value:.3g}" for value in row["singular_values"][:4])
        path = cut_middle(row["path"], width)
        print(f"{path:{width}}  {row['rank']:4}  {row['effective_rank']:9.2f}  {row['norm']:6.3f}  {values}")
    print(f"{sum(row['parameters'] for row in rows)} values in {len(rows)} layers")


def _adapter_folder(folder: Path) -> Path:
    if (folder / "adapter_config.json").is_file():
        return folder
    for home in (folder / "model" / "adapter", folder / "adapter", folder):  # the card of a tuned ranker is no adapter
        if any((home / name).is_file() for name in ("adapter_config.json", "lorank.json")):
            return home
    raise LorankError(
        f"{folder}: holds no adapter (no adapter_config.json and no lorank.json); give a PEFT folder or a run folder"
    )
