r"""AutoRAG-HP: knobs of a pipeline tuned online by two levels of bandits.

    high level:  which knob to move,  UCB over the knobs
    low level:   its value,           UCB over the knob's values, the other knobs at their best so far
    reward:      (measure - price * cost) of one evaluation, less that of the setting in place

Each pull evaluates one setting. With one knob it is a flat bandit over that knob's values.

Paper: Fu et al. 2024, *AutoRAG-HP: Automatic Online Hyper-Parameter Tuning for Retrieval-Augmented Generation*,
arXiv:2406.19251.

*Deviations*: the paper's rewards are the measures themselves. Those of early pulls, made while other knobs stood badly,
then stay in a value's mean; here a reward is counted against the setting in place, so that values are compared alike.
The knob's own reward is what it gained. The width of the bounds is an option, as rewards have no common scale.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.routing.bandits import Means
from lorank.registration import catalogued

NOTHING = np.zeros(1)


@dataclass
class Tuned:
    """The best setting, what was tried, and how many evaluations the whole grid has."""

    best: dict[str, Any]
    tried: list[tuple[dict[str, Any], float]] = field(default_factory=list)
    grid: int = 0


@catalogued(
    "autorag-hp",
    area="route",
    title="AutoRAG-HP: Automatic Online Hyper-Parameter Tuning for Retrieval-Augmented Generation",
    reach="lorank route tune --data D --run A --run B; tuning is no training run of a ranker, so it has no recipe",
)
def two_level_search(
    knobs: Mapping[str, Sequence[Any]],
    evaluate: Callable[[dict[str, Any]], float],
    pulls: int,
    rng: np.random.Generator,
    *,
    width: float = 0.1,
) -> Tuned:
    """Return the setting that two levels of bandits end with.

    Args:
        knobs: The values of each knob; the first of each is where it begins.
        evaluate: It returns the reward of a setting, which may differ from call to call.
        pulls: How many settings are evaluated, 1 or more.
        rng: The source of the draws.
        width: The factor of the confidence bounds, 0 or more.

    >>> found = two_level_search({"top": [1, 2, 3]}, lambda knobs: -abs(knobs["top"] - 2), 9, np.random.default_rng(0))
    >>> found.best, len(found.tried), found.grid
    ({'top': 2}, 9, 3)
    """
    if not knobs or not all(knobs.values()) or pulls < 1 or not width >= 0:
        raise UsageError("tuning needs a knob with values, one pull or more, and a width of 0 or more")
    names = list(knobs)
    high = Means(len(names), "ucb", width)
    low = {name: Means(len(knobs[name]), "ucb", width) for name in names}
    at = dict.fromkeys(names, 0)
    tried: list[tuple[dict[str, Any], float]] = []
    seen: dict[tuple[int, ...], list[float]] = {}

    def pull(asked: dict[str, int]) -> float:
        setting = {each: knobs[each][place] for each, place in asked.items()}
        tried.append((setting, float(evaluate(setting))))
        seen.setdefault(tuple(asked.values()), []).append(tried[-1][1])
        return tried[-1][1]

    pull(at)
    for name in names:
        low[name].learn(NOTHING, 0, 0.0)
    while len(tried) < pulls:
        knob = high.choose(NOTHING, rng)
        name = names[knob]
        value = low[name].choose(NOTHING, rng)
        now, before = float(np.mean(seen[tuple(at.values())])), at[name]
        gained = pull(at | {name: value}) - now
        own = low[name].total[before] / max(low[name].count[before], 1)
        low[name].learn(NOTHING, value, own + gained if value != before else own)
        high.learn(NOTHING, knob, max(gained, 0.0))
        known = np.where(low[name].count > 0, low[name].total / np.maximum(low[name].count, 1), -np.inf)
        moved = int(known.argmax())
        if tuple((at | {name: moved}).values()) in seen:
            at[name] = moved
    return Tuned({name: knobs[name][at[name]] for name in names}, tried, int(np.prod([len(v) for v in knobs.values()])))
