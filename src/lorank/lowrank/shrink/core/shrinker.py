"""The registry of shrinking methods: what each makes of a weight, and what it looks at."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError, unknown_name
from lorank.lowrank.shrink.core.decomposition import Decomposition
from lorank.lowrank.shrink.core.moments import Moments


@dataclass(frozen=True)
class Weight:
    """What a method is given: W [out, in] in float64, the moments of its inputs where it asks for them, a generator.

    A table of vectors comes as its transpose, W [dim, rows], with the frequencies of its rows.
    """

    matrix: Tensor
    moments: Moments | None
    generator: torch.Generator
    table: bool = False


Decompose = Callable[..., Decomposition]
Member = TypeVar("Member", bound=Decompose)


@dataclass(frozen=True)
class Shrinker:
    """A shrinking method.

    Args:
        name: Its name.
        decompose: It takes a ``Weight`` and the method's own options.
        calibrated: Whether it looks at inputs.
        ranks: How it chooses ranks where nothing else is said.
        tables: Whether it also shrinks tables of vectors.
        grid: The grid on which the weight stays, with the factors added; None where they take its place.
        rank: The rank of all layers where neither ratio nor rank is stated; None where a ratio decides.
    """

    name: str
    decompose: Decompose
    calibrated: bool = False
    ranks: str = "uniform"
    tables: bool = False
    grid: str | None = None
    rank: int | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the method's own options."""
        return tuple(inspect.signature(self.decompose).parameters)[1:]


SHRINKERS: dict[str, Shrinker] = {}
"""Every shrinking method by its name."""


def shrinker(name: str, *, title: str, published: bool = True, **about: Any) -> Callable[[Member], Member]:
    """Decorate the function that decomposes a weight to register it, and enter it in the catalogue.

    Args:
        name: The name of the method, its catalogue id.
        title: The title of the paper or the idea.
        published: False keeps it out of the catalogue.
        about: The further fields of ``Shrinker``.
    """

    def enter(decompose: Member) -> Member:
        SHRINKERS[name] = Shrinker(name, decompose, **about)
        return catalogued(name, area="compress", title=title)(decompose) if published else decompose

    return enter


def shrinker_named(name: str, options: dict[str, Any]) -> Shrinker:
    """Return the method called ``name``.

    Raises:
        UsageError: For an unknown method, and for an option that it does not have.

    >>> shrinker_named("svdd", {})
    Traceback (most recent call last):
    lorank.errors.UsageError: unknown shrinking method 'svdd'; did you mean 'svd'? ...
    """
    if name not in SHRINKERS:
        raise unknown_name("shrinking method", name, SHRINKERS)
    method = SHRINKERS[name]
    for option in options:
        if option not in method.options:
            known = f"known: {', '.join(method.options)}" if method.options else "it has none"
            raise UsageError(f"unknown option of shrinking method {name!r}: {option!r}; {known}")
    return method
