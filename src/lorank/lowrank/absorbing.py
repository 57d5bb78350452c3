"""An adapter absorbed into its model for good: the weights are W + dW, and the layers are plain again."""

import torch
from torch import nn

from lorank.lowrank.matrix_view import base_of
from lorank.lowrank.updates import Updates


@torch.no_grad()
def absorb(adapter: Updates) -> nn.Module:
    """Add the updates to the weights, take the adapter off, and return the model.

    Raises:
        UsageError: Where a layer cannot hold W + dW, before anything is changed.

    >>> from lorank import lowrank
    >>> model = nn.Sequential(nn.Linear(3, 2, bias=False)); adapter = lowrank.attach(model, "lora", rank=1)
    >>> type(absorb(adapter)[0]).__name__
    'Linear'
    """
    adapter.unmerge()
    for path, layer in adapter.layers.items():
        layer.frozen.check_mergeable(path)
    deltas = {path: layer.delta() for path, layer in adapter.layers.items()}
    model = adapter.detach()
    for path, delta in deltas.items():
        base_of(model.get_submodule(path)).put(delta)
    return model
