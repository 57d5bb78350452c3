r"""What every click model is: a probability of the next click, given the clicks above it.

    L(session) = \prod_k P(c_k | c_1, ..., c_{k-1})

A model steps down the list with one number of state per session: it says how likely a click at position k is, and is
then shown what happened. Likelihood, perplexity and simulation follow from that alone and are exact.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.clicks.core.sessions import Sessions

LEAST = 1e-12
"""A probability below this counts as this one where a logarithm is taken of it."""

T = TypeVar("T")

CLICK_MODELS: dict[str, type["ClickModel"]] = {}
"""Every registered click model under its name."""

ALIASES: dict[str, str] = {}
"""Other names in common use, each to a name in ``CLICK_MODELS``."""


def click_model(
    name: str, *, title: str, aliases: tuple[str, ...] = ()
) -> Callable[[type["ClickModel"]], type["ClickModel"]]:
    """Decorate a click model to enter it in ``CLICK_MODELS``."""

    def enter(kind: type["ClickModel"]) -> type["ClickModel"]:
        kind.name, kind.title = name, title
        CLICK_MODELS[name] = kind
        ALIASES.update(dict.fromkeys(aliases, name))
        return kind

    return enter


def find_click_model(name: str) -> type["ClickModel"]:
    """Return the class of the click model called ``name``; raise UsageError for an unknown one."""
    known = ALIASES.get(name, name)
    if known not in CLICK_MODELS:
        raise unknown_name("click model", name, [*CLICK_MODELS, *ALIASES])
    return CLICK_MODELS[known]


@dataclass(frozen=True)
class Perplexity:
    """2 to the mean negative log2 probability of a click or no click: 1 is perfect, 2 is a fair coin.

    Attributes:
        by_position: float64 [k].
        overall: The perplexity over all positions.
        log_likelihood: The mean log-likelihood of a session, in nats.
        impossible: How many impressions the model says cannot happen; their probability counts as ``LEAST``.
    """

    by_position: np.ndarray
    overall: float
    log_likelihood: float
    impossible: float


class ClickModel(ABC):
    """Base of click models; ``attraction`` float64 [pairs + 1] is how likely a pair is clicked once examined.

    The last entry of ``attraction`` is the mean, which pairs that were never seen (number -1) have; each pair gets
    ``smoothing`` views at the mean beside its own.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""

    def __init__(self, smoothing: float = 1.0) -> None:
        if smoothing < 0:
            raise UsageError(f"smoothing is {smoothing}; it is a number of views, 0 or more")
        self.smoothing = smoothing
        self.names: Sequence[tuple[str, str]] = []
        self.attraction = np.full(1, 0.5)
        self.history: list[float] = []

    @abstractmethod
    def start(self, rows: int) -> np.ndarray:
        """Return the state [rows] of sessions before their first position."""

    @abstractmethod
    def probability(self, state: np.ndarray, k: int, pairs: np.ndarray) -> np.ndarray:
        """Return how likely a click at column ``k`` on ``pairs`` [rows] is, given the state."""

    @abstractmethod
    def observe(
        self, state: np.ndarray, k: int, pairs: np.ndarray, clicks: np.ndarray, shown: np.ndarray
    ) -> np.ndarray:
        """Return the state after column ``k``, where ``clicks`` [rows] happened and ``shown`` [rows] had a document."""

    @abstractmethod
    def initialise(self, sessions: Sessions) -> None:
        """Set the parameters to where EM starts."""

    @abstractmethod
    def improve(self, sessions: Sessions) -> None:
        """Take one step of EM."""

    @abstractmethod
    def parameters(self) -> Mapping[str, Any]:
        """Return the parameters that are not of single pairs, JSON-ready."""

    @classmethod
    @abstractmethod
    def of_relevance(cls, attraction: np.ndarray, positions: int, **options: Any) -> Self:
        """Return a model to simulate from: ``attraction`` [pairs] is given, positions behave as ``options`` say."""

    def fit(self, sessions: Sessions, *, iterations: int = 100, tolerance: float = 1e-7) -> Self:
        """Fit the model by EM until a session's mean log-likelihood gains less than ``tolerance``; return it.

        Args:
            sessions: The log.
            iterations: The most steps.
            tolerance: The least gain per session, in nats.
        """
        if iterations < 1:
            raise UsageError(f"iterations is {iterations}; take 1 or more")
        self.names = sessions.names
        self.attraction = np.full(len(sessions.names) + 1, 0.5)
        self.initialise(sessions)
        self.history = []
        for _ in range(iterations):
            self.improve(sessions)
            self.history.append(self.perplexity(sessions).log_likelihood)
            if len(self.history) > 1 and abs(self.history[-1] - self.history[-2]) < tolerance:
                break
        return self

    def place(self, sessions: Sessions) -> Sessions:
        """Return sessions under this model's numbers of pairs, -1 for pairs that it never saw."""
        if sessions.names is self.names:
            return sessions
        own = {name: i for i, name in enumerate(self.names)}
        number = np.array([own.get(name, -1) for name in sessions.names], np.int64)
        return Sessions(number[sessions.pairs], sessions.clicks, sessions.mask, sessions.counts, self.names)

    def conditional(self, sessions: Sessions) -> np.ndarray:
        """Return P(c_k = 1 | clicks above), float64 [n, k]; 0 where nothing was shown."""
        found = np.zeros(sessions.pairs.shape)
        state = self.start(len(sessions))
        for k in range(sessions.positions):
            pairs, shown = sessions.pairs[:, k], sessions.mask[:, k]
            found[:, k] = np.where(shown, self.probability(state, k, pairs), 0.0)
            state = self.observe(state, k, pairs, sessions.clicks[:, k], shown)
        return found

    def log_likelihood(self, sessions: Sessions) -> np.ndarray:
        """Return the log-likelihood of each session, float64 [n]; minus infinity where the model forbids it."""
        sessions = self.place(sessions)
        chance = self.conditional(sessions)
        with np.errstate(divide="ignore"):
            terms: np.ndarray = np.log(np.where(sessions.clicks, chance, 1 - chance))
        summed: np.ndarray = np.where(sessions.mask, terms, 0.0).sum(1)
        return summed

    def perplexity(self, sessions: Sessions) -> Perplexity:
        """Return how well the model foresees each click from those above it."""
        sessions = self.place(sessions)
        chance = self.conditional(sessions)
        event = np.where(sessions.clicks, chance, 1 - chance)
        weight = sessions.mask * sessions.counts[:, None]
        impossible = float(sessions.counts[((event < LEAST) & sessions.mask).any(1)].sum())
        surprise = -np.log(event.clip(LEAST)) * weight
        with np.errstate(invalid="ignore", divide="ignore"):
            by_position = np.exp(surprise.sum(0) / weight.sum(0))
        return Perplexity(
            by_position,
            float(np.exp(surprise.sum() / weight.sum())),
            float(-surprise.sum() / sessions.impressions),
            impossible,
        )

    def marginal(self, sessions: Sessions) -> np.ndarray:
        """Return P(c_k = 1) before any click of the session is known, float64 [n, k], by summing over what happens
        above.

        The sum has a branch for each different state; states are merged where they are equal.
        """
        sessions = self.place(sessions)
        found = np.zeros(sessions.pairs.shape)
        branches = [(np.ones(len(sessions)), self.start(len(sessions)))]
        for k in range(sessions.positions):
            pairs, shown, after = sessions.pairs[:, k], sessions.mask[:, k], []
            for mass, state in branches:
                chance = np.where(shown, self.probability(state, k, pairs), 0.0)
                found[:, k] += mass * chance
                for click, share in ((True, chance), (False, 1 - chance)):
                    clicks = np.full(len(sessions), click)
                    after.append((mass * share, self.observe(state, k, pairs, clicks & shown, shown)))
            branches = self.merge(after)
        return found

    def merge(self, branches: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return fewer branches (mass [n], state [n]) that say the same; by default their mean state as one branch.

        That is exact where the state is a probability that enters the next step linearly.
        """
        mass = np.sum([each for each, _ in branches], axis=0)
        weighted = np.sum([each * state for each, state in branches], axis=0)
        return [(mass, np.divide(weighted, mass, out=np.zeros_like(mass), where=mass > 0))]

    def predict_rates(self, sessions: Sessions) -> np.ndarray:
        """Return the click-through rate that the model expects at each position of the lists, float64 [k]."""
        weight = sessions.mask * sessions.counts[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            rates: np.ndarray = (self.marginal(sessions) * weight).sum(0) / weight.sum(0)
        return rates

    def simulate(self, pairs: np.ndarray, rng: np.random.Generator, mask: np.ndarray | None = None) -> np.ndarray:
        """Return simulated clicks, bool [n, k].

        Args:
            pairs: int64 [n, k], the model's numbers of what is shown at each position.
            rng: The source of the draws.
            mask: bool [n, k], True where a document is shown; None means everywhere.
        """
        mask = np.ones(pairs.shape, bool) if mask is None else mask
        clicks = np.zeros(pairs.shape, bool)
        state = self.start(len(pairs))
        for k in range(pairs.shape[1]):
            chance = self.probability(state, k, pairs[:, k])
            clicks[:, k] = mask[:, k] & (rng.random(len(pairs)) < chance)
            state = self.observe(state, k, pairs[:, k], clicks[:, k], mask[:, k])
        return clicks

    def update_attraction(self, sessions: Sessions, clicked: np.ndarray, examined: np.ndarray) -> None:
        """Set the attraction of each pair to expected clicks over expected examinations, both [n, k], smoothed."""
        weight = (sessions.counts[:, None] * sessions.mask)[sessions.mask]
        at, size = sessions.pairs[sessions.mask], len(self.names)
        yes = np.bincount(at, weight * clicked[sessions.mask], size)
        seen = np.bincount(at, weight * examined[sessions.mask], size)
        mean = yes.sum() / max(seen.sum(), LEAST)
        made = (yes + self.smoothing * mean) / np.maximum(seen + self.smoothing, LEAST)
        self.attraction[:-1], self.attraction[-1] = np.minimum(made, 1.0), mean

    def relevance(self) -> dict[str, dict[str, float]]:
        """Return the attraction of each pair, by query and document."""
        found: dict[str, dict[str, float]] = {}
        for (query, document), value in zip(self.names, self.attraction[:-1].tolist(), strict=True):
            found.setdefault(query, {})[document] = value
        return found


def ratio(part: np.ndarray, whole: np.ndarray, other: float = 0.5) -> np.ndarray:
    """Return part / whole, ``other`` where the whole is 0."""
    found: np.ndarray = np.divide(part, whole, out=np.full(np.shape(whole), other), where=whole > 0)
    return found
