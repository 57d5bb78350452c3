"""`lorank inspect`: ranks, spectra and sizes of an adapter."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lorank.errors import LorankError


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
    width = max(len(row["path"]) for row in rows)
    print(f"{'layer':{width}}  rank  effective    norm  largest singular values")
    for row in rows:
        values = " ".join(f"{value:.3g}" for value in row["singular_values"][:4])
        print(f"{row['path']:{width}}  {row['rank']:4}  {row['effective_rank']:9.2f}  {row['norm']:6.3f}  {values}")
    print(f"{sum(row['parameters'] for row in rows)} values in {len(rows)} layers")


def _adapter_folder(folder: Path) -> Path:
    for home in (folder, folder / "adapter", folder / "model" / "adapter"):
        if (home / "adapter_config.json").is_file():
            return home
    raise LorankError(f"{folder}: holds no adapter (no adapter_config.json); give a PEFT folder or a run folder")
