"""How the advantage of a reply is shared among its tokens, one way a file; importing the package fills ``CREDITS``."""

import importlib
import pkgutil

from lorank.ranking.policies.credits.registry import CREDITS, Credit, Reply, credit, find_credit

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["CREDITS", "Credit", "Reply", "credit", "find_credit"]
