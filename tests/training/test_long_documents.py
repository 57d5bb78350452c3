"""What is trained on with ``long="max"`` are the passages that rank, and the saved ranker keeps them."""

import json
import math

import pytest

from lorank.data import Collection, Split
from lorank.ranking.scorers import BiEncoder
from lorank.training import fit, load_ranker
from lorank.training.settings import ListSettings, OptimizerSettings, Recipe

pytestmark = pytest.mark.usefixtures("own_cache")
WORDS = ("moon", "list", "rank", "matrix", "sun", "sort", "word", "earth")
BEGINNING = "a query and a document are read together " * 8
LENGTH = 32


@pytest.fixture
def ends():
    """Documents that are equal but for their last word, far behind the first passage, which the query names."""
    documents = [f"{BEGINNING} {word}" for word in WORDS]
    splits = {}
    for name in ("train", "dev"):
        queries = {f"{name}-{word}": word for word in WORDS}
        listed = {query: dict.fromkeys(WORDS, 0.0) for query in queries}
        splits[name] = Split(name, queries, {query: {word: 1} for query, word in queries.items()}, listed)
    return Collection("ends", list(WORDS), documents, splits)


def losses_of(bert, data, out, long, steps):
    recipe = Recipe(
        lists=ListSettings(shared=False),
        training=OptimizerSettings(steps=steps, batch_size=8, lr=3e-3, evaluations=1),
        keep="tuned",
    )
    fit(BiEncoder(bert, max_length=LENGTH, long=long), data, "full", "softmax", out=out, recipe=recipe)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_only_where_passages_are_trained_on_is_their_end_learned_from(bert, ends, tmp_path):
    """Where documents are cut all of a list are equal: but for dropout the softmax loss is log 8 for any weights."""
    cut = losses_of(bert, ends, tmp_path / "cut", "truncate", 40)
    assert cut[-1] > 0.98 * math.log(8)
    read = losses_of(bert, ends, tmp_path / "read", "max", 40)
    assert read[-1] < 0.85 * math.log(8)


@pytest.mark.parametrize("long", ["max", "mean"])
def test_a_saved_ranker_reads_passages_as_it_was_trained_to(long, bert, ends, tmp_path):
    losses_of(bert, ends, tmp_path / "run", long, 2)
    again = load_ranker(tmp_path / "run")
    assert again.ranker.long == long
    assert again.ranker.max_length == LENGTH
    scores = again.score("moon", ends.documents)
    assert scores.std() > 0  # with documents cut to their beginnings all are equal
