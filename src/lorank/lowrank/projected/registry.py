"""The families of choices, each a dictionary from a name to its class, filled by ``entry``."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from lorank.errors import unknown_name

T = TypeVar("T")


def entry(registry: dict[str, T], name: str) -> Callable[[T], T]:
    """Decorate a class or function to enter it in ``registry`` under ``name``."""

    def enter(thing: T) -> T:
        registry[name] = thing
        return thing

    return enter


def find(kind: str, registry: Mapping[str, T], name: str) -> T:
    """Return what ``registry`` holds under ``name``.

    >>> find("projector", {"svd": 1}, "svdd")
    Traceback (most recent call last):
    lorank.errors.UsageError: unknown projector 'svdd'; did you mean 'svd'? known: svd
    """
    if name not in registry:
        raise unknown_name(kind, name, registry)
    return registry[name]
