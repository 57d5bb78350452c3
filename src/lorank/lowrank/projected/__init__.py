"""Optimizers that project whole gradients: projector x refresh x inner rule x residual x moments x layers x weights."""

from lorank.lowrank.projected.axes import AXES, check_axes
from lorank.lowrank.projected.inner import INNERS, Inner
from lorank.lowrank.projected.layers import LAYERS, Layers
from lorank.lowrank.projected.moments import MOMENTS
from lorank.lowrank.projected.optimizer import ProjectedOptimizer
from lorank.lowrank.projected.presets import PRESETS, optimizer_preset
from lorank.lowrank.projected.projection import OPTIONS, Projection, with_options
from lorank.lowrank.projected.projectors import PROJECTORS, Projector
from lorank.lowrank.projected.refresh import REFRESHES, Refresh
from lorank.lowrank.projected.residuals import RESIDUALS, Residual
from lorank.lowrank.projected.weights import WEIGHTS, PlainWeight

__all__ = [
    "AXES",
    "check_axes",
    "INNERS",
    "LAYERS",
    "MOMENTS",
    "OPTIONS",
    "PRESETS",
    "PROJECTORS",
    "REFRESHES",
    "RESIDUALS",
    "WEIGHTS",
    "Inner",
    "Layers",
    "PlainWeight",
    "ProjectedOptimizer",
    "Projection",
    "Projector",
    "Refresh",
    "Residual",
    "optimizer_preset",
    "with_options",
]
