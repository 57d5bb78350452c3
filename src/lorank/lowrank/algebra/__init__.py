"""Adapters added, averaged, squeezed, composed and made: on their factors, never dense where avoidable."""

from lorank.lowrank.algebra.adarank import AdaRanked, adarank, list_entropy
from lorank.lowrank.algebra.combine import COMBINATIONS, combine, combine_heads
from lorank.lowrank.algebra.expressive import reach, sufficient_rank
from lorank.lowrank.algebra.factors import add, decompose, dense_update, fold_scale, inner, plain_lora, scale, truncate
from lorank.lowrank.algebra.generation import AdapterGenerator
from lorank.lowrank.algebra.pruned import feed_forward_pairs, prune_units, recover
from lorank.lowrank.algebra.sets import FactorSet, attach_factors, factors_of, heads_of
from lorank.lowrank.algebra.skills import Context, SkillLibrary
from lorank.lowrank.algebra.sparse import SparseUpdate
from lorank.lowrank.algebra.squeeze import lost_shares, squeeze
from lorank.lowrank.algebra.subspaces import project, recycle

__all__ = [
    "COMBINATIONS",
    "AdaRanked",
    "AdapterGenerator",
    "Context",
    "FactorSet",
    "SkillLibrary",
    "SparseUpdate",
    "adarank",
    "add",
    "attach_factors",
    "combine",
    "combine_heads",
    "decompose",
    "dense_update",
    "factors_of",
    "feed_forward_pairs",
    "fold_scale",
    "heads_of",
    "inner",
    "list_entropy",
    "lost_shares",
    "plain_lora",
    "project",
    "prune_units",
    "reach",
    "recover",
    "recycle",
    "scale",
    "squeeze",
    "sufficient_rank",
    "truncate",
]
