"""A projected optimizer as a point on its axes: which choice on each, and the numbers that the choices read."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lorank.errors import UsageError


@dataclass(frozen=True)
class Projection:
    """One optimizer: its choice on each axis, and their options.

    Args:
        projector: How G becomes R = P^T G and back (`lorank.lowrank.projected.PROJECTORS`).
        refresh: When P is found anew (`REFRESHES`).
        inner: The rule that steps in the subspace, and on what is no matrix (`INNERS`).
        residual: What becomes of the rest G - P R (`RESIDUALS`).
        moments: What becomes of the moments at a refresh: ``kept``, ``reset`` or ``rotated`` (`MOMENTS`).
        layers: Which layers train at a time (`LAYERS`).
        weights: How a step enters the weight (`WEIGHTS`).
        gap: Steps from one refresh to the next, 1 or more.
        scale: The factor of the step in the subspace (GaLore's alpha), above 0.
        threshold: Of ``lazy``: the least |cosine| of successive leading directions, in [0, 1], that counts as alike.
        patience: Of ``lazy``: the refreshes in a row, 1 or more, that must be alike before the gap doubles.
        limit: Of ``fira`` and ``channel``: the largest growth of the update's norm from one step to the next.
        per: Of ``fira`` and ``channel``: one factor per ``column`` or per ``matrix``.
        rest_rate: Of ``sign`` and ``companion``: the rate of the rest, or of the LoRA, as a multiple of the run's, 0 or
            more.
        companion: Of ``companion``: the rank of the LoRA beside the subspace, 1 or more.
        interval: Of ``outliers``: steps until layers are drawn anew, 1 or more.
        active: Of ``outliers``: the layers that train at a time; None takes 5 of 32, and 2 at least.
        outlier: Of ``outliers``: an entry is one where it exceeds so many times the mean magnitude, above 0.
        rounding: ``nearest`` or ``stochastic``, of weights in bfloat16.
        in_backward: True steps each parameter as soon as its gradient is there, and frees the gradient.
        rank: The rank where none is given, 0 or more; None takes a quarter of each matrix's shorter side.
        lr: The rate of a run of `lorank train` that states none.
    """

    projector: str = "svd"
    refresh: str = "fixed"
    inner: str = "adamw"
    residual: str = "none"
    moments: str = "kept"
    layers: str = "all"
    weights: str = "plain"
    gap: int = 200
    scale: float = 1.0
    threshold: float = 0.4
    patience: int = 2
    limit: float = 1.01
    per: str = "column"
    rest_rate: float = 1.0
    companion: int = 8
    interval: int = 50
    active: int | None = None
    outlier: float = 13.0
    rounding: str = "nearest"
    in_backward: bool = False
    rank: int | None = field(default=None, repr=False)
    lr: float = field(default=1e-4, repr=False)

    def __post_init__(self) -> None:
        counts = {"gap": self.gap, "patience": self.patience, "interval": self.interval, "companion": self.companion}
        if self.active is not None:
            counts["active"] = self.active
        for name, count in counts.items():
            if not isinstance(count, int) or count < 1:
                raise UsageError(f"{name} is {count!r}; give a whole number of 1 or more")
        for name, value, least in (
            ("scale", self.scale, 0.0),
            ("limit", self.limit, 0.0),
            ("outlier", self.outlier, 0.0),
            ("lr", self.lr, 0.0),
        ):
            if not (math.isfinite(value) and value > least):
                raise UsageError(f"{name} is {value!r}; give a number above {least:g}")
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"threshold is {self.threshold!r}; give a cosine from 0 to 1")
        if not (math.isfinite(self.rest_rate) and self.rest_rate >= 0):
            raise UsageError(f"rest_rate is {self.rest_rate!r}; give a number from 0 up")
        for name, word, words in (
            ("per", self.per, ("column", "matrix")),
            ("rounding", self.rounding, ("nearest", "stochastic")),
        ):
            if word not in words:
                raise UsageError(f"{name} is {word!r}; give {' or '.join(words)}")


OPTIONS = tuple(each.name for each in fields(Projection) if each.name not in ("rank", "lr"))
"""What may be changed of a preset, beside its rank and its rate."""


def with_options(name: str, preset: Projection, options: dict[str, Any]) -> Projection:
    """Return ``preset`` with ``options`` in place of its own.

    Raises:
        UsageError: For an option that projected optimizers do not have, and for a value that cannot be.

    >>> with_options("galore", Projection(), {"gap": 50}).gap
    50
    """
    for option in options:
        if option not in OPTIONS:
            raise UsageError(f"optimizer {name!r} has no option {option!r}; it has: {', '.join(OPTIONS)}")
    return replace(preset, **options)
