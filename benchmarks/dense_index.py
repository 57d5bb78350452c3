"""A million vectors of a dense index: build, search, add, delete, compact, cluster and probe, in seconds and megabytes.

    python benchmarks/dense_index.py --out DIR [--documents 1000000] [--dimension 384] [--dtype float32]

Vectors are random, around 5,000 topics, and of unit length; encoding them is not part of the figures. Each stage runs
in its own process, so that the peak of its memory is its own: "own MB" is what the process allocates, "peak MB" counts
mapped pages of files too, which the system takes back when others need memory. FAISS searches the same vectors where it
is installed, in turns with lorank, a fifth of the queries at a time; BM25 has texts of about 60 made-up words, and
bm25s indexes and searches the same beside it.
"""

import argparse
import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from lorank.ranking.dense_index import DenseIndex
from lorank.ranking.scorers.encoded import EncodedDocuments

STAGES = ("build", "open", "search", "faiss", "add", "delete", "compact", "cluster", "probe", "bm25", "bm25s")
QUERIES, DEPTH, CHANGED, TOPICS, SPREAD = 100, 100, 10_000, 5_000, 1.0
PROBES = (8, 32, 128)


def vectors(first: int, count: int, dimension: int) -> EncodedDocuments:
    """Return the vectors of documents from ``first`` on, the same in every process."""
    topics = np.random.default_rng(7).standard_normal((TOPICS, dimension), np.float32)
    rng = np.random.default_rng([7, first])
    rows = topics[rng.integers(0, TOPICS, count)] + SPREAD * rng.standard_normal((count, dimension), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return EncodedDocuments(rows, np.arange(count), np.zeros(count, bool))


def encode(texts: list[str], dimension: int) -> EncodedDocuments:
    """Return the vectors of documents whose texts end in their numbers."""
    return vectors(int(texts[0].rsplit(" ", 1)[1]), len(texts), dimension)


def texts_of(first: int, count: int) -> list[str]:
    """Return texts of about 60 made-up words, drawn as words are: a few often, most seldom."""
    rng = np.random.default_rng([8, first])
    words = np.minimum(rng.zipf(1.3, (count, 60)), 200_000)
    return [" ".join(f"w{word}" for word in row) for row in words.tolist()]


def run(stage: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one stage and return its figures."""
    folder, dimension, count = options.out / "index", options.dimension, options.documents
    names = [f"d{i}" for i in range(count)]
    texts = [f"text {i}" for i in range(count)]
    queries = {f"q{i}": row for i, row in enumerate(vectors(10**9, QUERIES, dimension).vectors)}
    if stage == "build":
        made = DenseIndex.create(folder, ranker="none", name="random", dimension=dimension, dtype=options.dtype)
        began = time.perf_counter()
        made.add(names, texts, lambda part: encode(part, dimension), chunk=32768)
        return {"seconds": time.perf_counter() - began}
    if stage in ("bm25", "bm25s"):
        return lexical(stage, names)
    began = time.perf_counter()
    index = DenseIndex.open(folder)
    opened = time.perf_counter() - began
    if stage == "open":
        return {"seconds": opened}
    began = time.perf_counter()
    if stage == "search":
        index.search(queries, DEPTH)
        middle = time.perf_counter()
        index.search({"q0": queries["q0"]}, DEPTH)
        return {"seconds": middle - began, "one query": time.perf_counter() - middle}
    if stage == "faiss":
        return beside_faiss(index, queries)
    if stage == "cluster":
        return {"lists": sum(index.cluster().values()), "seconds": time.perf_counter() - began}
    if stage == "probe":
        return probed(index, queries)
    changed = [f"d{i}" for i in range(0, count, max(1, count // CHANGED))]
    if stage == "add":
        new = [f"new{i}" for i in range(CHANGED)]
        index.add(new, [f"text {2 * 10**9 + i}" for i in range(CHANGED)], lambda part: encode(part, dimension))
    elif stage == "delete":
        index.delete(changed)
    else:
        index.compact()
    return {"seconds": time.perf_counter() - began}


def probed(index: DenseIndex, queries: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the seconds and the recall of exact search's 100 best, by the number of lists that are looked into."""
    exact, found = index.search(queries, DEPTH), {}
    for probes in PROBES:
        index.search(queries, DEPTH, probes=probes)  # pages of the lists are read once
        began = time.perf_counter()
        run = index.search(queries, DEPTH, probes=probes)
        found[f"seconds at {probes}"] = time.perf_counter() - began
        found[f"recall at {probes}"] = float(np.mean([len(run[q].keys() & exact[q].keys()) / DEPTH for q in queries]))
    return found


def lexical(stage: str, names: list[str]) -> dict[str, float]:
    """Return the seconds of lorank's BM25, or of bm25s alone, to index made-up texts and to search them."""
    count = len(names)
    words = [text for first in range(0, count, 32768) for text in texts_of(first, min(32768, count - first))]
    asked = texts_of(10**9, QUERIES)
    began = time.perf_counter()
    if stage == "bm25":
        from lorank.ranking.scorers.bm25 import BM25

        index = BM25.index(names, words, language=None)
        middle = time.perf_counter()
        index.search({f"q{i}": text for i, text in enumerate(asked)}, DEPTH)
    else:
        import bm25s

        retriever = bm25s.BM25(k1=1.2, b=0.75, method="atire", idf_method="lucene")
        retriever.index(bm25s.tokenize(words, stopwords=[], show_progress=False), show_progress=False)
        middle = time.perf_counter()
        retriever.retrieve(bm25s.tokenize(asked, stopwords=[], show_progress=False), k=DEPTH, show_progress=False)
    return {"seconds": middle - began, "search seconds": time.perf_counter() - middle}


def beside_faiss(index: DenseIndex, queries: dict[str, np.ndarray]) -> dict[str, float]:
    """Return lorank's processor seconds to those of FAISS with all vectors in memory, in turns; and if they agree."""
    import faiss

    faiss.omp_set_num_threads(1)
    began = time.perf_counter()
    flat = faiss.IndexFlatIP(index.description.dimension)
    for segment in index.segments:
        flat.add(np.asarray(segment.documents.vectors, np.float32))
    loaded = time.perf_counter()
    ids, ratios, same = index.ids, [], []
    names = list(queries)
    for first in range(0, len(names), len(names) // 5):
        group = {q: queries[q] for q in names[first : first + len(names) // 5]}
        start = time.process_time()
        _, found = flat.search(np.stack(list(group.values())), DEPTH)
        middle = time.process_time()
        run = index.search(group, DEPTH)
        ratios.append((time.process_time() - middle) / (middle - start))
        same += [len({ids[i] for i in row} & set(run[q])) / DEPTH for q, row in zip(group, found, strict=True)]
    return {
        "load seconds": loaded - began,
        "lorank's seconds to FAISS's, median": float(np.median(ratios)),
        "the same documents": float(np.mean(same)),
    }


def watch_own_memory(found: dict[str, float]) -> None:
    """Keep the most memory that the process allocates, in MB, as ``own MB`` of ``found``; look every 20 ms."""

    def look() -> None:
        while True:
            rows = Path("/proc/self/status").read_text().splitlines()
            own = next(int(row.split()[1]) for row in rows if row.startswith("RssAnon")) / 1024
            found["own MB"] = max(found.get("own MB", 0.0), own)
            time.sleep(0.02)

    threading.Thread(target=look, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--stage", choices=STAGES)
    options = parser.parse_args()
    if options.stage is not None:
        memory: dict[str, float] = {}
        watch_own_memory(memory)
        found = run(options.stage, options) | memory
        found["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"stage": options.stage, **{name: round(value, 2) for name, value in found.items()}}))
        return
    for stage in STAGES:
        line = [sys.executable, __file__, *sys.argv[1:], "--stage", stage]
        done = subprocess.run(line, capture_output=True, text=True)
        print(done.stdout.strip() or json.dumps({"stage": stage, "failed": done.stderr.strip()[-200:]}), flush=True)
    size = sum(path.stat().st_size for path in (options.out / "index").rglob("*") if path.is_file())
    print(json.dumps({"bytes on disk": size}))


if __name__ == "__main__":
    main()
