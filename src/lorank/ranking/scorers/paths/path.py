"""The contract of a scoring path: one way to compute a cross-encoder's logits on this machine.

A path is opened on a cross-encoder as it stands and works on a copy of its weights: whoever changes them (trains,
merges another adapter) opens it anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.layers import GridLinear
from lorank.ranking.scorers.cross_encoder import CrossEncoder
from lorank.ranking.scorers.tokens import Ragged

Logits = Callable[[Ragged], np.ndarray]
"""Token sequences to float32 logits [sequences]."""


@dataclass(frozen=True)
class Path:
    """One way to compute logits.

    Args:
        name: runtime and number format, such as ``torch-int8``.
        open: makes a ranker ready and returns what scores its token sequences.
        packages: what must be installed, and ``extra`` the extra of lorank that brings it.
        packed: True where only encoders that run without padding have this path.
    """

    name: str
    open: Callable[[CrossEncoder], Logits]
    packages: tuple[str, ...] = ()
    extra: str = ""
    packed: bool = False

    def missing(self, ranker: CrossEncoder) -> str | None:
        """Return why ``ranker`` cannot take this path here, None where it can."""
        absent = [package for package in self.packages if find_spec(package) is None]
        if absent:
            return f"{', '.join(absent)} not installed (pip install 'lorank[{self.extra}]')"
        if self.packages and any(isinstance(module, GridLinear) for module in ranker.module.modules()):
            return (
                "its weights are on a grid of few bits, which torch alone computes with; take a torch path, or shrink "
                "it without --grid"
            )
        if self.packed and not ranker.can_pack():
            return f"{type(ranker.module).__name__} does not run without padding"
        return None


PATHS: dict[str, Path] = {}
"""Every path under its name."""


def path(
    name: str, *, packages: tuple[str, ...] = (), extra: str = "", packed: bool = False
) -> Callable[[Callable[[CrossEncoder], Logits]], Callable[[CrossEncoder], Logits]]:
    """Decorate the function that opens a path, to register it under ``name``.

    Args:
        name: The runtime and number format, such as ``torch-int8``.
        packages: The packages that must be installed.
        extra: The extra of lorank that brings the packages.
        packed: True if only encoders that run without padding have this path.
    """

    def enter(function: Callable[[CrossEncoder], Logits]) -> Callable[[CrossEncoder], Logits]:
        PATHS[name] = Path(name, function, packages, extra, packed)
        return function

    return enter


def open_path(name: str, ranker: CrossEncoder) -> Logits:
    """Open the path called ``name`` on ``ranker``; UsageError where it is unknown or not to be had here."""
    if name not in PATHS:
        raise unknown_name("path", name, PATHS)
    why = PATHS[name].missing(ranker)
    if why is not None:
        raise UsageError(f"path {name!r}: {why}")
    return PATHS[name].open(ranker)


def run_on(ranker: CrossEncoder, name: str | None) -> None:
    """Let ``ranker`` score by the path called ``name`` from now on; None: by torch in its ``dtype``.

    The path works on a copy of the weights as they are now; after a change of weights call this again.

    Raises:
        UsageError: For a name that no path has, and for a path that is not to be had here.
    """
    ranker.path_logits = None if name is None else open_path(name, ranker)
