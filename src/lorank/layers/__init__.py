"""Layers of few numbers that stand in the place of a model's own, and how a model folder says where they stand.

A leaf: both wings read such models, the low-rank wing makes them.
"""

from lorank.layers.description import (
    KEY,
    LayerDescription,
    build_layers,
    class_of_saved,
    describe_layers,
    open_saved,
)
from lorank.layers.factored_embedding import FactoredEmbedding
from lorank.layers.factored_linear import FactoredLinear
from lorank.layers.grid_linear import GRIDS, Grid, GridLinear, round_to_grid

__all__ = [
    "FactoredEmbedding",
    "FactoredLinear",
    "GRIDS",
    "Grid",
    "GridLinear",
    "KEY",
    "LayerDescription",
    "build_layers",
    "class_of_saved",
    "describe_layers",
    "open_saved",
    "round_to_grid",
]
