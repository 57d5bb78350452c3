"""Advantages of policy gradients, one idea a file; importing the package fills ``ADVANTAGES``."""

import importlib
import pkgutil

from lorank.ranking.policies.advantages.registry import (
    ADVANTAGES,
    Advantage,
    Replies,
    advantage,
    compute_advantages,
    find_advantage,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["ADVANTAGES", "Advantage", "Replies", "advantage", "compute_advantages", "find_advantage"]
