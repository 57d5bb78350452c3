"""Refresh policies: when a projector is found anew."""

from lorank.lowrank.projected.refresh import lazy
from lorank.lowrank.projected.refresh.refresh import REFRESHES, Refresh

__all__ = ["REFRESHES", "Refresh", "lazy"]
