"""A small collection of made-up texts on which a tiny encoder can learn something."""

import numpy as np
import pytest

from lorank.data.collection import Collection, Split

TOPICS = ["sorting list words", "moon earth sun", "query document relevant", "adaptation language models"]
FILLER = ["the", "of", "and", "a", "in", "into", "are", "how", "they", "by", "read"]


@pytest.fixture(scope="session")
def texts() -> Collection:
    """40 documents on four topics; a query names a topic by words that its documents hold."""
    rng = np.random.default_rng(0)
    documents, titles, topics = [], [], []
    for i in range(40):
        topic = i % 4
        words = [*rng.choice(TOPICS[topic].split(), 2), *rng.choice(FILLER, 8)]
        rng.shuffle(words)
        title = f"{TOPICS[topic].split()[0]} {i}"
        titles.append(title)
        documents.append(f"{title}\n{' '.join(words)}")
        topics.append(topic)
    names = [f"d{i}" for i in range(40)]
    splits = {}
    for name, count in (("train", 12), ("dev", 6), ("test", 6)):
        queries, qrels = {}, {}
        for i in range(count):
            topic = i % 4
            queries[f"{name}{i}"] = " ".join(rng.choice(TOPICS[topic].split(), 2))
            relevant = rng.choice([j for j in range(40) if topics[j] == topic], 2, replace=False)
            qrels[f"{name}{i}"] = {names[j]: 1 for j in sorted(relevant)}
        splits[name] = Split(name, queries, qrels)
    return Collection("made-up", names, documents, splits, titles)


@pytest.fixture(scope="session")
def rows() -> Collection:
    """Feature rows whose first column decides the label."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(240, 4)).astype(np.float32)
    names = [f"q{i // 8}:d{i % 8}" for i in range(240)]
    splits = {}
    for name, span in (("train", range(0, 20)), ("dev", range(20, 25)), ("test", range(25, 30))):
        qrels = {f"q{q}": {names[q * 8 + j]: int(features[q * 8 + j, 0] > 0.3) for j in range(8)} for q in span}
        candidates = {query: dict.fromkeys(row, 0.0) for query, row in qrels.items()}
        splits[name] = Split(name, dict.fromkeys(qrels, ""), qrels, candidates)
    return Collection("made-up-rows", names, features, splits)


SHARED = "document"
ASKED = ["sorting", "moon", "query", "adaptation", "list", "earth"]
ANSWERED = ["sun", "relevant", "language", "words", "rankers", "models"]
PLANTED_FILLER = ["the", "of", "and", "a", "in", "into", "are", "how", "they", "by"]
SIZES = {"train": 60, "dev": 30, "test": 60}


def planted(seed: int, *, random: bool = False) -> Collection:
    """A query names two subjects by words that its document replaces by others, alike everywhere, or at random."""
    rng = np.random.default_rng(seed)
    documents, splits = [], {}
    for name, count in SIZES.items():
        queries, qrels = {}, {}
        for i in range(count):
            pair = rng.choice(6, 2, replace=False)
            queries[f"{name}{i}"] = " ".join([SHARED, *(ASKED[j] for j in pair)])
            words = [SHARED] + [ANSWERED[j] for j in pair] + list(rng.choice(PLANTED_FILLER, 4))
            documents.append(" ".join(rng.permutation(words)))
            qrels[f"{name}{i}"] = {f"d{len(documents) - 1}": 1}
        splits[name] = Split(name, queries, qrels)
    names = [f"d{i}" for i in range(len(documents))]
    if random:
        for split in splits.values():
            split.qrels.update({q: {names[rng.integers(len(names))]: 1} for q in split.qrels})
    return Collection("planted", names, documents, splits)
