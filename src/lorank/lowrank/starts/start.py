"""The contract of every start: where the tensors of a form stand before the first step."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

from torch import Tensor

from lorank.errors import unknown_name
from lorank.lowrank.forms.form import Form, Site

Statistics = Mapping[str, Tensor]
"""What one calibration pass saw at one layer, by kind: ``"inputs"`` [n, in] at real tokens, the mean
``"gradient"`` [out, in] of W, ``"fisher"``, ..."""


class Start(ABC):
    """Fills a form from W and, if it says so in ``needs``, from one calibration pass."""

    lr: ClassVar[float | None] = None
    """The learning rate that suits factors which begin here; None is the form's own: see ``lowrank.rates``."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """The kinds of statistics that ``fill`` and ``ranks`` read."""

    keeps_output: ClassVar[bool] = True
    """True where the adapted model starts with the base model's output."""

    @abstractmethod
    def suits(self, form: type[Form]) -> bool:
        """Return whether this start can fill ``form``."""

    @abstractmethod
    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        """Set the tensors of ``form``, which stands at its zero start; draws come from ``site.generator``."""

    def ranks(self, sites: Sequence[Site], statistics: Mapping[str, Statistics]) -> dict[str, int] | None:
        """Return ranks by path where the start redistributes them (before any form is built), else None."""
        return None


STARTS: dict[str, Start] = {}
"""Every start under its name."""

StartType = TypeVar("StartType", bound=type[Start])


def start(name: str) -> Callable[[StartType], StartType]:
    """Decorate a Start to register it under ``name``."""

    def enter(cls: StartType) -> StartType:
        STARTS[name] = cls()
        return cls

    return enter


def start_named(name: str, options: Mapping[str, object] | None = None) -> Start:
    """Return the start called ``name``, with its own ``options`` set.

    Raises:
        UsageError: For an unknown start, and for an option that it does not have.

    >>> start_named("eva", {"rho": 3.0}).rho
    3.0
    >>> start_named("eva", {"roh": 3.0})
    Traceback (most recent call last):
    lorank.errors.UsageError: unknown option of start 'eva': 'roh'; did you mean 'rho'? known: rho
    """
    known = start_options(name)
    for option in options or ():
        if option not in known:
            raise unknown_name(f"option of start {name!r}:", option, known)
    return type(STARTS[name])(**options) if options else STARTS[name]


def start_options(name: str) -> tuple[str, ...]:
    """Return the names of the options of the start called ``name``.

    >>> start_options("eva"), start_options("zero")
    (('rho',), ())
    """
    if name not in STARTS:
        raise unknown_name("start", name, STARTS)
    kind = type(STARTS[name])
    return () if kind.__init__ is object.__init__ else tuple(inspect.signature(kind).parameters)
