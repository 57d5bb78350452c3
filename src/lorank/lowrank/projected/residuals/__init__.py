"""Residual rules: what becomes of the gradient outside of the subspace; one file a rule."""

from lorank.lowrank.projected.residuals import channel, companion, current, fira, sign
from lorank.lowrank.projected.residuals.residual import RESIDUALS, Parts, Residual

__all__ = ["RESIDUALS", "Parts", "Residual", "channel", "companion", "current", "fira", "sign"]
