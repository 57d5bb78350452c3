"""The catalogue: every registered method under its published name, and how all of them are loaded."""

import importlib

from lorank import index, plugins
from lorank.registration import METHODS, Method, T, catalogued, enter_method, methods


def load_all() -> None:
    """Import every room that registers a method, and the plugins: then the catalogue and all registries are full."""
    for module in index.modules():
        importlib.import_module(module)
    plugins.load()


__all__ = ["METHODS", "Method", "T", "catalogued", "enter_method", "load_all", "methods"]
