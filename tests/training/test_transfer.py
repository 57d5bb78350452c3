"""trans-lora: an adapter moved to another base without its data."""

import copy

import numpy as np
import pytest
import torch

from lorank import lowrank
from lorank.errors import UsageError
from lorank.ranking.judges.session import Session
from lorank.ranking.scorers import BiEncoder
from lorank.training.methods.trans_lora import TaskLikeness, keep_likely, synthesise, transfer

WORDS = [
    "sorting",
    "list",
    "words",
    "place",
    "moon",
    "earth",
    "orbits",
    "sun",
    "query",
    "document",
    "read",
    "rankers",
    "order",
    "low",
    "rank",
    "models",
]
DOCUMENTS = [" ".join(np.random.default_rng(seed).choice(WORDS, 5)) for seed in range(16)]


def write(document):
    """Half questions as the task has them, half keywords as it has not."""
    words = document.split()
    return [f"how is {words[0]} with {words[1]}", f"{words[2]} {words[3]} {words[4]}"]


def real_queries(seeds):
    return [f"how is {a} with {b}" for a, b in (np.random.default_rng(seed).choice(WORDS, 2) for seed in seeds)]


def bag(texts):
    vocabulary = ["how", "is", "with", *WORDS]
    return np.array([[text.split().count(word) for word in vocabulary] for text in texts], dtype=np.float64)


def discriminator():
    return TaskLikeness(real_queries(range(100, 130)), synthesise(DOCUMENTS, write), bag)


def test_trans_lora_the_filter_raises_the_likeness_of_what_it_accepts():
    written = synthesise(DOCUMENTS, write)
    kept = keep_likely(written, discriminator(), 0.4)
    held_out = bag(real_queries(range(200, 220))).mean(0)

    def likeness(queries):
        vectors = bag(queries)
        return float((vectors @ held_out / np.linalg.norm(vectors, axis=1)).mean())

    assert set(kept) <= set(written)
    assert len(kept) == round(0.4 * len(written))
    assert likeness(kept) > likeness(written)
    assert all(query.startswith("how") for query in kept)


@pytest.fixture(scope="module")
def moved(tiny_folders):
    """A source with an adapter, a target base that is another, and both after the transfer."""
    source = BiEncoder(str(tiny_folders["bert"]))
    adapter = lowrank.attach(source.module, "lora", rank=2, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    target = BiEncoder(str(tiny_folders["bert"]))
    with torch.no_grad():
        for parameter in target.module.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    before = copy.deepcopy(target)
    mine = lowrank.attach(target.module, "lora", rank=4, seed=3)
    base = {name: value.clone() for name, value in target.module.state_dict().items() if ".forms." not in name}
    done = transfer(source, target, mine, DOCUMENTS, write, discriminator(), steps=80, lr=1e-2, batch=6, list_size=6)
    return source, before, target, base, done


def difference(one, two):
    """The mean squared difference within lists over that of the first's scores, on held-out queries of the task."""
    rows = [(one.score(query, DOCUMENTS), two.score(query, DOCUMENTS)) for query in real_queries(range(300, 312))]
    a, b = (np.stack(column) for column in zip(*rows, strict=True))
    a, b = (scores - scores.mean(1, keepdims=True) for scores in (a, b))
    return float(((a - b) ** 2).mean() / (a**2).mean())


def test_trans_lora_the_target_matches_the_teacher_on_held_out_task_queries(moved):
    source, before, target, base, done = moved
    assert not set(done.kept) & set(real_queries(range(100, 130))), "no query of the task was used"
    assert difference(source, before) > 0.3
    assert difference(source, target) < 0.15 * difference(source, before)
    assert done.losses[-1] < 0.3 * done.losses[0]
    after = target.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in base.items()), "the base stays as it was"


def test_the_discriminator_is_a_judge_and_wrong_use_is_told(moved):
    points = Session(discriminator(), "a query of the task", ["how is moon with sun", "moon sun list"]).points([0, 1])
    assert points[0] > 0 > points[1]
    with pytest.raises(UsageError, match="share"):
        keep_likely(["a"], discriminator(), 0.0)
    with pytest.raises(UsageError, match="real and synthetic"):
        TaskLikeness([], ["a"], bag)
    source, _, target, *_ = moved
    with pytest.raises(UsageError, match="no query"):
        transfer(source, target, None, DOCUMENTS, lambda document: [], discriminator())
    with pytest.raises(UsageError, match="lists of 8"):
        transfer(source, target, None, DOCUMENTS[:3], write, discriminator())
