"""Post-training factorisation: one engine, methods that differ in their metric, and ways of choosing ranks."""

from lorank.lowrank.shrink import afm, als, cur, eora, lord, order_ranks, svd, welore, zeroquant_fp
from lorank.lowrank.shrink.core.ranks import POLICIES, RankProblem
from lorank.lowrank.shrink.core.shrinker import SHRINKERS, Shrinker
from lorank.lowrank.shrink.core.shrunk import Shrunk, ShrunkLayer
from lorank.lowrank.shrink.factorize import factorize

__all__ = [
    "POLICIES",
    "RankProblem",
    "SHRINKERS",
    "Shrinker",
    "Shrunk",
    "ShrunkLayer",
    "afm",
    "als",
    "cur",
    "eora",
    "factorize",
    "lord",
    "order_ranks",
    "svd",
    "welore",
    "zeroquant_fp",
]
