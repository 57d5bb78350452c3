"""Ways of training a retriever at equal steps: what its negatives are, what its queries are, and who judges.

    python benchmarks/retrieval.py --data FOLDER --out DIR [--documents 600] [--steps 25] [--seed 0] [--only RECIPE]

A part of the collection is drawn: so many documents, and the queries whose relevant documents are all among them.
Each recipe is trained alike but for what its line says; every encoder then searches the whole part. A recipe whose run
stands in DIR is not trained again.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import lorank
from lorank.data import write_beir
from lorank.data.collection import Collection, Split
from lorank.data.trec import read_run, write_run
from lorank.ranking.metrics.table import to_markdown
from lorank.ranking.types import Run
from lorank.training.lists.retrieval import bm25_index, dense_run, fuse_runs
from lorank.training.recipe import RecipeFile, override
from lorank.tuned.ranker import merged

UNTUNED = "untuned"
QUERIES = {"reading.adapted": "queries"}
STATIC = {"lists.negatives_from": "static"}
RECIPES: dict[str, dict[str, Any]] = {
    "static": STATIC,
    "live": {"lists.negatives_from": "live"},
    "static, queries alone": STATIC | QUERIES,
    "adversarial": {"lists.negatives_from": "adversarial", "lists.negatives": 4, "loss.name": "ar2"},
    "adversarial, opponent first": {"lists.negatives_from": "adversarial", "lists.negatives": 4, "loss.name": "ar2"},
    "generated queries": {"lists.negatives_from": "bottom"},
    "distilled": {"loss.name": "kl", "lists.positives": 1, "lists.negatives": 4},
    "first stage": {},
}
"""What each recipe changes."""


def part_of(data: Collection, count: int, seed: int) -> Collection:
    """Return ``count`` documents of a collection with the queries whose relevant documents are all among them."""
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.permutation(len(data.document_ids))[:count])
    ids = [data.document_ids[i] for i in kept]
    known, splits = set(ids), {}
    for name, split in data.splits.items():
        qrels = {query: row for query, row in split.qrels.items() if row.keys() <= known}
        splits[name] = Split(name, {query: split.queries[query] for query in qrels}, qrels)
    titles = None if data.titles is None else [data.titles[i] for i in kept]
    name = f"{data.name}-{count}"
    return replace(
        data,
        name=name,
        document_ids=ids,
        documents=[str(data.documents[i]) for i in kept],
        splits=splits,
        titles=titles,
    )


def generated(data: Collection, out: Path, count: int) -> Collection:
    """Return the part with training queries that `lorank queries` makes of its documents."""
    from lorank.cli.app import app

    if not (out / "generated").exists():
        write_beir(data, out / "part")
        line = ["queries", "--data", out / "part", "--count", count, "--shortest", 0, "--out", out / "generated"]
        app(list(map(str, line)), standalone_mode=False)
    return lorank.load(str(out / "generated"))


def teacher(data: Collection, encoder: lorank.BiEncoder, path: Path) -> str:
    """Write the fusion of BM25 and the untuned encoder over the training queries, and return its path."""
    asked = data.train.queries
    lexical = bm25_index(data, path.parent / "bm25").search(asked, 100)
    fused = fuse_runs([lexical, dense_run(encoder, data, asked, 100)], np.array([0.5, 0.5]), 100)
    write_run(fused, path)
    return str(path)


def opponent(data: Collection, out: Path, settings: dict[str, Any], steps: int) -> str:
    """Train a cross-encoder on the training queries for ``steps`` steps, and return its folder."""
    ranker = lorank.CrossEncoder("minilm", max_length=settings["reading.max_length"] + 16)
    changes = settings | {"training.steps": steps, "reading.max_length": settings["reading.max_length"] + 16}
    recipe = override(RecipeFile(), changes | {"training.head_lr": 5e-4, "lists.negatives": 7})
    lorank.fit(ranker, data, out=out / "opponent", recipe=recipe, overwrite=True)
    return str(out / "opponent")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--opponent-steps", type=int, default=100, help="Steps of the opponent that is trained first.")
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(RECIPES), help="Train this one; repeat it.")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    data = part_of(lorank.load(options.data), options.documents, options.seed)
    same = {
        "training.steps": options.steps,
        "training.batch_size": 8,
        "training.evaluations": 1,
        "training.evaluation_queries": 2,
        "training.evaluation_depth": 5,
        "seed": options.seed,
        "keep": "tuned",
        "judge_test": False,
        "reading.max_length": options.length,
    }
    runs: dict[str, Run] = {}
    seconds: dict[str, float] = {}

    def once(name: str, make: Callable[[], Run]) -> None:
        path = out / f"{name.replace(' ', '-').replace(',', '')}.run"
        began = time.process_time()
        if not path.exists():
            write_run(make(), path)
        runs[name], seconds[name] = read_run(path), time.process_time() - began
        print(f"{name}: {seconds[name]:.0f} s of the processor", flush=True)

    def train(name: str, changes: dict[str, Any]) -> Run:
        source = generated(data, out, options.steps * 8) if name == "generated queries" else data
        if name == "distilled":
            base = lorank.BiEncoder("minilm", max_length=options.length)
            changes = changes | {"lists.teacher": teacher(data, base, out / "teacher.txt")}
        if name == "adversarial, opponent first":
            changes = changes | {"loss.opponent": opponent(data, out, same, options.opponent_steps)}
        adapted = "queries" if changes.get("lists.negatives_from") in ("live", "adversarial") else "both"
        ranker = lorank.BiEncoder("minilm", max_length=options.length, adapted=changes.get("reading.adapted", adapted))
        recipe = override(RecipeFile(), same | changes)
        folder = out / "fits" / name.replace(" ", "-").replace(",", "")
        tuned = lorank.fit(ranker, source, out=folder, recipe=recipe, overwrite=True)
        with merged(tuned.adapter):
            return dense_run(ranker, data, data.test.queries, 100)

    once("BM25", lambda: bm25_index(data, out / "bm25").search(data.test.queries, 100))
    once(
        UNTUNED,
        lambda: dense_run(lorank.BiEncoder("minilm", max_length=options.length), data, data.test.queries, 100),
    )
    for name in options.only or RECIPES:
        changes = RECIPES[name]
        once(name, lambda name=name, changes=changes: train(name, changes))  # type: ignore[misc]
    judged = lorank.evaluate(runs, data.test.qrels, measures=["R@100", "nDCG@10"], baseline=UNTUNED, resamples=2000)
    found = judged.to_dict() | {"seconds": seconds, "queries": {n: len(s.queries) for n, s in data.splits.items()}}
    (out / "judged.json").write_text(json.dumps(found, indent=1))
    print(to_markdown(judged, 140), flush=True)


if __name__ == "__main__":
    main()
