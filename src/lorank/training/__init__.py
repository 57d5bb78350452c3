"""Training: one loop for every ranker, adapter and loss, and the tuned ranker that comes out of it."""

import importlib
from typing import Any

_HOME_OF = {
    "fit": "lorank.training.fitting",
    "Recipe": "lorank.training.settings",
    "AdapterSettings": "lorank.training.settings",
    "LossSettings": "lorank.training.settings",
    "ListSettings": "lorank.training.settings",
    "OptimizerSettings": "lorank.training.settings",
    "OffsetSettings": "lorank.training.settings",
    "Hook": "lorank.training.hooks.hook",
    "Progress": "lorank.training.hooks.hook",
    "TunedRanker": "lorank.tuned.ranker",
    "rerank_run": "lorank.tuned.ranker",
    "load_ranker": "lorank.tuned",
    "read_recipe": "lorank.training.recipe",
}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'lorank.training' has no attribute {name!r}")
