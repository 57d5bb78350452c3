"""The axes of a projected optimizer: what each choice is called, and the family that holds its names."""

from collections.abc import Mapping
from typing import Any

from lorank.errors import UsageError
from lorank.lowrank.projected.inner import INNERS
from lorank.lowrank.projected.layers import LAYERS
from lorank.lowrank.projected.moments import MOMENTS
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors import PROJECTORS
from lorank.lowrank.projected.refresh import REFRESHES
from lorank.lowrank.projected.registry import find
from lorank.lowrank.projected.residuals import RESIDUALS
from lorank.lowrank.projected.weights import WEIGHTS

AXES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "projector": ("projector", PROJECTORS),
    "refresh": ("refresh policy", REFRESHES),
    "inner": ("inner rule", INNERS),
    "residual": ("residual rule", RESIDUALS),
    "moments": ("treatment of moments", MOMENTS),
    "layers": ("policy of layers", LAYERS),
    "weights": ("treatment of weights", WEIGHTS),
}
"""By field of `Projection`: what messages call it, and its family."""


def check_axes(options: Projection) -> None:
    """Raise UsageError for a name that no family holds, and for choices that do not go together.

    >>> check_axes(Projection(projector="svdd"))
    Traceback (most recent call last):
    lorank.errors.UsageError: unknown projector 'svdd'; did you mean 'svd'? known: ...
    """
    for axis, (kind, registry) in AXES.items():
        find(kind, registry, getattr(options, axis))
    if options.projector == "blocks" and options.moments != "reset":
        raise UsageError("projector 'blocks' changes the shape of the moments; use it with moments 'reset'")
