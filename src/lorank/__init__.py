"""lorank: learn to rank with low-rank models.

Nothing heavy is imported here: torch and the wings load when a name is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from lorank import moved

if TYPE_CHECKING:
    from lorank.catalogue import Method

__version__ = "0.2.0"

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

_DECORATORS = (
    "form",
    "start",
    "budget",
    "rule",
    "loss",
    "strategy",
    "consensus",
    "scorer",
    "feature_model",
    "click_model",
    "propensity",
    "debiaser",
    "estimator",
    "interleaving",
    "calibrator",
    "normalisation",
    "perturbation",
    "fairness_measure",
)
"""One decorator per family of methods, see `lorank.plugins`."""

__all__ = [
    "BM25",
    "BiEncoder",
    "CausalRanker",
    "CrossEncoder",
    "FeatureRanker",
    "TreeRanker",
    "compare",
    "evaluate",
    "fit",
    "load",
    "load_ranker",
    "lowrank",
    "methods",
    "ranking",
    *_DECORATORS,
]


def methods(area: str | None = None) -> "list[Method]":
    """Return every catalogued method, plugins included, of one area or of all; the rooms are imported for it.

    >>> [method.id for method in methods("adapters.optim")][:3]
    ['allora', 'altlora', 'bilora']
    """
    from lorank import catalogue

    catalogue.load_all()
    return catalogue.methods(area)


def __getattr__(name: str) -> Any:
    if name in ("compare", "lowrank", "ranking"):
        return importlib.import_module(f"lorank.{name}")
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    if name in _DECORATORS:
        from lorank import plugins

        globals()[name] = plugins.decorator(name)
        return globals()[name]
    raise AttributeError(f"module 'lorank' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
