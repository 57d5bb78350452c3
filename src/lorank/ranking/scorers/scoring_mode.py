"""Scoring leaves a module as it found it."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def scoring(module: nn.Module) -> Iterator[None]:
    """Score in evaluation mode without gradients; the training flags of all parts are put back after."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in training:
            part.training = True
