"""Estimators of a new policy's worth from an old log, one a file, and of a randomised trial."""

from lorank.ranking.clicks.core.estimate import ESTIMATORS, Estimate, LoggedRows, estimate
from lorank.ranking.clicks.estimators import doubly_robust, ips, position, reshuffling, snips

__all__ = [
    "ESTIMATORS",
    "Estimate",
    "LoggedRows",
    "doubly_robust",
    "estimate",
    "ips",
    "position",
    "reshuffling",
    "snips",
]
