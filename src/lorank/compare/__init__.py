"""Experiments: axes over recipe keys, a ledger of runs, statistics over groups of queries, one page.

The package is a function too: ``lorank.compare("experiment.toml")`` is `lorank.compare.running.run_experiment`.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorank.compare.running import ComparisonResult

_HOME_OF = {
    "ComparisonResult": "lorank.compare.running",
    "Experiment": "lorank.compare.experiment",
    "read_experiment": "lorank.compare.experiment_file",
    "run_experiment": "lorank.compare.running",
}

__all__ = list(_HOME_OF)


class _Compare(ModuleType):
    """The module, which can be called."""

    def __call__(self, source: Any, out: Any = None, **options: Any) -> "ComparisonResult":
        """Run an experiment, as `lorank.compare.running.run_experiment` does."""
        from lorank.compare.running import run_experiment

        return run_experiment(source, out, **options)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'lorank.compare' has no attribute {name!r}")


sys.modules[__name__].__class__ = _Compare
