"""Checkpoints that are never torn: a folder is complete or it is not there.

A checkpoint is written beside its final name, forced to disk, and renamed (`lorank.files`). Tensors go to
safetensors and numbers to JSON; nothing is pickled.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorank.errors import LorankError
from lorank.files import replaced_folder

OURS = ("step-", "best-", ".step-", ".best-", ".partial-")
"""How the names of checkpoints begin, and those of what a crash left half-written (.partial- in 0.1)."""
TENSORS, NUMBERS = "state.safetensors", "state.json"


def write_checkpoint(folder: Path, name: str, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> Path:
    """Write a checkpoint in one atomic step and return its path; one of that name stays.

    Args:
        folder: The folder of all checkpoints of the run.
        name: The name of the checkpoint's folder.
        tensors: The tensors, of any shapes, by name.
        numbers: What JSON can hold, by name.
    """
    final = folder / name
    if final.exists():
        return final
    with replaced_folder(final) as partial:
        save_file({k: t.detach().contiguous().cpu() for k, t in tensors.items()}, partial / TENSORS)
        (partial / NUMBERS).write_text(json.dumps(dict(numbers)))
    return final


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_checkpoint`` wrote."""
    try:
        return load_file(path / TENSORS), json.loads((path / NUMBERS).read_text())
    except (OSError, ValueError, SafetensorError) as error:
        raise LorankError(f"{path}: not a readable checkpoint ({error}); delete it and resume again") from error


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the complete ``step-*`` checkpoint with the highest step, or None."""
    found = sorted(folder.glob("step-*"))
    return found[-1] if found else None


def drop_old_checkpoints(folder: Path, keep: set[str]) -> None:
    """Remove all checkpoints but those named in ``keep``, and what a crash left half-written."""
    for path in folder.iterdir():
        if path.name not in keep and path.name.startswith(OURS):
            shutil.rmtree(path)
