r"""CASPER: the one interaction whose deletion disturbs a recommender most, found without training it again.

Interactions are nodes of a DAG; there is an edge from each event to the next one of the same user, and to the next one
of the same item. What an event can disturb are its descendants. Of the events without a predecessor (in-degree 0) the
one with most descendants is deleted:

    e* = argmax_{e: no predecessor} |descendants(e)|

Paper: S. Oh, B. Ustun, J. McAuley and S. Kumar, Rank List Sensitivity of Recommender Systems to Interaction
Perturbations, CIKM 2022.

*Deviations*: the published code keeps the last 50 events of each user and item only; here ``recent`` says how many,
all by default. Ties go to the earliest event.
"""

import itertools
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.robustness.stability import rank_list_sensitivity

Interaction = tuple[str, str]
"""(user, item), in the order of time."""

DIMENSION = 16
"""Of the vectors of `recommend_next`."""

Recommender = Callable[[Sequence[Interaction]], Mapping[str, Sequence[str]]]
"""From interactions to the list of each user, best first."""


def successors(interactions: Sequence[Interaction], recent: int | None = None) -> list[list[int]]:
    """Return, for each event, the next events of the same user and of the same item.

    >>> successors([("u", "a"), ("v", "a"), ("u", "b")])
    [[2, 1], [], []]
    """
    follows: list[list[int]] = [[] for _ in interactions]
    for side in (0, 1):
        chains: dict[str, list[int]] = defaultdict(list)
        for place, event in enumerate(interactions):
            chains[event[side]].append(place)
        for chain in chains.values():
            kept = chain if recent is None else chain[-recent:]
            for one, other in itertools.pairwise(kept):
                if other not in follows[one]:
                    follows[one].append(other)
    return follows


def descendants(follows: Sequence[Sequence[int]], event: int) -> set[int]:
    """Return all events that can be reached from one."""
    reached: set[int] = set()
    frontier = [event]
    while frontier:
        for place in follows[frontier.pop()]:
            if place not in reached:
                reached.add(place)
                frontier.append(place)
    return reached


@catalogued(
    "rls-casper",
    area="robust",
    title="Rank List Sensitivity of Recommender Systems to Interaction Perturbations",
    reach="it judges and trains nothing, so it has no recipe key: lorank stress --interactions LOG.tsv",
)
def most_influential(interactions: Sequence[Interaction], recent: int | None = None) -> int:
    """Return the place of the event without a predecessor that has most descendants.

    Args:
        interactions: The events, (user, item), in the order of time.
        recent: How many events of each user and item make edges, the last ones; None takes all.

    Raises:
        UsageError: For no interactions.

    >>> most_influential([("u", "a"), ("v", "b"), ("u", "c"), ("w", "c"), ("u", "d")])
    0
    """
    if not interactions:
        raise UsageError("there is no interaction to delete")
    follows = successors(interactions, recent)
    entered = {place for row in follows for place in row}
    roots = [place for place in range(len(interactions)) if place not in entered]
    return max(roots, key=lambda place: (len(descendants(follows, place)), -place))


def recommend_next(interactions: Sequence[Interaction], top: int = 20, rate: float = 0.3) -> dict[str, list[str]]:
    r"""Return each user's nearest items by vectors that move with every event: a recommender to judge.

    At an event of user u and item i both move towards each other, u <- (u + r i) / |u + r i| and i <- (i + r u) /
    |...|, from random directions that depend on the name alone; so an early event moves what comes after it.

    Args:
        interactions: The events, (user, item), in the order of time.
        top: The length of the lists, 1 or more.
        rate: How far an event moves both, above 0.

    Returns:
        The items of each user, by falling inner product.

    >>> recommend_next([("u", "a"), ("u", "a"), ("v", "b"), ("v", "b")])["u"]
    ['a', 'b']
    """
    users: dict[str, np.ndarray] = {}
    items: dict[str, np.ndarray] = {}
    for user, item in interactions:
        u = users[user] if user in users else _direction(f"user {user}")
        i = items[item] if item in items else _direction(f"item {item}")
        moved_user, moved_item = u + rate * i, i + rate * u
        users[user] = moved_user / np.linalg.norm(moved_user)
        items[item] = moved_item / np.linalg.norm(moved_item)
    names = sorted(items)
    table = np.stack([items[name] for name in names]) if names else np.zeros((0, DIMENSION))
    return {
        user: [names[place] for place in np.argsort(-(table @ vector), kind="stable")[:top]]
        for user, vector in users.items()
    }


def _direction(name: str) -> np.ndarray:
    """Return a random direction that depends on the name alone."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).normal(size=DIMENSION)
    return np.asarray(drawn / np.linalg.norm(drawn))


@dataclass(frozen=True)
class Sensitivity:
    """RLS (RBO and Jaccard@10) after the deletion of CASPER's event, and the mean after that of random ones."""

    event: int
    reached: int
    rbo: float
    jaccard: float
    random_rbo: float
    random_jaccard: float
    events: int


def measure_sensitivity(
    interactions: Sequence[Interaction],
    recommend: Recommender = recommend_next,
    *,
    rng: np.random.Generator,
    trials: int = 20,
) -> Sensitivity:
    """Return how much a recommender's lists move when CASPER's event, or a random one, is left out of its data.

    Args:
        interactions: The events, (user, item), in the order of time.
        recommend: It learns from events and returns each user's list; it is called ``trials`` + 2 times.
        rng: It draws the random events.
        trials: How many random events are tried, one at a time.
    """
    before = recommend(interactions)

    def without(place: int) -> tuple[float, float]:
        after = recommend([event for i, event in enumerate(interactions) if i != place])
        return rank_list_sensitivity(before, after), rank_list_sensitivity(before, after, "jaccard")

    event = most_influential(interactions)
    chosen = rng.permutation(len(interactions))[:trials]
    drawn = np.array([without(int(place)) for place in chosen])
    rbo, overlap = without(event)
    reached = len(descendants(successors(interactions), event))
    return Sensitivity(
        event, reached, rbo, overlap, float(drawn[:, 0].mean()), float(drawn[:, 1].mean()), len(interactions)
    )
