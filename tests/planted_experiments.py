"""Experiments whose true differences are known: values of queries in groups, with effects of rows and of seeds."""

from dataclasses import dataclass

import numpy as np

from lorank.compare.results import ExperimentResult, RowResult, TrialResult
from lorank.compare.statistics_settings import StatisticsSettings


@dataclass(frozen=True)
class Planted:
    """How values are drawn: ``shift`` by row, and the sizes of what groups, queries, seeds and both make together.

    ``queries_per_group`` is one size, or the size of each group.
    """

    groups: int = 40
    queries_per_group: int | tuple[int, ...] = 3
    group_sd: float = 0.1
    query_sd: float = 0.1
    seed_sd: float = 0.0
    together_sd: float = 0.0


def draw_row(planted: Planted, shift: float, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """Return values [queries, seeds] of a row whose true mean is ``shift``: all effects are normal around 0."""
    group = rng.normal(0, planted.group_sd, planted.groups)[group_of_each(planted)]
    queries = len(group)
    values = shift + group + rng.normal(0, planted.query_sd, queries)
    moved = values[:, None] + rng.normal(0, planted.seed_sd, seeds)
    return moved + rng.normal(0, planted.together_sd, (queries, seeds))


def group_of_each(planted: Planted) -> np.ndarray:
    """Return the group of each query, int64 [queries]."""
    return np.repeat(np.arange(planted.groups), planted.queries_per_group)


def plant_experiment(
    shifts: dict[str, float],
    planted: Planted = Planted(),
    *,
    seeds: int = 1,
    collections: tuple[str, ...] = ("planted",),
    baseline: str | None = "bm25",
    measures: tuple[str, ...] = ("nDCG@10",),
    statistics: StatisticsSettings | None = None,
    seed: int = 0,
    failed: dict[str, str] | None = None,
) -> ExperimentResult:
    """Return an experiment of rows with the given shifts from 0.5, each on every collection, values in [0, 1]."""
    rng = np.random.default_rng(seed)
    queries = [f"q{k}" for k in range(len(group_of_each(planted)))]
    groups = {q: f"g{g}" for q, g in zip(queries, group_of_each(planted).tolist())}
    rows = []
    for data in collections:
        shared = draw_row(planted, 0.0, 1, rng)
        for place, (name, shift) in enumerate(shifts.items()):
            trained = name != "bm25"
            values = shared / 2 + draw_row(planted, 0.5 + shift, seeds if trained else 1, rng)
            values = np.clip(values, 0, 1)
            trials = [
                TrialResult(
                    seed=s,
                    dev={measures[0]: float(values[:, s].mean())},
                    test={m: dict(zip(queries, values[:, s].tolist())) for m in measures},
                    cost={
                        "train_seconds": 30.0 * 2 ** (place % 9),
                        "trained_parameters": 1e4 * 3 ** (place % 7),
                        "peak_bytes": 5e8 * (place + 1),
                    }
                    if trained
                    else {"score_seconds": 0.5},
                    curve=[(step, 0.5 + shift * (1 - 2 ** (-step / 50)) + 0.002 * s) for step in range(0, 201, 20)]
                    if trained
                    else (),
                )
                for s in range(values.shape[1])
            ]
            rows.append(
                RowResult(
                    name=name,
                    data=data,
                    settings={"adapter": name},
                    trials=trials,
                    swept=[(10.0**-k, 0.5 + shift - 0.01 * abs(k - 3)) for k in (5, 4, 3, 2)] if trained else (),
                    command=f"lorank train --data {data} --adapter {name}",
                    seeded=trained,
                )
            )
        rows += [RowResult(name, data, {}, failed=why) for name, why in (failed or {}).items()]
    return ExperimentResult(
        name="planted",
        rows=rows,
        measures=list(measures),
        groups=dict.fromkeys(collections, groups),
        baseline=baseline,
        texts={data: {q: f"what is the answer to question {q[1:]}" for q in queries} for data in collections},
        source='name = "planted"\n[axes]\nadapter = ["lora", "dora"]\n',
        provenance={"date": "2026-11-29T16:00:00+00:00", "lorank": "0", "command": "lorank compare planted.toml"},
        statistics=statistics or StatisticsSettings(resamples=2000),
    )
