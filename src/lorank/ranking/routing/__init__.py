"""Routing: which retriever, ranker or model serves a query, where each has its price.

Names load when first used.
"""

import importlib
from typing import Any

_HOME_OF = {
    "ROUTERS": "router",
    "Router": "router",
    "make_router": "router",
    "RoutingTable": "table",
    "make_bandit": "bandits",
    "play": "bandits",
    "BanditRouter": "mba_rag",
    "ThreeRoles": "c_3po",
    "PreferenceRouter": "llm_bandit",
    "ExpertiseTree": "expertise_trees",
    "two_level_search": "autorag_hp",
    "query_features": "features",
    "run_features": "features",
}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
