"""Scorers: (query, documents) -> scores. BM25, features, bi-encoder, cross-encoder, causal LM."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lorank import plugins
from lorank.ranking.scorers.ranker import Documents, Ranked, Ranker, TrainableRanker

if TYPE_CHECKING:
    from lorank.ranking.scorers.bi_encoder import BiEncoder
    from lorank.ranking.scorers.bm25 import BM25
    from lorank.ranking.scorers.both_ways import BothWays
    from lorank.ranking.scorers.causal import CausalRanker
    from lorank.ranking.scorers.cross_encoder import CrossEncoder
    from lorank.ranking.scorers.features import FeatureRanker
    from lorank.ranking.scorers.features.trees import TreeRanker
    from lorank.ranking.scorers.pyramid import PyramidEncoder

    RANKERS: dict[str, type[Any]]

_HOME_OF = {
    "BM25": "bm25",
    "BiEncoder": "bi_encoder",
    "BothWays": "both_ways",
    "CausalRanker": "causal",
    "CrossEncoder": "cross_encoder",
    "FeatureRanker": "features",
    "ReplyRanker": "replies",
    "PyramidEncoder": "pyramid",
    "TreeRanker": "features.trees",
}
_KINDS = {
    "bi-encoder": "BiEncoder",
    "causal": "CausalRanker",
    "cross-encoder": "CrossEncoder",
    "features": "FeatureRanker",
    "pyramid": "PyramidEncoder",
    "replies": "ReplyRanker",
    "trees": "TreeRanker",
}

__all__ = [
    "BM25",
    "RANKERS",
    "BiEncoder",
    "BothWays",
    "CausalRanker",
    "CrossEncoder",
    "Documents",
    "FeatureRanker",
    "PyramidEncoder",
    "Ranked",
    "Ranker",
    "ReplyRanker",
    "TrainableRanker",
    "TreeRanker",
]


def enter_scorer(name: str) -> Callable[[type], type]:
    """Decorate a TrainableRanker to enter it in ``RANKERS`` under ``name``, which becomes its ``kind``."""

    def enter(ranker: type) -> type:
        ranker.kind = name  # type: ignore[attr-defined]
        __getattr__("RANKERS")[name] = ranker
        return ranker

    return enter


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    if name == "RANKERS":
        if name not in globals():
            globals()[name] = {kind: __getattr__(owner) for kind, owner in _KINDS.items()}
            plugins.load()
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
