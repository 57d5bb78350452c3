"""The knobs of a pipeline, tuned on judged queries with a fraction of the grid's evaluations.

    utility(setting) = mean over queries of (measure - price * documents that the ranker scores / 100)

``two-level`` moves one knob at a time by two levels of bandits (AutoRAG-HP), ``hyperband`` and ``halving`` judge many
settings on few queries and the best of them on more, ``random`` and ``grid`` judge each on all.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lorank.compare.hyperband import Bracket, hyperband, random_search, successive_halving
from lorank.compare.pipelines.pipeline_file import Knobs, Pipeline, SearchPlan, Setting
from lorank.compare.pipelines.stages import Stages
from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.metrics.measures import per_query
from lorank.ranking.routing import two_level_search
from lorank.ranking.types import Qrels


@dataclass(frozen=True)
class TunedPipeline:
    """What a search found.

    Attributes:
        setting: The best setting.
        value: Its measure over all judged queries.
        initial: That of the setting where the search began.
        evaluations: How many queries were evaluated, each time counted.
        grid: How many evaluations the whole grid takes.
        scored: How many documents the ranker scored.
        tried: Each setting that was tried, with its mean utility and on how many queries.
    """

    setting: Setting
    value: float
    initial: float
    evaluations: int
    grid: int
    scored: int
    tried: Sequence[tuple[Setting, float, int]]


@dataclass
class Trials:
    """The evaluations of a search: of each setting the utility of each query that it was tried on."""

    stages: Stages
    qrels: Qrels
    plan: SearchPlan
    evaluations: int = 0
    known: dict[tuple[Any, ...], dict[str, float]] = field(default_factory=dict)

    def utility(self, setting: Setting, queries: Sequence[str]) -> float:
        """Return the mean utility of a setting over some queries; what is known of it is not evaluated again."""
        own = self.known.setdefault(tuple(setting.values()), {})
        missing = [query for query in queries if query not in own]
        if missing:
            self.evaluations += len(missing)
            cost = self.plan.price * documents_scored(setting) / 100
            own |= {query: value - cost for query, value in self.measure(setting, missing).items()}
        return float(np.mean([own[query] for query in queries]))

    def measure(self, setting: Setting, queries: Sequence[str]) -> dict[str, float]:
        """Return the measure of each query."""
        run = self.stages.run(setting, set(queries))
        found = per_query(run, {query: self.qrels[query] for query in queries}, [self.plan.measure])
        return {query: float(found[self.plan.measure][query]) for query in queries}


def documents_scored(setting: Setting) -> int:
    """Return how many documents of a query the ranker scores at a setting."""
    return int(setting.get("top", 0)) if setting.get("mix", 0) else 0


def tune_pipeline(
    pipeline: Pipeline, stages: Stages, qrels: Qrels, on_progress: ProgressCallback | None = None
) -> TunedPipeline:
    """Return the best setting of a pipeline's knobs that its search finds.

    Args:
        pipeline: The pipeline.
        stages: Its stages over the queries of a judged split.
        qrels: The judgments.
        on_progress: It receives the number of evaluations of queries and how many there are at most.

    Raises:
        UsageError: Where no query has a relevant document, or no knob has two values.
    """
    plan, knobs = pipeline.search, pipeline.knobs
    names = [q for q in stages.queries if any(grade > 0 for grade in qrels.get(q, {}).values())]
    if not names:
        raise UsageError("no query of the split has a relevant document; give --split, a judged one")
    if math.prod(map(len, knobs.values())) < 2:
        raise UsageError("there is nothing to tune: every knob has one value; give [knobs] lists, or leave them out")
    rng = np.random.default_rng(plan.seed)
    names = [names[i] for i in rng.permutation(len(names))]
    trials = Trials(stages, qrels, plan)
    grid = math.prod(map(len, knobs.values())) * len(names)
    most = max(round(plan.share * grid), len(names))

    def evaluate(setting: Setting, queries: Sequence[str]) -> float:
        value = trials.utility(setting, queries)
        if on_progress is not None:
            on_progress(min(trials.evaluations, most), most)
        return value

    found: Setting = SEARCHES[plan.method](knobs, names, plan, most, evaluate, rng)
    ends: tuple[Setting, Setting] = (pipeline.setting, found)
    best = max(ends, key=lambda setting: evaluate(setting, names))
    before, value = (float(np.mean(list(trials.measure(each, names).values()))) for each in (pipeline.setting, best))
    tried = [
        (dict(zip(knobs, values, strict=True)), float(np.mean(list(own.values()))), len(own))
        for values, own in trials.known.items()
    ]
    tried.sort(key=lambda each: (each[2], each[1]), reverse=True)
    return TunedPipeline(best, value, before, trials.evaluations, grid, len(stages.journal.scores), tried)


Evaluate = Callable[[Setting, Sequence[str]], float]


def _two_level(
    knobs: Knobs, names: list[str], plan: SearchPlan, most: int, evaluate: Evaluate, rng: np.random.Generator
) -> Setting:
    """Return the setting that the two levels of bandits end with: each pull takes a batch of queries."""
    batch = min(plan.batch, len(names))

    def pull(setting: dict[str, Any]) -> float:
        drawn = rng.choice(len(names), batch, replace=False)
        return evaluate(setting, [names[i] for i in drawn])

    found: Setting = two_level_search(knobs, pull, max(most // batch, 1), rng).best
    return found


def _grid(
    knobs: Knobs, names: list[str], plan: SearchPlan, most: int, evaluate: Evaluate, rng: np.random.Generator
) -> Setting:
    """Return the best setting of the grid."""
    return max(_settings(knobs), key=lambda setting: evaluate(setting, names))


def _brackets(
    knobs: Knobs, names: list[str], plan: SearchPlan, most: int, evaluate: Evaluate, rng: np.random.Generator
) -> Setting:
    """Return the best setting that reaches all queries: the best of a rung go on to more of them."""
    every = _settings(knobs)
    drawn = [every[i] for i in rng.permutation(len(every))]
    spent, place, ended = 0, 0, [every[0]]
    while spent + len(names) <= most and place < len(drawn):
        for bracket in _rungs(plan, len(names), (most - spent) // len(names)):
            now = drawn[place : place + bracket[0].configurations]
            place += len(now)
            for rung in bracket:
                now, queries = now[: rung.configurations], names[: round(rung.budget)]
                now.sort(key=lambda setting: evaluate(setting, queries), reverse=True)
                spent += len(now) * len(queries)
            ended += now[:1]
    return max(ended, key=lambda setting: evaluate(setting, names))


def _rungs(plan: SearchPlan, queries: int, most: int) -> list[Bracket]:
    """Return brackets whose budgets are queries."""
    least = min(plan.batch, queries)
    if plan.method == "random":
        return random_search(queries, max(most, 1))
    brackets = (hyperband if plan.method == "hyperband" else successive_halving)(queries / least)
    return [tuple(type(rung)(rung.configurations, rung.budget * least) for rung in bracket) for bracket in brackets]


def _settings(knobs: Knobs) -> list[Setting]:
    """Return every setting of the grid, the one where a search begins first."""
    return [dict(zip(knobs, values, strict=True)) for values in itertools.product(*knobs.values())]


SEARCHES: dict[str, Callable[..., Setting]] = {
    "two-level": _two_level,
    "hyperband": _brackets,
    "halving": _brackets,
    "random": _brackets,
    "grid": _grid,
}
"""How the knobs are searched, by name."""
