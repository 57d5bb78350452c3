"""Training: one loop for every ranker, adapter and loss, and the tuned ranker that comes out of it."""

import importlib
from pathlib import Path
from typing import Any

_HOME_OF = {
    "fit": "lorank.training.fitting",
    "Recipe": "lorank.training.settings",
    "AdapterSettings": "lorank.training.settings",
    "LossSettings": "lorank.training.settings",
    "ListSettings": "lorank.training.settings",
    "OptimizerSettings": "lorank.training.settings",
    "OffsetSettings": "lorank.training.settings",
    "Hook": "lorank.training.hooks",
    "Progress": "lorank.training.hooks",
    "TunedRanker": "lorank.training.tuned",
    "rerank_run": "lorank.training.tuned",
    "read_recipe": "lorank.training.recipe",
}

__all__ = [*_HOME_OF, "load_ranker"]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'lorank.training' has no attribute {name!r}")


def load_ranker(folder: str | Path) -> Any:
    """Load a tuned ranker from the folder that training wrote (a run folder, or its ``model/``)."""
    from lorank.training.tuned import TunedRanker

    return TunedRanker.load(folder)
