"""Shrink a tuned ranker by every method at 75, 50 and 25 % of its linear weights: order, quality and speed.

    lorank train --data lohelp --base minilm ... --out runs/bi
    python benchmarks/shrink.py runs/bi --queries 100 --candidates 50 --out runs/bi.jsonl
    python benchmarks/shrink.py --tables runs/bi.jsonl

Decompositions are computed once per method, and so is the loss of order of each layer. Speeds are ratios to the
original, both sides taking turns in one process on one thread, in processor time; the median of the rounds is kept.
Quality is measured on judged dev queries, which no method sees; calibration takes training queries, no judgments.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lorank
from lorank.lowrank.module_tree import replace_modules
from lorank.lowrank.shrink import SHRINKERS
from lorank.lowrank.shrink.core.layers import layers_to_shrink
from lorank.lowrank.shrink.core.moments import gather_moments
from lorank.lowrank.shrink.core.ranks import POLICIES
from lorank.lowrank.shrink.core.shrinker import Weight
from lorank.lowrank.shrink.core.trial import Trial, matrix_of
from lorank.lowrank.shrink.order_ranks import measure_layer, solve_knapsack
from lorank.rank_correlation import kendall_tau
from lorank.ranking.metrics.agreement import compare_runs
from lorank.ranking.metrics.groups import group_tied_queries, grouped_interval, membership
from lorank.ranking.metrics.measures import per_query
from lorank.training.lists.retrieval import bm25_index
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.order_loss import order_loss
from lorank.tuned.ranker import score_run
from lorank.tuned.shrinking import CalibrationPairs, dense_copy

RATIOS = (0.75, 0.5, 0.25)
ROWS = [
    *((method, None) for method in ("svd", "eora", "lord", "welore", "cur")),
    ("eora", "energy"),
    ("eora", "order"),
]


def drawn(queries: dict[str, str], most: int, rng: np.random.Generator) -> dict[str, str]:
    """Return at most ``most`` of the queries."""
    names = list(queries)
    return {names[i]: queries[names[i]] for i in sorted(rng.permutation(len(names))[:most])}


def set_up(arguments: argparse.Namespace) -> tuple[Any, ...]:
    """Return the ranker with its adapter merged, the collection, what is judged, and the calibration pairs."""
    collection = lorank.load(arguments.data)
    tuned = open_ranker(arguments.ranker)
    ranker = tuned.ranker
    ranker.module = dense_copy(ranker.module, tuned.adapter).requires_grad_(False)
    ranker.dtype = "float32"
    rng, index = np.random.default_rng(0), bm25_index(collection)
    dev = drawn(collection.dev.queries, arguments.queries, rng)
    train = drawn(collection.train.queries, arguments.calibration_queries, rng)
    pairs = CalibrationPairs.of(collection, train, index.search(train, arguments.depth), arguments.depth)
    return ranker, collection, dev, index.search(dev, arguments.candidates), pairs


def trial_of(ranker: Any, method: str, score: Callable[[], Any], loss: Callable[[Any], float]) -> Trial:
    """Return the layers of the model with their decompositions by one method."""
    layers = layers_to_shrink(ranker.module, "all-linear", (), False)
    chosen = SHRINKERS[method]
    moments = gather_moments(ranker.module, layers, lambda _: score()) if chosen.calibrated else {}
    parts = {}
    for place, (path, layer) in enumerate(layers.items()):
        weight = Weight(matrix_of(layer), moments.get(path), torch.Generator().manual_seed(place))
        parts[path] = chosen.decompose(weight)
    return Trial(ranker.module, layers, parts, {}, loss)


def timed(ranker: Any, trial: Trial, layers: dict[str, Any], sample: tuple[Any, Any], rounds: int = 3) -> float:
    """Return how many times as fast the shrunk model is: both take turns, medians."""
    pairs = [(trial.layers[path], new) for path, new in layers.items()]
    back = [(new, old) for old, new in pairs]
    seconds = {"dense": [], "small": []}
    for _ in range(rounds):
        for side in ("dense", "small"):
            if side == "small":
                replace_modules(ranker.module, pairs)
            begun = time.process_time()
            ranker.score_prepared(*sample)
            seconds[side].append(time.process_time() - begun)
            if side == "small":
                replace_modules(ranker.module, back)
    return statistics.median(seconds["dense"]) / statistics.median(seconds["small"])


def measure(arguments: argparse.Namespace) -> None:
    """Append one JSON line for each method and ratio."""
    ranker, collection, dev, candidates, pairs = set_up(arguments)
    prepared = ranker.prepare(pairs.queries, pairs.documents)
    score = partial(ranker.score_prepared, prepared, pairs.pairs)
    loss = order_loss(score, pairs.starts)
    few = pairs.pairs[: min(len(pairs.pairs), 60)]
    run = partial(score_run, ranker, collection, dev, candidates)
    original, trials, costs = run(), {}, {}
    write(arguments.out, {"row": "original", "run": original, "queries": list(dev)})
    for ratio in RATIOS:
        for method, ranks in ROWS:
            if method not in trials:
                trials[method] = trial_of(ranker, method, score, loss)
            trial = trials[method]
            problem = trial.problem(ratio)
            if ranks == "order":
                if method not in costs:
                    costs[method] = {path: measure_layer(problem, path) for path in problem.shapes}
                options = [
                    solve_knapsack(costs[method], problem.budget),
                    *(POLICIES[name](problem) for name in ("uniform", "energy")),
                ]
                losses = [trial.measure(each) for each in options]
                best = int(np.argmin(losses))
                chosen, taken = options[best], ("knapsack", "uniform", "energy")[best]
            else:
                chosen, taken = POLICIES[ranks or SHRINKERS[method].ranks](problem), ""
            layers = trial.build(chosen)
            faster = timed(ranker, trial, layers, (prepared, few))
            replace_modules(ranker.module, [(trial.layers[path], new) for path, new in layers.items()])
            small = run()
            replace_modules(ranker.module, [(new, trial.layers[path]) for path, new in layers.items()])
            found = compare_runs(original, small, rng=np.random.default_rng(0), qrels=judged(collection, dev))
            write(
                arguments.out,
                {
                    "row": method,
                    "ranks": ranks or SHRINKERS[method].ranks,
                    "ratio": ratio,
                    "weights": problem.total(chosen) / problem.whole,
                    "faster": faster,
                    "taken": taken,
                    "agreement": asdict(found) | {"flipped": None},
                    "run": small,
                },
            )


def judged(collection: Any, queries: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return the judgments of the queries."""
    return {query: collection.dev.qrels[query] for query in queries if query in collection.dev.qrels}


