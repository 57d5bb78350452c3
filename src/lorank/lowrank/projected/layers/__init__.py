"""Policies of layers: which of them train at a time."""

from lorank.lowrank.projected.layers import outliers
from lorank.lowrank.projected.layers.layers import LAYERS, Layer, Layers, block_of

__all__ = ["LAYERS", "Layer", "Layers", "block_of", "outliers"]
