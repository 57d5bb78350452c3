"""Queries that lack one of the facets that their topic needs, and documents that differ in nothing but facets.

A topic needs four of six facets; a query names its topic and a word of three of these. The question for the fourth is
the valid one. A document has a word of all four, and several documents share the three that a query names.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from lorank.data.collection import Collection, Split

FACETS = ("language", "library", "version", "system", "error", "format")
QUESTIONS = [f"which {facet} is it" for facet in FACETS]
TOPICS = {f"topic{letter}": facets for letter, facets in zip("abcdef", itertools.combinations(range(6), 4))}
VALUES = [[f"{facet}{letter}" for letter in "xyz"] for facet in FACETS]
WORDS = ["the", "a", "which", "is", "it", *FACETS, *TOPICS, *(value for row in VALUES for value in row)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def failed_query(rng: np.random.Generator) -> tuple[str, int, str, list[str]]:
    """Return a query, the facet that it lacks, the word that would name it, and all words of the need."""
    topic = list(TOPICS)[rng.integers(len(TOPICS))]
    facets = rng.permutation(TOPICS[topic]).tolist()
    values = {facet: VALUES[facet][rng.integers(3)] for facet in facets}
    lacking = facets[0]
    shown = [topic, *(values[facet] for facet in facets[1:])]
    return " ".join(rng.permutation(shown)), lacking, values[lacking], [topic, *values.values()]


def write_judged(path: Path, seed: int, count: int = 400) -> None:
    """Write failed queries with the question that is valid for each."""
    rng = np.random.default_rng(seed)
    rows = [(query, lacking) for query, lacking, _, _ in (failed_query(rng) for _ in range(count))]
    lines = [json.dumps({"query": query, "valid": [QUESTIONS[lacking]]}) for query, lacking in rows]
    path.write_text("\n".join(lines) + "\n")


def searched_collection(seed: int, count: int = 40) -> tuple[Collection, dict[str, str], dict[str, int]]:
    """Return documents of all needs with failed queries, what a user would answer, and the facets that lack."""
    rng = np.random.default_rng(seed)
    documents = [
        " ".join([topic, *values])
        for topic, facets in TOPICS.items()
        for values in itertools.product(*(VALUES[facet] for facet in facets))
    ]
    held = {frozenset(text.split()): f"d{i}" for i, text in enumerate(documents)}
    queries, qrels, answers, lacking = {}, {}, {}, {}
    for number in range(count):
        query, facet, answer, need = failed_query(rng)
        queries[f"q{number}"], answers[f"q{number}"], lacking[f"q{number}"] = query, answer, facet
        qrels[f"q{number}"] = {held[frozenset(need)]: 1}
    ids = [f"d{i}" for i in range(len(documents))]
    return Collection("searched", ids, documents, {"test": Split("test", queries, qrels)}), answers, lacking


def write_word_encoder(folder: Path, seed: int = 3) -> str:
    """Write a random BERT whose every word is a token, and return its folder."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=24, **sizes))
        for parameter in model.parameters():
            parameter.data += 0.15 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    BertTokenizer(vocab=vocabulary, model_max_length=20).save_pretrained(folder)
    return str(folder)
