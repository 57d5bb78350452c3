"""The tuned ranker: first stage, mix, adapter; how one is opened, rewritten, exported and run over many machines."""

import importlib
from pathlib import Path
from typing import Any

_HOME_OF = {
    "TunedRanker": "lorank.tuned.ranker",
    "rerank_run": "lorank.tuned.ranker",
    "FirstStage": "lorank.tuned.first_stage",
    "Mix": "lorank.tuned.mix",
}

__all__ = [*_HOME_OF, "load_ranker"]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'lorank.tuned' has no attribute {name!r}")


def load_ranker(folder: str | Path) -> Any:
    """Load a tuned ranker from the folder that training wrote (a run folder, or its ``model/``)."""
    from lorank.tuned.ranker import TunedRanker

    return TunedRanker.load(folder)
