"""A merged copy for the adapter that dominates the traffic: its rows then cost what the base's cost.

The share of each adapter is that of the tokens of late: every batch, what was counted before fades by ``memory``.
Once an adapter's share reaches the threshold, a copy of the model is made in which only the adapted weights are its
own (W + dW, added in float32) and all other tensors are the base's, so it costs the adapted weights' memory. The copy
is complete before anything scores with it, holds for one version of the adapter's files, and is given up when they
change or another adapter takes the lead.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.module_tree import replace_module
from lorank.serving.adapters.package import Package
from lorank.serving.forward.loaded_adapter import LoadedAdapter
from lorank.serving.forward.mixed import Layout, Tables
from lorank.serving.forward.prompt_rows import PromptReader
from lorank.serving.forward.rows import PathReader, Reader, open_reader

STEADY = 10_000
"""Tokens that must have been counted before a share means anything."""


@dataclass
class Traffic:
    """Tokens of late by adapter; what came before fades by ``memory`` a batch.

    >>> traffic = Traffic()
    >>> traffic.count({"a": 30_000, "b": 10_000}); traffic.leader(0.7)
    'a'
    """

    memory: float = 0.95
    tokens: dict[str | None, float] = field(default_factory=dict)

    def count(self, tokens: dict[str | None, int]) -> None:
        """Count a batch."""
        faded = {name: self.memory * value for name, value in self.tokens.items() if value > 1}
        for name, value in tokens.items():
            faded[name] = faded.get(name, 0.0) + value
        self.tokens = faded

    def leader(self, share: float) -> str | None:
        """Return the adapter that has at least ``share`` of the tokens; None where there is none, or too few tokens."""
        total = sum(self.tokens.values())
        name = max(self.tokens, key=self.tokens.__getitem__, default=None)
        return name if name is not None and total >= STEADY and self.tokens[name] >= share * total else None


@dataclass(frozen=True)
class MergedCopy:
    """A model with one adapter in its weights, and how it reads rows; ``bytes`` are those that it does not share."""

    name: str
    version: str
    package: Package | None
    reader: Reader | PathReader | PromptReader
    bytes: int


def check_share(share: float | None) -> float | None:
    """Return ``share`` if it can be a threshold: None, or above 0.5 up to 1."""
    if share is not None and not 0.5 < share <= 1:
        raise UsageError(f"merged_share {share} is not above 0.5 and at most 1")
    return share


@torch.no_grad()
def merge_copy(opened: LoadedAdapter, ranker: Any, layout: Layout, scored_by: str | None = None) -> MergedCopy:
    """Return a copy of the ranker's model with an adapter merged into it; the model itself is not touched.

    Args:
        opened: The adapter.
        ranker: The base.
        layout: The pages of the base's layers.
        scored_by: The name of the scoring path that reads the copy; None takes the ranker's own way.
    """
    base: nn.Module = ranker.module
    shared = {id(tensor): tensor for tensor in (*base.parameters(), *base.buffers())}
    module, size = copy.deepcopy(base, shared), 0
    for path, change in changes(opened, base, layout):
        layer = copy.copy(module.get_submodule(path))
        layer._parameters = dict(layer._parameters)
        weight = BaseLinear(layer).weight
        merged = (weight.to(change.dtype) + change).to(weight.dtype)
        layer.weight = nn.Parameter(
            merged if layer.weight.shape == merged.shape else merged.t().contiguous(), requires_grad=False
        )
        replace_module(module, path, layer)
        size += merged.nbytes
    for path, head in opened.heads.items():
        replace_module(module, path, copy.deepcopy(head))
        size += sum(tensor.nbytes for tensor in head.parameters())
    module.eval()
    reader = open_reader(ranker, module) if scored_by is None else PathReader(ranker, module, scored_by)
    return MergedCopy(opened.name, opened.version, opened.package, reader, size)


def changes(opened: LoadedAdapter, base: nn.Module, layout: Layout) -> list[tuple[str, Tensor]]:
    """Return dW [out, in] of each layer that the adapter changes."""
    if opened.forms:
        weights = ((path, BaseLinear(base.get_submodule(path)).weight) for path in opened.forms)
        return [(path, opened.forms[path].delta(weight)) for path, weight in weights]
    tables, found = Tables(layout, [opened]), []
    for path in layout.place:
        if tables.rank([path]):
            stack = tables.stack([path], None, torch.float32)
            found.append((path, stack.Bt[0].t() @ stack.A[0]))
    return found
