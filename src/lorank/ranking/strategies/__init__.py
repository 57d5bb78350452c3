"""Reranking strategies: comparisons in, an order out. One strategy a file.

Importing the package registers them all.
"""

import importlib
import pkgutil

from lorank import plugins
from lorank.ranking.strategies.anncur import CurIndex
from lorank.ranking.strategies.e2rank import e2rank
from lorank.ranking.strategies.promptreps import PromptReps
from lorank.ranking.strategies.registry import (
    ALIASES,
    MODEL_STRATEGIES,
    STRATEGIES,
    Ordered,
    Standing,
    Strategy,
    register_model_strategy,
    register_strategy,
    strategy_options,
)
from lorank.ranking.strategies.reranking import Reranked, rerank

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
plugins.load()

__all__ = [
    "ALIASES",
    "CurIndex",
    "MODEL_STRATEGIES",
    "Ordered",
    "PromptReps",
    "STRATEGIES",
    "Reranked",
    "Standing",
    "Strategy",
    "e2rank",
    "register_model_strategy",
    "register_strategy",
    "rerank",
    "strategy_options",
]
