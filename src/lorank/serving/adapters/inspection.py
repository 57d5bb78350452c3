"""What the inspector's process does with one folder that anyone may have written: read it, measure it, answer.

`lorank.serving.adapters.inspection_process` calls `answer` in a child with limits, so that a folder can harm nothing
but its own check.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lorank.errors import DataError, LorankError
from lorank.lowrank.folder import open_forms
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.serving.adapters.facts import Facts
from lorank.serving.adapters.package import Package, remarks_on
from lorank.serving.adapters.store import read_named


def inspect(name: str, folder: Path, facts: Facts) -> list[str]:
    """Return remarks on an adapter that can be served; raise LorankError where it cannot."""
    package = read_named(name, folder, cast(TrainableRanker, facts))  # facts hold all of a ranker that is read
    size = bytes_in_memory(package, facts.module)
    if size > facts.most_bytes:
        raise DataError(
            name,
            None,
            f"it takes {size / 2**20:.1f} MiB of memory, and all adapters together have {facts.most_bytes / 2**20:.1f}",
            "raise the memory budget (--memory-mb), or train it with a smaller rank",
        )
    return remarks_on(package)


def bytes_in_memory(package: Package, skeleton: nn.Module) -> int:
    """Return the bytes that an adapter takes once it is open; forms are built without a number being computed."""
    contents = package.contents
    size = package.beside + sum(t.nbytes for tensors in contents.trained.values() for t in tensors.values())
    if contents.settings.form == "lora":
        return size + sum(4 * t.numel() for tensors in contents.updates.values() for t in tensors.values())
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    for module in skeleton.modules():
        for tensors in cast(tuple[dict[str, Any], ...], (module._parameters, module._buffers)):
            for key, tensor in tensors.items():
                if tensor is not None and tensor.is_meta:
                    fake = mode.fake_tensor_converter.from_meta_and_device(mode, tensor.data, torch.device("cpu"))
                    parameter = isinstance(tensor, nn.Parameter)
                    tensors[key] = nn.Parameter(fake, requires_grad=False) if parameter else fake
    with mode:
        forms = open_forms(replace(contents, sketches={}), skeleton, package.folder)  # without comparing any number
    parts = {id(t): t for form in forms.values() for t in (*form.parameters(), *form.buffers())}
    return size + sum(t.numel() * t.element_size() for t in parts.values())


def answer(row: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return what is wrong with a folder, or remarks on it; whatever reading raises is the folder's fault.

    >>> sorted(answer({"name": "acme", "folder": "/no/such/folder"}, facts))                       # doctest: +SKIP
    ['error', 'remarks']
    """
    try:
        remarks = inspect(row["name"], Path(row["folder"]), facts)
    except LorankError as error:
        return {"error": str(error)[:2000], "remarks": []}
    except MemoryError:
        return {"error": "reading it takes more memory than an adapter gets", "remarks": []}
    except Exception as error:  # noqa: BLE001 - the files may be anything, and so may what reading them raises
        return {"error": f"{type(error).__name__}: {error}"[:2000], "remarks": []}
    return {"error": None, "remarks": remarks}
