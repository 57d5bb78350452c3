"""The dev queries on which a run decides, how deep their lists are, and when the run looks at them.

A look costs what it reads. Where the ranker has tokens that is their number, each text of a bi-encoder and each pair of
the others counted once; else it is the number of rows or pairs. A step reads its batch forwards and backwards, which
costs at least ``BACKWARD`` times the scoring of it. With S the share of the time that looks may take, the looks of a
run of n steps may read together

    S / (1 - S) * n * BACKWARD * (what a step reads).

From this follow, without a clock, so that equal runs look at equal steps on any machine: the depth (the candidates'
own, or ``SHALLOW``), the number of queries (all, or whole groups of them that share relevant documents, drawn by the
seed), and the number of looks. Every run looks at the untuned base and at its last step at least, and at
``FEWEST_GROUPS`` independent groups or half of all there are, whatever that costs: weight and checkpoint are chosen on
them. A sample is cut below ``SURE_GROUPS`` only where those two looks would cost more than ``DEAREST`` times their
share: the standard error of a difference over 50 groups is as large as what tuning gains, over 200 half of that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lorank.data.collection import Collection
from lorank.ranking.metrics.groups import group_tied_queries
from lorank.ranking.types import Qrels, Run
from lorank.training.lists.candidates import Candidates
from lorank.training.loop.loop import MAIN_MEASURE, MOST_LOOKS, evaluation_steps
from lorank.training.settings import Recipe

BACKWARD = 2.0
SHALLOW = 30
"""The depth of dev lists where full ones are too dear."""
MOST_QUERIES, FEWEST_QUERIES = 1000, 50
FEWEST_GROUPS = 50
"""The fewest independent groups that a sample is cut to: what is decided on fewer is decided by chance."""
SURE_GROUPS = 200
"""The independent groups below which a sample is cut with reluctance."""
DEAREST = 6.0
"""Two looks at up to ``SURE_GROUPS`` groups may cost so many times their share: at a quarter, twice the training.

