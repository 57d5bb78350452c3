"""How a step enters a weight; one file a way."""

from lorank.lowrank.projected.weights import int8, normalised, truncated
from lorank.lowrank.projected.weights.plain import WEIGHTS, PlainWeight, check_rounding

__all__ = ["WEIGHTS", "PlainWeight", "check_rounding", "int8", "normalised", "truncated"]
