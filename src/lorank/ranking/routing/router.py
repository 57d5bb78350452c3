"""The contract of routers: fitted on a table, they choose an arm for each query under a price."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lorank.errors import DataError, UsageError, unknown_name
from lorank.ranking.routing.table import RoutingTable

ROUTERS: dict[str, type["Router"]] = {}
"""Routers by name; filled by ``router``."""
MODULES = ("a2fm", "c_3po", "expertise_trees", "llm_bandit", "ltrr", "mba_rag")
FILE = "router.safetensors"
Kind = TypeVar("Kind", bound="type[Router]")


class Router(ABC):
    """A choice of arms that is learned from a table and kept as arrays."""

    name: ClassVar[str]

    @abstractmethod
    def fit(self, table: RoutingTable, price: float, rng: np.random.Generator) -> None:
        """Learn from a table.

        Args:
            table: What each arm gave and cost.
            price: What a unit of cost takes from quality, 0 or more.
            rng: The source of the draws.
        """

    @abstractmethod
    def choose(self, features: np.ndarray, price: float) -> np.ndarray:
        """Return the arm of each query, int64 [queries], from its features [queries, features]."""

    def state(self) -> dict[str, np.ndarray]:
        """Return what was learned, as arrays."""
        return {}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what ``state`` gave."""

    def save(self, folder: Path) -> None:
        """Write what was learned into an existing folder."""
        arrays = {name: np.ascontiguousarray(value) for name, value in self.state().items()}
        save_file(arrays, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote; raise DataError where it is missing or damaged."""
        try:
            self.load_state(load_file(folder / FILE))
        except (OSError, SafetensorError, KeyError) as error:
            raise DataError(folder / FILE, None, f"the router cannot be read ({error})", "train it again") from error


def router(name: str) -> Callable[[Kind], Kind]:
    """Decorate a router to enter it in ``ROUTERS`` under ``name``."""

    def enter(kind: Kind) -> Kind:
        kind.name = name
        ROUTERS[name] = kind
        return kind

    return enter


def make_router(name: str, **options: Any) -> Router:
    """Return the router called ``name``; raise UsageError for a name or an option that is not known."""
    import importlib

    for module in MODULES:
        importlib.import_module(f"lorank.ranking.routing.{module}")
    if name not in ROUTERS:
        raise unknown_name("router", name, ROUTERS)
    try:
        return ROUTERS[name](**options)
    except TypeError as error:
        raise UsageError(f"router {name!r}: {error}") from error
