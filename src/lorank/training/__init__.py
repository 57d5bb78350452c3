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
    "FirstStageSettings": "lorank.training.settings",
    "Hook": "lorank.training.hooks.hook",
    "Progress": "lorank.training.hooks.hook",
    "TunedRanker": "lorank.tuned.ranker",
    "rerank_run": "lorank.tuned.ranker",
    "load_ranker": "lorank.tuned",
    "read_recipe": "lorank.training.recipe",
}

__all__ = list(_HOME_OF)


OLD_NAMES = {"OffsetSettings": "lorank.training.settings"}
"""Names of 0.1, which their module answers with a warning."""


def __getattr__(name: str) -> Any:
    home = {**_HOME_OF, **OLD_NAMES}.get(name)
    if home is not None:
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'lorank.training' has no attribute {name!r}")
