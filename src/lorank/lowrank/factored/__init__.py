"""Layers that are low rank from the start, and trained weights turned into them; one kind a file.

factored = make_factored(model, "sltrain", rank=0.5)      # in the place of the model's linear layers
optimizer = factored.optimizer(lr=3e-3)
...                                                       # backward, optimizer.step()
factored.after_step(step, steps, optimizer)
factored.merge()                                          # plain linear layers again
"""

import importlib
import pkgutil

from lorank.lowrank.factored.core.files import open_factored, save_factored
from lorank.lowrank.factored.core.layer import (
    FACTORED,
    FactoredLayer,
    break_even,
    factored,
    factored_kind,
    factored_options,
)
from lorank.lowrank.factored.core.model import Factored, LayerSize
from lorank.lowrank.factored.core.replacing import make_factored
from lorank.lowrank.factored.core.row_adamw import RowAdamW

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "FACTORED",
    "Factored",
    "FactoredLayer",
    "LayerSize",
    "RowAdamW",
    "break_even",
    "factored",
    "factored_kind",
    "factored_options",
    "make_factored",
    "open_factored",
    "save_factored",
]
