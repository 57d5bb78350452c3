"""What the inspector's process is given of the server's base: shapes, kind and options, no weights."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Facts:
    """What is known of the base: enough to tell whether an adapter fits, without its weights.

    Args:
        kind: The kind of the ranker.
        base: Its name or folder.
        all_options: The options that it was opened with.
        module: Its skeleton, on the meta device.
        most_bytes: The memory that adapters have.
        wall_s: The seconds of the clock that a small folder has to be read.
    """

    kind: str
    base: str
    all_options: Mapping[str, Any]
    module: nn.Module
    most_bytes: int
    wall_s: float

    def options(self) -> Mapping[str, Any]:
        """Return the options that the base was opened with."""
        return self.all_options


def skeleton_of(module: nn.Module) -> nn.Module:
    """Return a copy of ``module`` whose tensors are on the meta device: shapes without numbers."""
    instead: dict[int, object] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        parameter = isinstance(tensor, nn.Parameter)
        instead[id(tensor)] = nn.Parameter(empty, requires_grad=False) if parameter else empty
    return copy.deepcopy(module, instead)
