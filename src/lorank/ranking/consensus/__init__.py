"""Consensus: many orders, duels or scores to one order.

One rule (or close family) a file; importing the package imports every file in it, so ``RULES`` and the catalogue
are full. A rule takes a ``Profile`` and returns a score for each item; ties, weights and missing entries are legal.
"""

import importlib
import pkgutil

from lorank import plugins
from lorank.ranking.consensus.frechet import frechet_mean
from lorank.ranking.consensus.multiwinner import select
from lorank.ranking.consensus.open_ended import open_ended_ratings
from lorank.ranking.consensus.profile import Profile, from_counts, from_duels, from_rankings, from_table
from lorank.ranking.consensus.random_rank import random_rank
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
from lorank.ranking.consensus.vote_n_rank import vote_n_rank

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
    "frechet_mean",
    "from_counts",
    "from_duels",
    "from_rankings",
    "from_table",
    "open_ended_ratings",
    "random_rank",
    "rule",
    "rule_options",
    "select",
    "vote_n_rank",
]
