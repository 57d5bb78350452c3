"""Debiasers, one a file: how clicks are weighed so that a ranker learns relevance and not position."""

from lorank.ranking.clicks.core.debiaser import ALIASES, DEBIASERS, debiaser_options, find_debiaser, make_debiaser
from lorank.ranking.clicks.debias import cet, dla, ips, none, pair, trust

__all__ = [
    "ALIASES",
    "DEBIASERS",
    "cet",
    "debiaser_options",
    "dla",
    "find_debiaser",
    "ips",
    "make_debiaser",
    "none",
    "pair",
    "trust",
]
