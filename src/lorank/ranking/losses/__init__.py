"""Ranking losses: pure functions of (scores, labels, mask, weights) on [batch, list].

One loss a file; importing the package imports every file in it, so ``LOSSES`` and the catalogue are full.
Every loss is permutation-equivariant, masked places have no influence whatever they hold, lists without two
different labels give 0, half precision is computed in float32, and the result is the mean over the lists that
carry signal (see :mod:`lorank.ranking.losses.core.lists`).
"""

import importlib
import pkgutil

from lorank import plugins
from lorank.ranking.losses.core.registry import (
    ALIASES,
    EXTRAS,
    LOSSES,
    Loss,
    loss,
    loss_options,
    register_loss,
    requirements_of,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
plugins.load()

__all__ = ["ALIASES", "EXTRAS", "LOSSES", "Loss", "loss", "loss_options", "register_loss", "requirements_of"]
