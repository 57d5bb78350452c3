"""Pairs per second of a cross-encoder: lorank against sentence_transformers.CrossEncoder.predict.

One query with 100 documents of mixed length, on a MiniLM cross-encoder trained briefly on a BEIR folder. All
systems open the same saved folder and run in turn, round after round, in one process; medians are compared.

    python benchmarks/scoring.py --data ../shared/data/nfcorpus/beir

The trained ranker is kept in a cache folder (--cache), so that only the first run trains.
"""

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau

from lorank.data.beir import read_beir
from lorank.data.collection import Collection
from lorank.ranking import loss
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.ranking.scorers.precision import best_precision

STEPS, LISTS, NEGATIVES, TRAIN_LENGTH, FROZEN_LAYERS = 200, 4, 5, 80, 2
HEAD_RATE, BODY_RATE = 2e-3, 1e-4


def default_cache() -> Path:
    """Return the user's cache folder for trained benchmark models."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lorank-benchmarks"


def train(data: Collection, folder: Path, steps: int) -> None:
    """Train a MiniLM cross-encoder with a softmax loss over one relevant document and hard negatives."""
    ranker = CrossEncoder("minilm", max_length=TRAIN_LENGTH)
    split, generator = data.split("train"), np.random.default_rng(0)
    names = [q for q, row in split.qrels.items() if any(r > 0 for r in row.values())]
    hard = hard_negatives(data, [split.queries[q] for q in names], 40)
    inputs = ranker.prepare([split.queries[q] for q in names], data.documents)
    for part in (ranker.module.bert.embeddings, *ranker.module.bert.encoder.layer[:FROZEN_LAYERS]):
        part.requires_grad_(False)
    head = {name for name, _ in ranker.head_parameters()}
    trained = [(name, p) for name, p in ranker.module.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for name, p in trained if name in head], "lr": HEAD_RATE},
            {"params": [p for name, p in trained if name not in head], "lr": BODY_RATE},
        ]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [HEAD_RATE, BODY_RATE], total_steps=steps, pct_start=0.1)
    softmax, start = loss("softmax"), time.perf_counter()
    losses: list[float] = []
    for step in range(steps):
        chosen = generator.choice(len(names), LISTS, replace=False)
        lists = [candidate_list(data, split.qrels[names[q]], hard[q], generator) for q in chosen]
        documents = torch.tensor(lists)
        labels = torch.zeros(documents.shape)
        labels[:, 0] = 1.0
        mask = torch.ones(documents.shape, dtype=torch.bool)
        value = softmax(ranker.forward(inputs, torch.from_numpy(chosen), documents, mask), labels, mask)
        optimizer.zero_grad()
        value.backward()
        losses.append(value.item())
        torch.nn.utils.clip_grad_norm_(ranker.module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 19:
            spent = time.perf_counter() - start
            print(f"  step {step + 1}/{steps}  loss {np.mean(losses[-20:]):.3f}  {spent:.0f} s", flush=True)
    ranker.max_length = 512
    ranker.save(folder)


def hard_negatives(data: Collection, queries: list[str], depth: int) -> np.ndarray:
    """Return the documents that BM25 puts first, int [queries, depth]."""
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(data.documents), stopwords="en", show_progress=False), show_progress=False)
    found, _ = index.retrieve(
        bm25s.tokenize(queries, stopwords="en", show_progress=False), k=depth, show_progress=False
    )
    return found


def candidate_list(
    data: Collection, judged: dict[str, int], hard: np.ndarray, generator: np.random.Generator
) -> list[int]:
    """Return one relevant document and ``NEGATIVES`` others, half of them hard."""
    relevant = [data.position[d] for d, r in judged.items() if r > 0]
    others = [d for d in hard if d not in set(relevant)]
    half = min(NEGATIVES // 2, len(others))
    drawn = [int(generator.choice(relevant)), *map(int, generator.choice(others, half, replace=False))]
    return [*drawn, *map(int, generator.integers(0, len(data.documents), NEGATIVES - half))]


@dataclass(frozen=True)
class System:
    """One way of scoring: its name, number format, and a call that returns the scores of one query's documents."""

    name: str
    dtype: torch.dtype
    score: Callable[[str, list[str]], np.ndarray]
    flop: Callable[[np.ndarray], float]


