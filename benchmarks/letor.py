"""Feature rankers and losses against LightGBM's LambdaMART: nDCG@10 with both gains, five folds, three seeds.

    OMP_NUM_THREADS=1 python benchmarks/letor.py --data mq2008=FOLDER --data lightgbm=FOLDER --out letor.jsonl
    python benchmarks/letor.py --out letor.jsonl --report

A FOLDER holds LETOR files (or LightGBM's with their .query files); all files are pooled and their queries dealt into
five folds: one to test, one to tune and stop on, three to learn from, in turn. Every method gets the same budget on
every fold: the same number of configurations, drawn once from its family's space, each fitted with seed 0 and judged by
nDCG@10 (exponential gain) on the tuning fold; the best is fitted with three seeds and judged on the test fold. Queries
without a relevant document are left out of all figures; equal scores count as the worst order. Values are means over
test queries of the mean over seeds, with 95% intervals by bootstrap over queries; differences to LambdaMART are paired
by query, tested by sign flips and corrected by Holm for all methods of a table. Every (data, method, fold) is a line of
the output, and lines that are there are not done again.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lorank.data.letor import feature_collection, groups_file
from lorank.data.svmlight import read_feature_rows
from lorank.ranking.losses import LOSSES, requirements_of
from lorank.ranking.metrics import holm, interval, randomization_test
from lorank.ranking.scorers.features import FeatureLists, FeatureRanker
from lorank.ranking.scorers.features.descent import main_measure
from lorank.ranking.scorers.features.rows import ndcg
from lorank.ranking.scorers.features.trees import TreeRanker

FOLDS, SEEDS, CONFIGURATIONS = 5, 3, 8
BASELINE = "LightGBM lambdarank (LambdaMART)"

TREES = {
    "trees": [500],
    "patience": [50],
    "leaves": [4, 8, 16, 31],
    "lr": [0.02, 0.05, 0.1],
    "leaf_rows": [5, 10, 20, 50],
    "l2": [0.0, 1.0, 10.0],
    "columns": [0.5, 0.8, 1.0],
}
RATES = {"lr": [1e-3, 3e-3, 1e-2], "weight_decay": [0.0, 1e-2, 1e-1], "epochs": [100], "patience": [15]}
SHAPES = {"transform": ["log1p-standardise", "quantile", "query-standardise", "quantile-query-standardise"]}
LINEAR = {**RATES, **SHAPES}
MLP = {**RATES, **SHAPES, "hidden": [(32,), (64, 32), (128, 64)], "dropout": [0.0, 0.2, 0.4]}
SET = {**RATES, **SHAPES, "lr": [3e-4, 1e-3, 3e-3], "width": [32, 64], "blocks": [1, 2], "dropout": [0.1, 0.3]}
TOUR = {**SET, "blocks": [0, 1], "lr": [1e-3, 3e-3, 1e-2]}
POINTER = {**RATES, **SHAPES, "width": [32, 64], "steps": [1, 3], "places": [5, 10]}
BOOSTED = {
    "transform": ["log1p-standardise", "quantile", "standardise"],
    "units": [4, 8, 16],
    "stages": [60],
    "shrinkage": [0.1, 0.3],
    "l2": [1e-4, 1e-3, 1e-2],
    "patience": [15],
}
DESCENT = ("lr", "weight_decay", "epochs", "patience", "batch_size")


def grown(library: str, objective: str) -> Callable[..., Any]:
    """Return a function that grows trees."""

    def fit(train: FeatureLists, dev: FeatureLists, seed: int, config: dict[str, Any]) -> TreeRanker:
        return TreeRanker(library, objective=objective, seed=seed, **config).fit(train, dev)

    return fit


def descended(model: str, loss: str | None = None, **fixed: Any) -> Callable[..., Any]:
    """Return a function that trains a network."""

    def fit(train: FeatureLists, dev: FeatureLists, seed: int, config: dict[str, Any]) -> FeatureRanker:
        rates = {name: value for name, value in config.items() if name in DESCENT}
        shape = {name: value for name, value in config.items() if name not in DESCENT}
        return FeatureRanker(model=model, seed=seed, **fixed, **shape).fit(train, dev, loss=loss, **rates)

    return fit


def methods() -> dict[str, tuple[dict[str, list], Callable[..., Any]]]:
    """Return every method's space and fit, those of most interest first."""
    first = {
        BASELINE: (TREES, grown("lightgbm", "lambdarank")),
        "linear, softmax": (LINEAR, descended("linear", "softmax")),
        "MLP, softmax": (MLP, descended("mlp", "softmax")),
        "MLP, lambda": (MLP, descended("mlp", "lambda")),
        "LightGBM, our lambda": (TREES, grown("lightgbm", "lambda")),
        "LightGBM, our softmax": (TREES, grown("lightgbm", "softmax")),
        "LightGBM, our yetirank": (TREES, grown("lightgbm", "yetirank")),
        "LightGBM rank_xendcg": (TREES, grown("lightgbm", "rank_xendcg")),
        "XGBoost rank:ndcg": (TREES, grown("xgboost", "rank:ndcg")),
        "XGBoost, our lambda": (TREES, grown("xgboost", "lambda")),
        "CatBoost YetiRank": (TREES, grown("catboost", "YetiRank")),
        "boosted network, softmax": (BOOSTED, descended("boosted", "softmax")),
        "boosted network, lambda": (BOOSTED, descended("boosted", "lambda")),
        "linear, lambda": (LINEAR, descended("linear", "lambda")),
        "set transformer, softmax": (SET, descended("set-transformer", "softmax")),
        "set transformer, lambda": (SET, descended("set-transformer", "lambda")),
        "pointer": (POINTER, descended("pointer")),
        "TSPRank, local": (TOUR, descended("tsprank", learning="local")),
        "TSPRank, global": (TOUR, descended("tsprank", learning="global")),
    }
    plain = [name for name in LOSSES if not requirements_of(LOSSES[name]) and name not in ("softmax", "lambda")]
    rest = {f"MLP, {name}": (MLP, descended("mlp", name)) for name in plain}
    return {**first, **rest, "CatBoost StochasticRank": (TREES, grown("catboost", "StochasticRank"))}


