"""Post-training factorisation: one engine, methods that differ in their metric, and ways of choosing ranks."""

from lorank.lowrank.shrink import (
    afm,
    als,
    completion,
    cur,
    dynamic_attention,
    eora,
    flashbias,
    lord,
    order_ranks,
    svd,
    welore,
    zeroquant_fp,
)
from lorank.lowrank.shrink.core.ranks import POLICIES, RankProblem
from lorank.lowrank.shrink.core.shrinker import SHRINKERS, Shrinker
from lorank.lowrank.shrink.core.shrunk import Shrunk, ShrunkLayer
from lorank.lowrank.shrink.factorize import factorize
from lorank.lowrank.shrink.tales import KERNELS, approximate

__all__ = [
    "KERNELS",
    "POLICIES",
    "RankProblem",
    "SHRINKERS",
    "Shrinker",
    "Shrunk",
    "ShrunkLayer",
    "afm",
    "als",
    "approximate",
    "completion",
    "cur",
    "dynamic_attention",
    "eora",
    "factorize",
    "flashbias",
    "lord",
    "order_ranks",
    "svd",
    "welore",
    "zeroquant_fp",
]
