"""Consensus: many orders, duels or scores to one order.

One rule (or close family) a file; importing the package imports every file in it, so ``RULES`` and the catalogue
are full. A rule takes a ``Profile`` and returns a score for each item; ties, weights and missing entries are legal.
"""

import importlib
import pkgutil

from lorank import plugins
from lorank.ranking.consensus.profile import Profile, from_counts, from_duels, from_rankings, from_table
from lorank.ranking.consensus.rules import (
    ALIASES,
    RULES,
    Consensus,
    aggregate,
    aggregate_runs,
    as_profile,
    rule,
    rule_options,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
plugins.load()

__all__ = [
    "ALIASES",
    "RULES",
    "Consensus",
    "Profile",
    "aggregate",
    "aggregate_runs",
    "as_profile",
    "from_counts",
    "from_duels",
    "from_rankings",
    "from_table",
    "rule",
    "rule_options",
]