def configurations(space: dict[str, list]) -> list[dict[str, Any]]:
    """Return different configurations, the same for every method of a family."""
    rng, chosen = np.random.default_rng(0), []
    most = int(np.prod([len(values) for values in space.values()]))
    while len(chosen) < min(CONFIGURATIONS, most):
        config = {name: values[int(rng.integers(len(values)))] for name, values in space.items()}
        if config not in chosen:
            chosen.append(config)
    return chosen


def read(folder: Path) -> FeatureLists:
    """Return all files of a folder as one."""
    paths = [
        p
        for p in sorted(folder.iterdir())
        if (p.name.startswith("S") or p.name.startswith("rank.")) and ".query" not in p.name and "SOURCE" not in p.name
    ]
    files = {path.name: read_feature_rows(path, groups_file(path)) for path in paths}
    rows = feature_collection("all", files).documents
    labels = np.concatenate([file.labels for file in files.values()])
    sizes = np.concatenate([np.diff(file.offsets) for file in files.values()])
    return FeatureLists(rows, labels, np.concatenate([[0], np.cumsum(sizes)]))


def parts(lists: FeatureLists, fold: int) -> tuple[FeatureLists, FeatureLists, FeatureLists, np.ndarray]:
    """Return the lists to learn from, to tune on and to test on, and the numbers of the last."""
    dealt = np.random.default_rng(0).permutation(len(lists)) % FOLDS
    test, dev = np.flatnonzero(dealt == fold), np.flatnonzero(dealt == (fold + 1) % FOLDS)
    train = np.flatnonzero((dealt != fold) & (dealt != (fold + 1) % FOLDS))
    return lists.take(train), lists.take(dev), lists.take(test), test


def one(data: str, name: str, fold: int, lists: FeatureLists) -> dict[str, Any]:
    """Tune a method on a fold and judge it there."""
    space, fit = methods()[name]
    train, dev, test, queries = parts(lists, fold)
    start, tuned = time.process_time(), []
    for config in configurations(space):
        ranker = fit(train, dev, 0, config)
        tuned.append((main_measure(ranker.score_lists(dev), dev), len(tuned), config, ranker))
    best, _, config, ranker = max(tuned, key=lambda entry: (entry[0], -entry[1]))
    rankers = [ranker, *(fit(train, dev, seed, config) for seed in range(1, SEEDS))]
    seconds = time.process_time() - start
    scores = [ranker.score_lists(test) for ranker in rankers]
    values = {gain: [ndcg(test, s, gain=gain) for s in scores] for gain in ("exponential", "linear")}
    kept = np.isfinite(values["linear"][0])
    return {
        "data": data,
        "method": name,
        "fold": fold,
        "dev": best,
        "config": config,
        "seconds": seconds,
        "queries": queries[kept].tolist(),
        **{gain: [np.round(v[kept], 6).tolist() for v in each] for gain, each in values.items()},
    }


