r"""What becomes of the moments when the subspace changes from P to P'.

    kept      M stays as it is, now read in the new basis (GaLore)
    reset     M = V = 0, and the bias correction begins anew (FRUGAL)
    rotated   M <- C M,  V <- (C o C) V,  C = P'^T P (Flora for M; LDAdam)

C o C is the square by entry: the second moments of C R, were the rows of R uncorrelated.
"""

from collections.abc import Callable

from torch import Tensor

from lorank.lowrank.projected.inner.inner import Inner
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry

Transport = Callable[[Inner, State, Tensor, Tensor], None]
"""From the inner rule, the state, the new basis and the old one: the moments are changed in place."""

MOMENTS: dict[str, Transport] = {}
"""Every way under its name."""


@entry(MOMENTS, "kept")
def keep(inner: Inner, state: State, new: Tensor, old: Tensor) -> None:
    """Leave the moments as they are."""


@entry(MOMENTS, "reset")
def reset(inner: Inner, state: State, new: Tensor, old: Tensor) -> None:
    """Begin the moments anew."""
    inner.reset(state)


@entry(MOMENTS, "rotated")
def rotate(inner: Inner, state: State, new: Tensor, old: Tensor) -> None:
    """Move the moments into the new basis."""
    inner.rotate(state, new.t() @ old)
