"""The catalogue: every registered method under its published name, and how all of them are loaded."""

import importlib
import inspect
from typing import Any

from lorank import index, plugins
from lorank.errors import unknown_name
from lorank.registration import METHODS, Method, T, catalogued, enter_method, methods


def load_all() -> None:
    """Import every room that registers a method, and the plugins: then the catalogue and all registries are full."""
    for module in index.modules():
        importlib.import_module(module)
    plugins.load()


def load_named(family: str, name: str) -> Any:
    """Return what is registered as ``name`` in ``family``, importing the one module that does it.

    Raises:
        UsageError: For a name that the family does not have.
    """
    for each in index.registrations():
        if each.family == family and each.name == name:
            return getattr(importlib.import_module(each.module), each.target)
    raise unknown_name(index.WORDS.get(family, family), name, index.names(family))


def named_options(family: str, name: str) -> tuple[str, ...]:
    """Return the names of the options of a registered class: the keyword arguments that make it.

    >>> named_options("continual", "sequential")
    ()
    """
    given = inspect.signature(load_named(family, name)).parameters.values()
    return tuple(each.name for each in given if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD))


__all__ = ["METHODS", "Method", "T", "catalogued", "enter_method", "load_all", "load_named", "methods", "named_options"]
