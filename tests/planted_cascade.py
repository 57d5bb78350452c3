"""A collection on which a first stage finds the topic, and only who reads the documents finds the relevant ones."""

import numpy as np
import pytest

from lorank.data.collection import Collection, Split

TOPICS = ["sorting list words", "orbits earth sun", "query document relevant", "adaptation language models"]
FILLER = ["the", "of", "and", "a", "in", "into", "are", "how", "they", "by"]
MARK, OTHER = "moon", "place"


@pytest.fixture(scope="session")
def marked() -> Collection:
    """48 documents on four topics; of a query's topic those are relevant that hold the mark, which no query names."""
    rng = np.random.default_rng(5)
    names, documents = [f"d{i}" for i in range(48)], []
    for i in range(48):
        words = [*rng.choice(TOPICS[i % 4].split(), 2), *rng.choice(FILLER, 4), MARK if (i // 4) % 2 else OTHER]
        documents.append(" ".join(rng.permutation(words)))
    splits = {}
    for name, count in (("train", 24), ("dev", 12), ("test", 8)):
        queries = {f"{name}{i}": " ".join(rng.choice(TOPICS[i % 4].split(), 2)) for i in range(count)}
        qrels = {f"{name}{i}": {names[j]: (j // 4) % 2 for j in range(48) if j % 4 == i % 4} for i in range(count)}
        splits[name] = Split(name, queries, qrels)
    return Collection("marked", names, documents, splits)
