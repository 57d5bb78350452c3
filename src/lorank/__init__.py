"""lorank: learn to rank with low-rank models.

Nothing heavy is imported here: torch and the wings load when a name is first used.
"""

import importlib
from typing import Any

from lorank import moved

__version__ = "0.1.0"

moved.install()

_HOME_OF = {
    "load": "lorank.data",
    "fit": "lorank.training",
    "evaluate": "lorank.ranking.metrics",
    "BM25": "lorank.ranking.scorers",
    "BiEncoder": "lorank.ranking.scorers",
    "CausalRanker": "lorank.ranking.scorers",
    "CrossEncoder": "lorank.ranking.scorers",
    "FeatureRanker": "lorank.ranking.scorers",
    "TreeRanker": "lorank.ranking.scorers",
    "load_ranker": "lorank.tuned",
}

__all__ = [
    "BM25",
    "BiEncoder",
    "CausalRanker",
    "CrossEncoder",
    "FeatureRanker",
    "TreeRanker",
    "evaluate",
    "fit",
    "load",
    "load_ranker",
    "lowrank",
    "ranking",
]


def __getattr__(name: str) -> Any:
    if name in ("lowrank", "ranking"):
        return importlib.import_module(f"lorank.{name}")
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'lorank' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
