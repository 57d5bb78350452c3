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
    """Load a tuned ranker from the folder that training wrote (a run folder, or its ``model/``), or from the Hub.

    >>> load_ranker("me/my-ranker")                                                  # doctest: +SKIP
    """
    from lorank.tuned.hub import fetch
    from lorank.tuned.ranker import TunedRanker

    if not Path(folder).exists() and str(folder).count("/") == 1:
        return TunedRanker.load(fetch(str(folder)) or folder)
    return TunedRanker.load(folder)
