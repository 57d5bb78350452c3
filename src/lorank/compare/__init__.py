"""Experiments: axes over recipe keys, a ledger of runs, statistics over groups of queries, one page."""

import importlib
from typing import Any

_HOME_OF = {
    "ComparisonResult": "lorank.compare.running",
    "Experiment": "lorank.compare.experiment",
    "read_experiment": "lorank.compare.experiment_file",
    "run_experiment": "lorank.compare.running",
}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'lorank.compare' has no attribute {name!r}")
