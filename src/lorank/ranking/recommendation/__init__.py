"""Recommendation: the items that a user chooses next, from those that were chosen before.

Names load when first used.
"""

import importlib
from typing import Any

_HOME_OF = {
    "Recommender": "recommender",
    "best_items": "recommender",
    "next_item_measures": "recommender",
    "padded": "recommender",
    "SASRec": "sasrec",
    "SequenceSettings": "sasrec",
    "sequence_loss": "sasrec",
    "AdaRetrieval": "ada_retrieval",
    "rounds_loss": "ada_retrieval",
}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
