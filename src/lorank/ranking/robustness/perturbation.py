"""The registry of perturbations: functions from a text to a text that says, or pretends to say, the same.

A perturbation of queries stands for what users write; one of documents for what their authors, scanners or attackers
do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lorank.errors import unknown_name

Target = Literal["query", "document"]


@dataclass(frozen=True)
class Around:
    """What a perturbation may use beside the text: the ``query`` that an attacker aims at, and a table of synonyms."""

    query: str = ""
    synonyms: Mapping[str, Sequence[str]] | None = None


Function = Callable[[str, np.random.Generator, Around], str]


@dataclass(frozen=True)
class Perturbation:
    """A perturbation: its ``name``, what it is applied to, whether it may ``attack`` a document that is not relevant
    (or else damages one that is), and the function."""

    name: str
    on: Target
    function: Function
    attack: bool = False


PERTURBATIONS: dict[str, Perturbation] = {}
"""Every perturbation by its name; `lorank.ranking.robustness.PERTURBATIONS` is this one, filled."""


def perturbation(name: str, *, on: Target = "query", attack: bool = False) -> Callable[[Function], Function]:
    """Decorate a function to enter it in ``PERTURBATIONS`` under ``name``."""

    def enter(function: Function) -> Function:
        PERTURBATIONS[name] = Perturbation(name, on, function, attack)
        return function

    return enter


def find_perturbation(name: str) -> Perturbation:
    """Return the perturbation called ``name``; raise UsageError with the nearest known name for any other."""
    from lorank.ranking.robustness import PERTURBATIONS as FILLED

    if name not in FILLED:
        raise unknown_name("perturbation", name, FILLED)
    found: Perturbation = FILLED[name]
    return found


def perturb(name: str, text: str, rng: np.random.Generator, around: Around | None = None) -> str:
    """Return ``text`` disturbed by the perturbation called ``name``.

    >>> perturb("case", "sort a list", np.random.default_rng(0))
    'SORT A LIST'
    """
    return find_perturbation(name).function(text, rng, around or Around())


@perturbation("none")
def none(text: str, rng: np.random.Generator, around: Around) -> str:
    """Return the text as it is: the perturbation that changes nothing, whose drop is 0."""
    return text
