"""The registry of networks that score feature rows."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lorank.errors import unknown_name


@dataclass(frozen=True)
class Network:
    """How a network is built, and whether a document's score depends on the others of its list.

    ``build(features, generator, **options)`` gives a module that maps rows [..., features] to [..., 1], or, where it
    looks ``across`` the list, (rows [batch, list, features], mask [batch, list]) to scores [batch, list].
    """

    build: Callable[..., nn.Module]
    across: bool

    @property
    def options(self) -> Mapping[str, Any]:
        """The network's own options and their defaults."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


NETWORKS: dict[str, Network] = {}
"""Every registered network by name."""


def register_network(name: str, *, across: bool = False) -> Callable[[Callable[..., nn.Module]], Callable]:
    """Decorate a builder to enter it in ``NETWORKS`` under ``name``."""

    def enter(build: Callable[..., nn.Module]) -> Callable:
        NETWORKS[name] = Network(build, across)
        return build

    return enter


def find_network(name: str, options: Mapping[str, Any]) -> Network:
    """Return the network called ``name``; raise UsageError for an unknown name or option."""
    if name not in NETWORKS:
        raise unknown_name("feature model", name, NETWORKS)
    known = NETWORKS[name].options
    for option in options:
        if option not in known:
            raise unknown_name(f"option of feature model {name!r}:", option, known)
    return NETWORKS[name]
