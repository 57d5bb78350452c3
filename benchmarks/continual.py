"""Streams of four collections in two orders: what each continual method forgets, where it ends, and what it costs.

    OMP_NUM_THREADS=1 python benchmarks/continual.py run [--methods sequential replay ...] [--orders 0 1] [--seeds 0]
    OMP_NUM_THREADS=1 python benchmarks/continual.py table

MiniLM as a bi-encoder learns cranfield, nfcorpus, pydocs and lohelp, and the other way round, from 32 tokens of the
first 60 words of each document: ``--steps`` steps of 16 lists per collection, each method at its own defaults. LoRA has
rank 8. Cranfield has one judged split, of which three fifths are trained on. After each stage the learned score reranks
the first 8 of BM25 for ``--queries`` test queries of every collection, the same for all methods.

A run is a line of the ledger and is not made twice; the table is of the runs with the same steps and queries.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import lorank
from lorank.continual import METHODS, QualityMatrix, train_stream
from lorank.continual.core.train_stream import divided
from lorank.data.collection import Collection
from lorank.data.folds import subset
from lorank.training.lists.retrieval import bm25_index
from lorank.training.recipe import RecipeFile, override

SHARED = Path(__file__).resolve().parent.parent.parent.parent / "shared" / "data"
NAMES = ("cranfield", "nfcorpus", "pydocs", "lohelp")
ORDERS = (NAMES, NAMES[::-1])
FIRST = ("sequential", "one-adapter-each", "replay", "codyra", "mora-mixture", "coso", "gorp", "plwf")
METHODS_IN_ORDER = (*FIRST, *sorted(set(METHODS) - set(FIRST)))
DEPTH, WORDS = 8, 60


def load(name: str, shared: Path, queries: int) -> Collection:
    """Return a collection with three splits, and ``queries`` queries at even places of its test set."""
    packaged = name in lorank.index.names("collection")
    data = divided(lorank.load(name if packaged else str(shared / name / "beir")), 0)
    data = replace(data, documents=[" ".join(text.split()[:WORDS]) for text in data.documents])
    judged = [query for query in data.test.queries if data.test.qrels.get(query)]
    chosen = judged[:: max(1, len(judged) // queries)][:queries]
    test = subset(data.test, chosen, "test")
    test = replace(test, candidates=bm25_index(data).search(test.queries, DEPTH))
    return replace(data, name=name, splits={**data.splits, "test": test})


def recipe_of(method: str, steps: int, seed: int) -> RecipeFile:
    """Return the recipe of a method at its own defaults."""
    changes: dict[str, Any] = {
        "base": "minilm",
        "kind": "bi-encoder",
        "continual.name": method,
        "reading.max_length": 32,
        "reading.long": "truncate",
        "lists.depth": 20,
        "training.steps": steps,
        "training.batch_size": 16,
        "training.evaluations": 1,
        "training.evaluation_queries": 10,
        "training.evaluation_depth": 10,
        "seed": seed,
    }
    return override(RecipeFile(), changes)


def run(method: str, order: int, steps: int, seed: int, queries: int, shared: Path) -> dict[str, Any]:
    """Train one stream and return what it reached and cost."""
    collections = [load(name, shared, queries) for name in ORDERS[order]]
    folder = Path(tempfile.mkdtemp())
    began, cpu = time.monotonic(), time.process_time()
    try:
        done = train_stream(recipe_of(method, steps, seed), collections, folder / "out")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "method": method,
        "order": order,
        "steps": steps,
        "queries": queries,
        "seed": seed,
        **done.matrix.to_dict(),
        "stages": done.stages,
        "seconds": time.monotonic() - began,
        "cpu": time.process_time() - cpu,
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
    }


def read(ledger: Path) -> list[dict[str, Any]]:
    """Return the runs that were made."""
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the runs as tables in Markdown: one per order, and the last row of each matrix."""
    parts = []
    for order, names in enumerate(ORDERS):
        own = {}
        for row in rows:
            if row["order"] == order:
                own.setdefault(row["method"], []).append(row)
        if not own:
            continue
        lines = [
            f"## {', '.join(names)}",
            "",
            f"| method | {' | '.join(names)} | final mean | after own stage | forgotten | transfer | MB | CPU s |",
            "|---|" + "---:|" * (len(names) + 6),
        ]
        base = next(iter(own.values()))[0]
        first = base["quality"][0]
        lines.append(f"| untuned | {' | '.join(_figure(v) for v in first)} | {_figure(sum(first) / 4)} | | | | | |")
        for method in METHODS_IN_ORDER:
            if method not in own:
                continue
            made = own.pop(method)
            matrices = [QualityMatrix(tuple(each["tests"]), tuple(map(tuple, each["quality"]))) for each in made]
            last = [_mean([matrix.rows[-1][j] for matrix in matrices]) for j in range(len(names))]
            learned = _mean([_mean(matrix.learned()) for matrix in matrices])
            megabytes = _mean([_kept(each) for each in made]) / 1e6
            lines.append(
                f"| {method} | {' | '.join(map(_figure, last))} | {_figure(_mean([m.final_mean() for m in matrices]))} "
                f"| {_figure(learned)} | {_figure(_mean([m.mean_forgetting() for m in matrices]))} "
                f"| {_mean([m.mean_transfer() for m in matrices]):+.3f} | {megabytes:.1f} "
                f"| {_mean([each['cpu'] for each in made]):.0f} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _kept(row: dict[str, Any]) -> float:
    """Return the bytes of what is served in the end: the last model, or all of a method that keeps several."""
    sizes = [stage["bytes"] for stage in row["stages"]]
    if row["method"] == "one-adapter-each":
        return float(sum(sizes))
    experts = {stage.get("expert"): size for stage, size in zip(row["stages"], sizes, strict=True)}
    return float(sum(experts.values())) if row["method"] in ("par-lifelong", "tame") else float(sizes[-1])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _figure(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def main() -> None:
    """Run what the ledger lacks, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--methods", nargs="*", default=list(dict.fromkeys(METHODS_IN_ORDER)))
    parser.add_argument("--orders", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--ledger", type=Path, default=Path("runs/continual.jsonl"))
    given = parser.parse_args()
    if given.what == "table":
        size = (given.steps, given.queries)
        print(table([row for row in read(given.ledger) if (row["steps"], row.get("queries")) == size]))
        return
    given.ledger.parent.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for order in given.orders:
            for method in given.methods:
                key = {"method": method, "order": order, "seed": seed, "steps": given.steps, "queries": given.queries}
                if any({part: row.get(part) for part in key} == key for row in read(given.ledger)):
                    continue
                row = run(method, order, given.steps, seed, given.queries, given.shared)
                with given.ledger.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{method} order {order} seed {seed}: final {row['final_mean']:.3f}, forgotten "
                      f"{row['mean_forgetting']:.3f}, {row['cpu']:.0f} CPU s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