def report(lines: list[dict[str, Any]]) -> str:
    """Return the tables, one for each data set."""
    text = []
    for data in dict.fromkeys(line["data"] for line in lines):
        mine = [line for line in lines if line["data"] == data]
        names = [
            n
            for n in dict.fromkeys(line["method"] for line in mine)
            if len([line for line in mine if line["method"] == n]) == FOLDS
        ]
        if BASELINE not in names:
            continue
        count = sum(len(line["queries"]) for line in mine if line["method"] == BASELINE)
        text += [
            f"### {data}: {count} queries",
            "",
            "| method | nDCG@10, 2^y - 1 | against LambdaMART | Holm p | nDCG@10, linear | against LambdaMART "
            "| Holm p | over seeds | CPU s |",
            "|---|---|---|---:|---|---|---:|---:|---:|",
        ]
        cells = {gain: compared(mine, names, gain) for gain in ("exponential", "linear")}
        for name in sorted(names, key=lambda name: -cells["exponential"][name][0]):
            own = [line for line in mine if line["method"] == name]
            seeds = [np.mean(np.concatenate([line["exponential"][s] for line in own])) for s in range(SEEDS)]
            text.append(
                f"| {name} | {cells['exponential'][name][1]} | {cells['linear'][name][1]} "
                f"| {np.std(seeds, ddof=1):.4f} | {sum(line['seconds'] for line in own):.0f} |"
            )
        text.append("")
    return "\n".join(text)


def compared(lines: list[dict[str, Any]], names: list[str], gain: str) -> dict[str, tuple[float, str]]:
    """Return each method's mean and its cells: value, difference to LambdaMART, Holm's p over all methods."""
    base = pooled(lines, BASELINE, gain)
    values = {name: np.array([pooled(lines, name, gain)[query] for query in sorted(base)]) for name in names}
    others = [name for name in names if name != BASELINE]
    gaps = np.stack([values[name] - values[BASELINE] for name in others], 1)
    p = dict(zip(others, holm(randomization_test(gaps, rng=np.random.default_rng(0))), strict=True))
    cells = {}
    for name in names:
        against = (
            " | " if name == BASELINE else (f"{with_interval(values[name] - values[BASELINE], '+.4f')} | {p[name]:.3f}")
        )
        cells[name] = values[name].mean(), f"{with_interval(values[name], '.4f')} | {against}"
    return cells


def with_interval(values: np.ndarray, form: str) -> str:
    """Return the mean with its 95% interval, every call on the same resamples."""
    low, high = interval(values, rng=np.random.default_rng(0))
    return f"{values.mean():{form}} [{low:{form}}, {high:{form}}]"


def pooled(lines: list[dict[str, Any]], name: str, gain: str) -> dict[int, float]:
    """Return each test query's value, the mean over seeds."""
    return {
        query: float(value)
        for line in lines
        if line["method"] == name
        for query, value in zip(line["queries"], np.mean(line[gain], 0), strict=True)
    }


def main() -> None:
    """Run what is missing, or report what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--out", type=Path, default=Path("letor.jsonl"))
    parser.add_argument("--methods", default="", help="only those whose name contains this")
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    if not given.report:
        torch.set_num_threads(1)
        done = {(line["data"], line["method"], line["fold"]) for line in lines}
        sets = {entry.partition("=")[0]: read(Path(entry.partition("=")[2])) for entry in given.data}
        for name in (name for name in methods() if given.methods in name):
            for data, lists in sets.items():
                for fold in (fold for fold in range(FOLDS) if (data, name, fold) not in done):
                    line = one(data, name, fold, lists)
                    with given.out.open("a") as file:
                        file.write(json.dumps(line) + "\n")
                    lines.append(line)
                    print(
                        f"{data} · {name} · fold {fold}: dev {line['dev']:.4f}, test "
                        f"{np.mean(line['exponential']):.4f}, {line['seconds']:.0f} s",
                        file=sys.stderr,
                        flush=True,
                    )
    print(report(lines))


if __name__ == "__main__":
    main()
