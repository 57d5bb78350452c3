"""How factors step: one short file a rule, all on the contract of ``rule.Rule``."""

from lorank.lowrank.rules import (
    allora,
    altlora,
    bilora,
    chain_of_lora,
    coto,
    fast_forward,
    loft,
    lora_plus,
    lora_pro,
    next_extrapolation,
    polyak_momentum,
    riemannian,
)
from lorank.lowrank.rules.optimizer import optimizer
from lorank.lowrank.rules.rule import RULES, Losses, Pair, Rates, Rule, factor_pairs, make_rule, rule, rule_options

__all__ = [
    "allora",
    "altlora",
    "bilora",
    "chain_of_lora",
    "coto",
    "factor_pairs",
    "fast_forward",
    "loft",
    "lora_plus",
    "lora_pro",
    "Losses",
    "make_rule",
    "next_extrapolation",
    "optimizer",
    "Pair",
    "polyak_momentum",
    "Rates",
    "riemannian",
    "Rule",
    "rule",
    "rule_options",
    "RULES",
]