def systems_of(folder: Path, ranker: CrossEncoder) -> list[System]:
    """Return the systems that are compared, all on the same saved weights."""
    from sentence_transformers import CrossEncoder as Peer

    peer = Peer(str(folder), device="cpu")
    half = Peer(str(folder), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    picked = CrossEncoder.load(folder)
    picked.dtype = "auto"
    own = flop_counter(ranker, last_layer_whole=False)
    whole = flop_counter(ranker, last_layer_whole=True)
    return [
        System(
            "sentence-transformers, default", torch.float32, lambda q, ds: peer.predict([(q, d) for d in ds]), whole
        ),
        System(
            "sentence-transformers, bfloat16", torch.bfloat16, lambda q, ds: half.predict([(q, d) for d in ds]), whole
        ),
        System("lorank, float32", torch.float32, ranker.score, own),
        System("lorank, auto", picked.scoring_dtype(), picked.score, own),
    ]


def flop_counter(ranker: CrossEncoder, *, last_layer_whole: bool) -> Callable[[np.ndarray], float]:
    """Return lengths -> floating point operations of the matrix products, padding not counted.

    A layer takes 8 d^2 (projections) + 4 d f (feed-forward) + 4 n d (attention) a token; for a last layer that
    is computed for first tokens only, keys and values take 4 d^2 a token, the rest is paid once a sequence.
    """
    config = ranker.module.config
    d, f, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers

    def layer(n: np.ndarray) -> float:
        return float((n * (8 * d * d + 4 * d * f) + 4 * n * n * d).sum())

    def last(n: np.ndarray) -> float:
        return float((n * (4 * d * d) + 4 * d * d + 4 * d * f + 4 * n * d).sum())

    return lambda n: (layers - 1) * layer(n) + (layer(n) if last_layer_whole else last(n))


def peak(dtype: torch.dtype, size: int = 2048, rounds: int = 3) -> float:
    """Return the floating point operations a second of a large square matrix product, the best of some."""
    a, b = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def mixed_documents(data: Collection, count: int, seed: int = 0) -> list[str]:
    """Return documents cut to lengths from 8 to 400 words, evenly spread on a log scale, shuffled."""
    generator = np.random.default_rng(seed)
    words = [text.split() for text in data.documents]
    long = [w for w in words if len(w) >= 400] or sorted(words, key=len)[-count:]
    lengths = generator.permutation(np.geomspace(8, 400, count).astype(int))
    chosen = generator.choice(len(long), count, replace=len(long) < count)
    return [" ".join(long[i][:n]) for i, n in zip(chosen, lengths)]


def alternate(
    systems: list[System], query: str, documents: list[str], rounds: int
) -> tuple[dict[str, list[float]], dict[torch.dtype, float]]:
    """Return the seconds of each system, one timing a round, the systems taking turns, and the best peak of each
    number format over all rounds."""
    peaks = dict.fromkeys((torch.float32, torch.bfloat16), 0.0)
    seconds: dict[str, list[float]] = {system.name: [] for system in systems}
    for turn in range(-1, rounds):
        peaks = {dtype: max(best, peak(dtype)) for dtype, best in peaks.items()}
        for system in systems:
            start = time.perf_counter()
            system.score(query, documents)
            if turn >= 0:
                seconds[system.name].append(time.perf_counter() - start)
    return seconds, peaks


Score = Callable[[str, list[str]], np.ndarray]


def agreement(rough: Score, exact: Score, data: Collection, queries: int, depth: int) -> tuple[float, float, float]:
    """Return mean and least Kendall tau of two systems over BM25's top documents of test queries, and the
    share of queries whose first document is the same."""
    texts = list(data.split("test").queries.values())[:queries]
    found = hard_negatives(data, texts, depth)
    taus, same = [], []
    for text, row in zip(texts, found):
        documents = [data.documents[i] for i in row]
        ours, theirs = rough(text, documents), exact(text, documents)
        taus.append(kendalltau(ours, theirs).statistic)
        same.append(np.argmax(ours) == np.argmax(theirs))
    return float(np.mean(taus)), float(np.min(taus)), float(np.mean(same))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a BEIR folder with a training split")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--tau-queries", type=int, default=3)
    options = parser.parse_args()
    data = read_beir(options.data)
    folder = options.cache / f"minilm-cross-{options.data.resolve().parent.name}-{options.steps}"
    if not (folder / "lorank.json").exists():
        print(f"training a cross-encoder for {options.steps} steps into {folder}")
        train(data, folder, options.steps)
    compare(folder, data, options.rounds, options.tau_queries)


def compare(folder: Path, data: Collection, rounds: int, tau_queries: int) -> None:
    """Time the systems and print the table."""
    ranker = CrossEncoder.load(folder)
    systems = systems_of(folder, ranker)
    documents = mixed_documents(data, 100)
    query = next(iter(data.split("test").queries.values()))
    inputs = ranker.prepare([query], documents)
    spans = ranker.first_spans(inputs, np.stack([np.zeros(100, np.int64), np.arange(100)], 1))
    lengths = spans.query.length + spans.document.length + ranker.template.pair_cost
    seconds, peaks = alternate(systems, query, documents, rounds)
    base = systems[0]
    exact = base.score(query, documents)
    print(
        f"{datetime.date.today()}  {platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}; auto picks {best_precision('cpu')}"
    )
    print(
        f"100 documents, {int(lengths.sum())} tokens (pairs of {lengths.min()} to {lengths.max()}); "
        f"peak {peaks[torch.float32] / 1e9:.0f} GFLOP/s float32, {peaks[torch.bfloat16] / 1e9:.0f} bfloat16"
    )
    print("| system | seconds (min to max) | pairs/s | ratio | share of peak (fastest run) | largest score change |")
    print("|---|---|---|---|---|---|")
    for system in systems:
        mine = seconds[system.name]
        median = statistics.median(mine)
        ratio = statistics.median(a / b for a, b in zip(seconds[base.name], mine))
        change = np.abs(system.score(query, documents) - exact).max()
        share = system.flop(lengths) / min(mine) / peaks[system.dtype]
        print(
            f"| {system.name} | {median:.3f} ({min(mine):.3f} to {max(mine):.3f}) | {100 / median:.0f} "
            f"| {ratio:.2f} | {share:.0%} | {change:.1e} |"
        )
    print(f"scores span {exact.min():.2f} to {exact.max():.2f}, standard deviation {exact.std():.2f}")
    embedder, embedder_auto = BiEncoder("minilm"), BiEncoder("minilm", dtype="auto")
    compared = {
        systems[1].name: (systems[1].score, ranker.score),
        systems[3].name: (systems[3].score, ranker.score),
        "lorank, auto (MiniLM bi-encoder as packaged)": (embedder_auto.score, embedder.score),
    }
    for name, (rough, precise) in compared.items():
        mean, least, same = agreement(rough, precise, data, tau_queries, 100)
        print(
            f"Kendall tau of {name} to float32, over BM25's top 100 of {tau_queries} test queries: "
            f"mean {mean:.4f}, least {least:.4f}; same first document for {same:.0%}"
        )


if __name__ == "__main__":
    main()
