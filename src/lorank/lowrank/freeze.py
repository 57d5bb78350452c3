"""Which parameters were trainable before an adapter came, and what becomes of that when it goes."""

import itertools
from collections.abc import Iterable

from torch import nn

_ORDER = itertools.count()


class Freeze:
    """The ``requires_grad`` of every parameter of a model at one moment, by the module that holds it.

    Modules are kept rather than parameters, since offloading and merging put other parameters in their place.

    >>> model = nn.Linear(2, 2); freeze = Freeze(model); _ = model.requires_grad_(False)
    >>> freeze.undo([]); model.weight.requires_grad
    True
    """

    def __init__(self, model: nn.Module) -> None:
        self.order = next(_ORDER)
        self.flags = [
            (module, {name: own.requires_grad for name, own in module.named_parameters(recurse=False)})
            for module in model.modules()
            if module._parameters
        ]

    def undo(self, others: Iterable["Freeze"]) -> None:
        """Make parameters trainable as they were; those that one of the ``others`` froze later stay frozen.

        The later one then remembers the state of now, as if this freeze had never been: adapters may be taken off a
        model in any order.
        """
        later = sorted((other for other in others if other.order > self.order), key=lambda other: other.order)
        heirs: dict[int, dict[str, bool]] = {}
        for other in later:
            for module, flags in other.flags:
                heirs.setdefault(id(module), flags)
        for module, flags in self.flags:
            heir = heirs.get(id(module))
            for name, flag in flags.items():
                parameter = module._parameters.get(name)
                if heir is not None and name in heir:
                    heir[name] = flag
                elif parameter is not None:
                    parameter.requires_grad_(flag)
