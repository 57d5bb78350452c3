"""Streams of tiny collections: unlike words for each, so that learning one can cost another."""

from dataclasses import replace

import numpy as np

from lorank.data.collection import Collection, Split
from lorank.training.recipe import RecipeFile

WORDS = {
    "sorting": ["sorting", "list", "words", "place", "new", "into"],
    "heaven": ["moon", "earth", "sun", "orbits", "and", "the"],
    "reading": ["query", "document", "read", "together", "ranker", "relevant"],
}
FILLER = ["of", "a", "in", "how", "they", "by", "are"]


def tiny_collection(name: str, seed: int = 0, times: int = 1) -> Collection:
    """24 documents in three pairs of words, whose first word marks what is relevant; ``times`` as many queries."""
    rng = np.random.default_rng([seed, *name.encode()])
    own = WORDS[name]
    documents, kinds = [], []
    for i in range(24):
        words = [own[i % 3], own[3 + i % 3], *rng.choice(FILLER, 5), *rng.choice(own, 1)]
        rng.shuffle(words)
        documents.append(" ".join(words))
        kinds.append(i % 3)
    names = [f"{name}{i}" for i in range(24)]
    splits = {}
    for split, count in (("train", 12), ("dev", 6), ("test", 9)):
        queries, qrels = {}, {}
        for i in range(count if split == "test" else times * count):
            kind = i % 3
            queries[f"{split}{i}"] = f"{own[kind]} {rng.choice(FILLER)}"
            relevant = rng.choice([j for j in range(24) if kinds[j] == kind], 3, replace=False)
            qrels[f"{split}{i}"] = {names[j]: 1 for j in sorted(relevant)}
        splits[split] = Split(split, queries, qrels)
    return Collection(name, names, documents, splits)


def method(recipe: RecipeFile, name: str, **options: object) -> RecipeFile:
    """Return the recipe with a continual method."""
    return replace(recipe, continual=replace(recipe.continual, name=name, options=options))
