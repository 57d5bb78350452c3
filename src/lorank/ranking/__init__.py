"""The ranking wing: how an order is scored, learned, sorted, merged and judged.

Names load when first used, so importing this package costs nothing.
"""

import importlib
from typing import Any

from lorank.ranking.types import Qrels, Run

_HOME_OF = {
    "loss": "lorank.ranking.losses",
    "loss_options": "lorank.ranking.losses",
    "LOSSES": "lorank.ranking.losses",
    "evaluate": "lorank.ranking.metrics",
    "per_query": "lorank.ranking.metrics",
    "Evaluation": "lorank.ranking.metrics",
    "aggregate": "lorank.ranking.consensus",
    "aggregate_runs": "lorank.ranking.consensus",
    "Consensus": "lorank.ranking.consensus",
    "Profile": "lorank.ranking.consensus",
    "rerank": "lorank.ranking.strategies",
    "Reranked": "lorank.ranking.strategies",
    "STRATEGIES": "lorank.ranking.strategies",
    "Oracle": "lorank.ranking.judges",
}

__all__ = [
    "Consensus",
    "Evaluation",
    "LOSSES",
    "Oracle",
    "Profile",
    "Qrels",
    "Reranked",
    "Run",
    "STRATEGIES",
    "aggregate",
    "aggregate_runs",
    "evaluate",
    "loss",
    "loss_options",
    "per_query",
    "rerank",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'lorank.ranking' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
