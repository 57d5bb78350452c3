"""Low rank that comes about while a model is trained: one method a file, each usable in any loop.

compression = make_compression("trp", model, steps=1000)
optimizer = torch.optim.AdamW(compression.parameters(), lr=1e-4)
for step in range(1000):
    compression.before_step(step)
    loss = ...
    extra = compression.penalty()
    (loss if extra is None else loss + extra).backward()
    compression.after_backward()
    optimizer.step()
compression.finish()      # the final cut
compression.merge()       # plain linear layers, whose weights have the ranks that `ranks()` says
"""

import importlib
import pkgutil

from lorank.lowrank.compression.core import (
    COMPRESSIONS,
    Compression,
    compression,
    compression_options,
    make_compression,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["COMPRESSIONS", "Compression", "compression", "compression_options", "make_compression"]
