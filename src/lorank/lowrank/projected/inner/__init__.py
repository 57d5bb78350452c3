"""Inner rules: how a gradient in the subspace becomes a direction; one file a rule."""

from lorank.lowrank.projected.inner import adafactor, adamw, low_bit
from lorank.lowrank.projected.inner.inner import INNERS, Inner, storage_dtype

__all__ = ["INNERS", "Inner", "adafactor", "adamw", "low_bit", "storage_dtype"]
