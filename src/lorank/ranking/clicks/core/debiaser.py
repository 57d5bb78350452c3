r"""What every debiaser is: weights of the documents of a list, from which any loss learns as if clicks were unbiased.

A batch of clicked lists comes with the ranker's scores (without a gradient), labels c, the position k of each document
and, where the log brings them, propensities. A debiaser answers with

- ``clicked`` [batch, list]: what each label counts, w_i; a loss takes it as the documents' weights;
- ``shift`` [batch, list]: what is added to the score of a document that was not clicked. A shift of log v_j makes the
  document a negative of weight v_j: exactly so in a softmax, sum_j v_j exp(s_j), and to first order in a logistic loss,
  log(1 + v_j exp(s_j - s_i)).

Position 0 marks a document that the list did not show, such as one of another list of the batch: it weighs 1.

Many impressions that show the same documents may be folded into one list. Its batch then has an entry for each document
and each position where it stood, with the clicks that it had there as label and the impressions as ``views``, both up
to one factor for the list. A debiaser is asked for weights of such entries where they depend on the position alone
(``by_position``).

What a debiaser learns on the way (the propensities of DLA) it learns in ``learn``, called once for each part of a step,
and ``step``, called once after it; ``state`` goes into the checkpoint.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError, unknown_name
from lorank.ranking.clicks.core.propensity import Propensities
from lorank.ranking.clicks.core.sessions import Sessions


@dataclass(frozen=True)
class ClickBatch:
    """Clicked lists as a grid [batch, list].

    Attributes:
        scores: The ranker's scores, without a gradient.
        labels: Clicks or gains; above 0 is a click.
        mask: bool, True where there is a document.
        positions: int64, counted from 1, 0 for a document that was not shown.
        propensities: The log's own, 0 where it says nothing; None where it never does.
        views: The impressions that an entry of a folded list stands for, up to a factor for the list; None where each
            list is an impression.
    """

    scores: Tensor
    labels: Tensor
    mask: Tensor
    positions: Tensor
    propensities: Tensor | None = None
    views: Tensor | None = None

    @property
    def shown(self) -> Tensor:
        """True where a document was shown, bool [batch, list]."""
        return self.mask & (self.positions > 0)

    @property
    def clicked(self) -> Tensor:
        """True where a shown document was clicked, bool [batch, list]."""
        return self.shown & (self.labels > 0)


@dataclass(frozen=True)
class Evidence:
    """What a debiaser may read before the first step.

    Attributes:
        positions: The number of positions that the lists have.
        sessions: The log; None where the data are judgments.
        curve: Propensities that are given or were estimated; None where there are none.
        has_propensities: Whether each impression brings propensities of its own.
    """

    positions: int
    sessions: Sessions | None = None
    curve: Propensities | None = None
    has_propensities: bool = False


@dataclass(frozen=True)
class Weights:
    """What each label counts, and what is added to the scores of the other documents; None changes nothing.

    ``noise`` is the weighted label that an irrelevant document has per view; folded lists have it taken off.
    """

    clicked: Tensor | None = None
    shift: Tensor | None = None
    noise: Tensor | None = None


class Debiaser(ABC):
    """Base of debiasers; options are keyword arguments of the constructor."""

    name: ClassVar[str] = ""
    learns: ClassVar[bool] = False
    """Whether it changes during the run."""
    requires_curve: ClassVar[bool] = False
    """Whether propensities must be known before the first step."""
    judged: ClassVar[bool] = False
    """Whether it also reads judged data, whose positions are ranks of the first stage."""
    by_position: ClassVar[bool] = False
    """Whether its weights depend on the position alone, so that impressions may be folded."""
    what: ClassVar[str] = "propensity"
    """What its curve is, for the report."""

    def prepare(self, evidence: Evidence) -> None:
        """Read what is known before the first step."""

    @abstractmethod
    def weigh(self, batch: ClickBatch) -> Weights:
        """Return the weights of a batch; the state does not change."""

    def learn(self, batch: ClickBatch, share: float) -> None:
        """Take in a part of a step, which is ``share`` of its batch."""

    def step(self, progress: float) -> None:
        """Take the step; ``progress`` is how much of the run is over, from 0 to 1."""

    def state(self) -> dict[str, Tensor]:
        """Return what must survive a crash."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state`` gave."""

    def curve(self) -> list[float] | None:
        """Return the propensities as they stand, relative to the first position; None where there are none."""
        return None


DEBIASERS: dict[str, type[Debiaser]] = {}
"""Every registered debiaser under its name."""

ALIASES: dict[str, str] = {}
"""Other names in common use, each to a name in ``DEBIASERS``."""


def debiaser(
    name: str, *, title: str, aliases: tuple[str, ...] = (), published: bool = True
) -> Callable[[type[Debiaser]], type[Debiaser]]:
    """Decorate a debiaser to enter it in ``DEBIASERS``, and in the catalogue where it is ``published`` under its
    name."""

    def enter(kind: type[Debiaser]) -> type[Debiaser]:
        kind.name = name
        if published:
            catalogued(name, area="unbiased", title=title)(kind)
        DEBIASERS[name] = kind
        ALIASES.update(dict.fromkeys(aliases, name))
        return kind

    return enter


def debiaser_options(name: str) -> Mapping[str, Any]:
    """Return the options of a debiaser and their defaults.

    >>> sorted(debiaser_options("ips"))
    ['most', 'noise']
    """
    parameters = inspect.signature(find_debiaser(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def find_debiaser(name: str) -> type[Debiaser]:
    """Return the class of the debiaser called ``name``; raise UsageError for an unknown one."""
    known = ALIASES.get(name, name)
    if known not in DEBIASERS:
        raise unknown_name("debiaser", name, [*DEBIASERS, *ALIASES])
    return DEBIASERS[known]


def make_debiaser(name: str, **options: Any) -> Debiaser:
    """Return the debiaser called ``name`` with its options set; raise UsageError for an unknown name or option."""
    known = debiaser_options(name)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of debiaser {name!r}:", option, known)
    return find_debiaser(name)(**options)


def check_positive(**options: float) -> None:
    """Raise UsageError for an option that is not above 0."""
    for name, value in options.items():
        if not value > 0:
            raise UsageError(f"{name} is {value}; it must be above 0")


def take(curve: Tensor, batch: ClickBatch) -> Tensor:
    """Return a curve [k] at the positions of a batch, [batch, list]; beyond its end the last value, 1 where not
    shown."""
    values = curve.to(batch.scores.device)[(batch.positions.clamp(1, len(curve)) - 1)]
    return torch.where(batch.shown, values, 1.0)
