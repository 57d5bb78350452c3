"""Robustness: texts disturbed in the ways of users and attackers, how far a ranker moves, and what it certainly keeps.

Names load when first used.
"""

import importlib
from typing import Any

_MODULES = ("attacks", "noise", "rewordings")

_HOME_OF = {
    "PERTURBATIONS": "perturbation",
    "Perturbation": "perturbation",
    "perturb": "perturbation",
    "drop_rate": "stability",
    "compare_lists": "stability",
    "rank_list_sensitivity": "stability",
    "certify": "certdr",
    "most_influential": "casper",
    "format_spread": "formatspread",
    "PromptFormat": "prompt_formats",
}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        for module in _MODULES if name == "PERTURBATIONS" else ():
            importlib.import_module(f"{__name__}.{module}")
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
