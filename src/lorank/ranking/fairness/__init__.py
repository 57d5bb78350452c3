"""Fairness: what place groups get in ranked lists, how well groups of queries are served, and what it costs to change
it.

Names load when first used.
"""

import importlib
from typing import Any

_MODULES = ("exposure", "prefixes")

_HOME_OF = {
    "FAIRNESS_MEASURES": "measure",
    "measure_fairness": "measure",
    "rerank_fairly": "reranking",
    "generate_ranking": "generator",
    "quality_gaps": "gaps",
    "allocate": "equitable_sampling",
    "Aranyani": "aranyani",
    "PromptEliminator": "pfrec",
    "guess_attribute": "pfrec",
    "train_prompt": "pfrec",
    "road_weights": "road",
}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        for module in _MODULES if name == "FAIRNESS_MEASURES" else ():
            importlib.import_module(f"{__name__}.{module}")
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
