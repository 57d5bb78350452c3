"""Planted corpora for retrievers, and a tiny random BERT that has one token for each of their words.

Documents are of a topic and a detail, named by words; others, which answer nothing, repeat a word of style that queries
have too. A random encoder finds what shares words, so the documents of style come first before it is trained.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from chat_server import serve_chat
from lorank.data.collection import Collection, Split

SIDE, STYLES = 8, 6
"""Topics, and details of each; words of style."""


def words(kind: str, count: int) -> list[str]:
    return [f"{kind}{chr(97 + i)}" for i in range(count)]


TOPIC, DETAIL, STYLE, FILLER = words("topic", SIDE), words("detail", SIDE), words("style", STYLES), words("fill", 10)
ASKED_TOPIC, ASKED_DETAIL = words("subject", SIDE), words("aspect", SIDE)
VOCABULARY = ["the", "a", *TOPIC, *DETAIL, *STYLE, *FILLER, *ASKED_TOPIC, *ASKED_DETAIL]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_encoder(folder: Path, seed: int = 7) -> str:
    """Write a random BERT whose every word is a token, and return its folder."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *VOCABULARY])}
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(config)
        for parameter in model.parameters():
            parameter.data += 0.15 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    BertTokenizer(vocab=vocabulary, model_max_length=32).save_pretrained(folder)
    return str(folder)


def decoyed(seed: int, *, asked: int = 16, synonyms: bool = True, repeats: int = 2, decoys: int = 12) -> Collection:
    """Some of the topic-detail pairs are asked for, always with a word of style that only the decoys have.

    Args:
        seed: The seed of everything drawn.
        asked: How many of the 64 pairs have queries; the documents of the others are near misses of theirs.
        synonyms: Whether queries name topic and detail by other words than documents do.
        repeats: How often a query says its word of style.
        decoys: The documents of each word of style.
    """
    rng = np.random.default_rng(seed)
    named = (ASKED_TOPIC, ASKED_DETAIL) if synonyms else (TOPIC, DETAIL)
    pairs = [(topic, detail) for topic in range(SIDE) for detail in range(SIDE)]
    documents = [_mixed(rng, TOPIC[t], DETAIL[d], *rng.choice(FILLER, 2)) for t, d in pairs]
    documents += [_mixed(rng, style, style, *rng.choice(FILLER, 2)) for style in STYLE for _ in range(decoys)]
    ids = [f"d{i}" for i in range(len(documents))]
    chosen = rng.permutation(len(pairs))[:asked].tolist()
    splits = {}
    for name, styles in (("train", STYLE[:3]), ("dev", STYLE[3:4]), ("test", STYLE[4:])):
        queries, qrels = {}, {}
        for i in chosen:
            for style in styles:
                query, (t, d) = f"{name}-{i}-{style}", pairs[i]
                queries[query] = _mixed(rng, named[0][t], named[1][d], *[style] * repeats)
                qrels[query] = {ids[i]: 1}
        splits[name] = Split(name, queries, qrels)
    return Collection("decoyed", ids, documents, splits)


def shifted(seed: int) -> Collection:
    """The decoyed corpus without training queries; its test queries are full of style, so that decoys are found."""
    data = decoyed(seed, synonyms=False)
    return replace(data, splits={name: data.splits[name] for name in ("dev", "test")})


@contextmanager
def writing_endpoint(seed: int) -> Iterator[str]:
    """Serve what writes as the corpus's users do: a passage's first words in any order, with words of any style.

    Yields the name by which `lorank queries --writer` asks it.
    """
    rng = np.random.default_rng(seed)

    def reply(prompt: str) -> str:
        passage = prompt.rpartition("Passage: ")[2].partition("\nQuery:")[0]
        named = [word for word in passage.split() if word in (*TOPIC, *DETAIL)] or passage.split()[:2]
        style = STYLE[int(rng.integers(STYLES))]
        return _mixed(rng, *named, style, style)

    with serve_chat(reply) as name:
        yield name


def _mixed(rng: np.random.Generator, *parts: str) -> str:
    return " ".join(rng.permutation(parts))
