"""How often the replies of one draw are learned from, one way a file; importing the package fills ``REUSES``."""

import importlib
import pkgutil

from lorank.ranking.policies.reuse.registry import REUSES, DataReuse, data_reuse, make_reuse

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["REUSES", "DataReuse", "data_reuse", "make_reuse"]