A step costs more than what ``BACKWARD`` says of it at least: on LibreOffice's help in titled passages, two looks at all
of dev were estimated at 1.9 times the training, and took 0.8 times its seconds.
"""

Cost = Callable[[Run], float]


@dataclass(frozen=True)
class DevSample:
    """The dev queries that a run looks at.

    Attributes:
        run: Their candidates, none deeper than ``depth``; queries without any have an empty row.
        qrels: Their judgments.
        depth: How deep the lists are cut, None where they came with the data and stay whole.
        of: How many dev queries there are.
    """

    run: Run
    qrels: Qrels
    depth: int | None
    of: int

    @cached_property
    def groups(self) -> int:
        """How many independent groups the queries form."""
        return len(set(group_tied_queries(self.qrels).values()))

    @property
    def name(self) -> str:
        """What the value on dev is called.

        >>> DevSample({}, {}, 100, 0).name
        'dev nDCG@10 over the top 100'
        """
        return f"dev {MAIN_MEASURE} over the {'given lists' if self.depth is None else f'top {self.depth}'}"

    @property
    def size(self) -> str:
        """How many queries and groups there are, in words.

        >>> DevSample({}, {"a": {"x": 1}, "b": {"x": 1}, "c": {"y": 1}}, 100, 40).size
        '3 of 40 dev queries (2 independent groups)'
        """
        number = f"{len(self.qrels)} of {self.of}" if len(self.qrels) < self.of else str(self.of)
        return f"{number} dev queries ({self.groups} independent groups)"


@dataclass(frozen=True)
class Looks:
    """When a run looks at dev: after each step of ``steps``, at a sample of which one look costs ``cost``."""

    sample: DevSample
    steps: tuple[int, ...]
    cost: float


def plan_looks(data: Collection, found: Candidates, recipe: Recipe, steps: int, step_cost: float, cost: Cost) -> Looks:
    """Return the looks of a run of ``steps`` steps; ``cost`` says what scoring lists costs.

    Args:
        data: The collection; its dev split is sampled.
        found: The candidates of the dev queries.
        recipe: The recipe; its ``evaluations``, ``evaluation_queries`` and ``evaluation_depth`` decide where they are
            given.
        steps: The number of steps, 1 or more.
        step_cost: What the lists of a step cost to score.
        cost: What the lists of a run cost to score.
    """
    share = recipe.training.evaluation_share
    affordable = share / (1 - share) * steps * step_cost * BACKWARD
    sample = _choose_sample(data, found, recipe, affordable, cost)
    own = max(cost(sample.run), 1e-9)
    count = recipe.training.evaluations
    if count is None:
        count = int(np.clip(affordable / own - 1, 1, MOST_LOOKS))
    return Looks(sample, tuple(sorted(evaluation_steps(steps, count))), own)


def _choose_sample(data: Collection, found: Candidates, recipe: Recipe, affordable: float, cost: Cost) -> DevSample:
    settings = recipe.training
    deep = max((len(row) for row in found.dev.values()), default=0) > SHALLOW
    depths: tuple[int | None, ...]
    depths = (None,) if found.whole else (recipe.lists.depth, SHALLOW) if deep else (recipe.lists.depth,)
    if settings.evaluation_depth is not None:
        depths = (settings.evaluation_depth,)
    most = min(len(data.dev), settings.evaluation_queries or MOST_QUERIES)
    sizes = [most]
    while settings.evaluation_queries is None and sizes[-1] > FEWEST_QUERIES:
        sizes.append(max(FEWEST_QUERIES, 4 * sizes[-1] // 5))
    order = order_by_groups(data.dev.qrels, list(data.dev.queries), recipe.seed)

    def sample_of(size: int, depth: int | None) -> DevSample:
        chosen = set(draw_queries(order, size))
        run = {q: keep_best(found.dev.get(q, {}), depth) for q in data.dev.queries if q in chosen}
        return DevSample(run, {q: data.dev.qrels.get(q, {}) for q in run}, depth, len(data.dev))

    tried = [(most, depth) for depth in depths] + [(size, depths[-1]) for size in sizes[1:]]
    fewest = min(FEWEST_GROUPS, len(order) // 2)
    chosen = sample_of(*tried[0])
    for size, depth in tried:
        sample = sample_of(size, depth)
        dear = 2 * cost(chosen.run) > DEAREST * affordable
        if size < most and (sample.groups < fewest or (sample.groups < SURE_GROUPS and not dear)):
            return chosen
        chosen = sample
        if 2 * cost(sample.run) <= affordable:
            return sample
    return chosen


def order_by_groups(qrels: Qrels, queries: Sequence[str], seed: int) -> list[list[str]]:
    """Return the groups of queries that share relevant documents, in a random order."""
    tied = group_tied_queries({query: qrels.get(query, {}) for query in queries})
    groups: dict[str, list[str]] = {}
    for query in queries:
        groups.setdefault(tied[query], []).append(query)
    whole = list(groups.values())
    return [whole[i] for i in np.random.default_rng([seed, 2]).permutation(len(whole))]


def draw_queries(groups: Sequence[Sequence[str]], count: int) -> list[str]:
    """Return ``count`` queries: whole groups in the order given while they fit, then the first queries of others.

    >>> draw_queries([["a", "b"], ["c", "d", "e"], ["f"]], 4)
    ['a', 'b', 'f', 'c']
    """
    chosen: list[str] = []
    left: list[str] = []
    for group in groups:
        if len(chosen) + len(group) <= count:
            chosen += group
        else:
            left += group
    return chosen + left[: count - len(chosen)]


def keep_best(row: dict[str, float], depth: int | None) -> dict[str, float]:
    """Return the ``depth`` best-scored documents of a row, ties by descending document id."""
    return dict(sorted(row.items(), key=lambda item: (item[1], item[0]), reverse=True)[:depth])
