"""Interleavings of two rankings, one a file."""

from lorank.ranking.clicks.core.interleave import INTERLEAVINGS, Interleaved, Preference, interleave, preference
from lorank.ranking.clicks.interleaving import optimised, probabilistic, team_draft

__all__ = [
    "INTERLEAVINGS",
    "Interleaved",
    "Preference",
    "interleave",
    "optimised",
    "preference",
    "probabilistic",
    "team_draft",
]
