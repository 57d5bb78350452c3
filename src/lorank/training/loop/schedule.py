"""Learning-rate schedules: linear warm-up from 0, then decay to 0."""

import math
from collections.abc import Callable

DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda t: 1.0 - t,
    "cosine": lambda t: 0.5 * (1.0 + math.cos(math.pi * t)),
    "none": lambda t: 1.0,
}


def rate_factor(step: float, steps: int, warmup: float, decay: str) -> float:
    """Return the factor on the learning rate at ``step`` (0-based) of ``steps``.

    factor = (step + 1) / w for step < w, then decay((step - w) / (steps - w)), with w = round(warmup * steps).

    Args:
        step: The step, counted from 0; between two steps where time runs ahead of them.
        steps: The number of steps of the run, 1 or more.
        warmup: The share of the steps, from 0 to 1, in which the rate rises.
        decay: The name of the decay: ``linear``, ``cosine`` or ``none``.

    >>> [round(rate_factor(s, 10, 0.2, "linear"), 3) for s in range(10)]
    [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    """
    warm = round(warmup * steps)
    if step < warm:
        return min(1.0, (step + 1) / warm)
    return DECAYS[decay]((step - warm) / max(1, steps - warm))