def write(path: str, row: dict[str, Any]) -> None:
    """Append a line."""
    with Path(path).open("a") as file:
        file.write(json.dumps(row) + "\n")


def tables(path: str, data: str) -> None:
    """Print the tables of a file of results."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    original, collection = rows[0], lorank.load(data)
    qrels = judged(collection, original["queries"])
    queries = list(qrels)
    member = membership(group_tied_queries(qrels), queries)
    taus = {}
    print("| kept | method | ranks | nDCG@10 | change to the original | tau | same first | times as fast |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows[1:]:
        found = row["agreement"]
        change = found["measures"]["nDCG@10"]
        low, high = change["difference"]["interval"]
        tie = " (tie)" if low <= 0 <= high else ""
        values = [kendall_tau(*lists(original["run"][q], row["run"][q])) for q in queries]
        gains = per_query({q: row["run"][q] for q in queries}, qrels, ["nDCG@10"])["nDCG@10"]
        taus[row["row"], row["ranks"], row["ratio"]] = np.array(values), np.array([gains[q] for q in queries])
        print(
            f"| {row['weights']:.0%} | {row['row']} | {row['ranks']}{' → ' + row['taken'] if row['taken'] else ''} | "
            f"{change['second']:.3f} | {change['difference']['mean']:+.3f} [{low:+.3f}, {high:+.3f}]{tie} | "
            f"{found['tau']['mean']:.3f} | {found['same_first']:.0%} | {row['faster']:.2f} |"
        )
    print(f"\n{len(queries)} queries in {member.max() + 1} groups; original {change['first']:.3f}\n")
    print("| kept | order-keeping against | tau | nDCG@10 |\n|---|---|---|---|")
    for ratio in RATIOS:
        for own, other in ((("eora", "order"), ("eora", "uniform")), (("eora", "order"), ("eora", "energy"))):
            if (*own, ratio) in taus and (*other, ratio) in taus:
                cells = []
                for a, b in zip(taus[(*own, ratio)], taus[(*other, ratio)], strict=True):
                    low, high = grouped_interval(a - b, member, rng=np.random.default_rng(0))
                    tie = " (tie)" if low <= 0 <= high else ""
                    cells.append(f"{(a - b).mean():+.3f} [{low:+.3f}, {high:+.3f}]{tie}")
                print(f"| {ratio:.0%} | {own[0]}, {other[1]} | {cells[0]} | {cells[1]} |")


def lists(first: dict[str, float], second: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of two rows in one order."""
    return np.array([first[d] for d in first]), np.array([second[d] for d in first])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ranker", nargs="?")
    parser.add_argument("--data", default="lohelp")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--calibration-queries", type=int, default=32)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--out", default="shrink.jsonl")
    parser.add_argument("--tables")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tables(given.tables, given.data) if given.tables else measure(given)
