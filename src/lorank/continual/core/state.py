"""What a method keeps of a stage as tensors: a safetensors file in the stage's folder, written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from lorank.errors import LorankError
from lorank.files import replaced_file


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write ``tensors`` by name."""
    with replaced_file(path) as partial:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return what ``write_tensors`` wrote.

    Raises:
        LorankError: Where the file is not there: the stage before did not end.
    """
    if not path.is_file():
        raise LorankError(f"{path} is missing, which the stage before leaves; train the stream anew with --overwrite")
    return load_file(path)
