"""A module that stands in the place of another one: its hooks, its attributes, and which adapters froze the model.

Hooks that users put on the module before it was wrapped see the whole layer, with what was added to it, as they saw
the whole layer before; so they move to the wrapper, and back when it goes.
"""

from collections import OrderedDict
from typing import Any

from torch import nn

from lorank.lowrank.freeze import Freeze

HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
"""Where ``nn.Module`` keeps the hooks of its call; handles hold on to these very dictionaries."""


class Wrapped(nn.Module):
    """A module around ``base``; public attributes that it lacks are the base's."""

    def __init__(self, base: nn.Module, hooked: nn.Module | None = None) -> None:
        super().__init__()
        self.base = base
        self.freezes: dict[str, Freeze] = {}
        self.training = base.training
        move_hooks(hooked or base, self)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            base = self.__dict__.get("_modules", {}).get("base")
            if base is None or name.startswith("_"):
                raise
            return getattr(base, name)


def move_hooks(source: nn.Module, target: nn.Module) -> None:
    """Move the call's hooks of ``source`` to ``target``, which has none; their handles keep working."""
    for name in HOOKS:
        if name in source.__dict__:
            target.__dict__[name] = source.__dict__[name]
            source.__dict__[name] = OrderedDict()
    target._is_full_backward_hook, source._is_full_backward_hook = source._is_full_backward_hook, None


def freezes_of(model: nn.Module) -> list[Freeze]:
    """Return the freezes of the adapters that are on ``model``."""
    found = (own for module in model.modules() if isinstance(module, Wrapped) for own in module.freezes.values())
    return list({id(own): own for own in found}.values())
