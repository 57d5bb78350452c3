"""Projectors: how a gradient becomes small and large again; one file a projector."""

from lorank.lowrank.projected.projectors import (
    blocks,
    coordinates,
    dct,
    identity,
    int4,
    momentum,
    orthogonal,
    random,
    stiefel,
    svd,
)
from lorank.lowrank.projected.projectors.projector import PROJECTORS, Projector, State

__all__ = [
    "PROJECTORS",
    "Projector",
    "State",
    "blocks",
    "coordinates",
    "dct",
    "identity",
    "int4",
    "momentum",
    "orthogonal",
    "random",
    "stiefel",
    "svd",
]
