"""Pairs per second of every CPU path beside sentence-transformers' float32 default, and what each does to the order.

    lorank train --data ../shared/data/wikiqa --base minilm --kind cross-encoder --out runs/wikiqa-cross
    lorank adapter merge runs/wikiqa-cross --out runs/wikiqa-cross-merged
    python benchmarks/cpu.py --model runs/wikiqa-cross-merged --data ../shared/data/wikiqa

Speed: one query with 100 documents of 8 to 400 words, all sides in turn, round after round, in one process; medians.
Order: mean Kendall's tau with float32 over the candidate lists of judged queries, and their nDCG@10 beside float32's
with a 95 % bootstrap interval of the difference over queries. ``--clock cpu`` counts the process's CPU time, which
other work on the machine changes little.
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from scoring import mixed_documents

import lorank
from lorank.data.collection import Collection
from lorank.ranking.metrics import interval, per_query
from lorank.ranking.scorers import CrossEncoder
from lorank.ranking.scorers.paths import PATHS, run_on
from lorank.ranking.scorers.paths.self_test import agreement
from lorank.training.lists.retrieval import bm25_index

Score = Callable[[str, list[str]], np.ndarray]
PEER, REFERENCE, MEASURE = "sentence-transformers, float32", "torch-float32", "nDCG@10"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def sides(folder: str, names: list[str]) -> dict[str, Score]:
    """Return what is compared: the peer's default, and a ranker of its own on each path."""
    from sentence_transformers import CrossEncoder as Peer

    peer = Peer(folder, device="cpu")
    found: dict[str, Score] = {PEER: lambda q, ds: np.asarray(peer.predict([(q, d) for d in ds]))}
    for name in names:
        ranker = CrossEncoder.load(folder)
        why = PATHS[name].missing(ranker)
        if why is not None:
            print(f"{name}: {why}", file=sys.stderr)
            continue
        print(f"opening {name}", file=sys.stderr)
        run_on(ranker, name)
        found[name] = ranker.score
    return found


def seconds_of(
    systems: dict[str, Score], query: str, documents: list[str], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Return the seconds of each side, one timing a round after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(-1, rounds):
        for name, score in systems.items():
            begun = clock()
            score(query, documents)
            if turn >= 0:
                seconds[name].append(clock() - begun)
    return seconds


def lists_of(data: Collection, count: int, depth: int) -> dict[str, list[str]]:
    """Return the candidates of ``count`` judged test queries: those that came with the data, or BM25's best."""
    split = data.test
    queries = dict(list(split.queries.items())[:count])
    given = split.candidates or bm25_index(data).search(queries, depth)
    return {query: [*given[query]][:depth] for query in queries if len(given.get(query, {})) > 1}


Order = tuple[float, np.ndarray]


def order_of(systems: dict[str, Score], data: Collection, lists: dict[str, list[str]]) -> dict[str, Order]:
    """Return mean tau with the reference and nDCG@10 a query, by side."""
    texts = {query: [data.documents[data.position[d]] for d in ids] for query, ids in lists.items()}
    scores: dict[str, dict[str, np.ndarray]] = {name: {} for name in systems}
    for place, (query, documents) in enumerate(texts.items()):
        for name, score in systems.items():
            scores[name][query] = score(data.test.queries[query], documents)
        if place % 20 == 19:
            print(f"order: {place + 1}/{len(texts)} queries", file=sys.stderr)
    qrels = {query: data.test.qrels.get(query, {}) for query in lists}
    found = {}
    for name in systems:
        tau = np.mean([agreement(scores[REFERENCE][q], scores[name][q], len(lists[q]))[0] for q in lists])
        run = {q: dict(zip(ids, map(float, scores[name][q]), strict=True)) for q, ids in lists.items()}
        found[name] = float(tau), np.array(list(per_query(run, qrels, [MEASURE])[MEASURE].values()))
    return found


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a trained cross-encoder")
    parser.add_argument("--data", required=True, help="a collection with judged test queries")
    parser.add_argument("--paths", nargs="+", default=list(PATHS))
    parser.add_argument("--queries", type=int, default=100, help="judged queries for the order")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    data = lorank.load(options.data)
    systems = sides(options.model, list(dict.fromkeys([REFERENCE, *options.paths])))
    documents = mixed_documents(data, 100)
    query = next(iter(data.test.queries.values()))
    seconds = seconds_of(systems, query, documents, options.rounds, CLOCKS[options.clock])
    orders = order_of(systems, data, lists_of(data, options.queries, options.depth))
    exact = orders[REFERENCE][1]
    print(
        f"\n{datetime.date.today()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, {options.clock} clock, torch {torch.__version__}; "
        f"{len(exact)} judged queries of {data.name}\n"
    )
    print(f"| path | pairs/s | beside the peer | tau | {MEASURE} | change [95%] |\n|---|---:|---:|---:|---:|---:|")
    base = statistics.median(seconds[PEER])
    for name in sorted(systems, key=lambda name: statistics.median(seconds[name])):
        median = statistics.median(seconds[name])
        tau, values = orders[name]
        low, high = interval(values - exact, rng=np.random.default_rng(0))
        print(
            f"| {name} | {len(documents) / median:.0f} | {base / median:.2f} | {tau:.3f} | {values.mean():.4f} | "
            f"{(values - exact).mean():+.4f} [{low:+.4f}, {high:+.4f}] |"
        )


if __name__ == "__main__":
    main()
