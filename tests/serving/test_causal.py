"""Causal bases in the server: many adapters in one forward, the beginning of a list computed once per adapter."""

import copy
import shutil

import numpy as np
import pytest
import requests
import torch

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.forms import FORMS
from lorank.ranking.scorers import CausalRanker
from lorank.serving.adapters.store import FolderStore
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.forward.prompt_rows import Beginning, HeldPrefixes
from lorank.serving.requests.engine import Job
from lorank.training.weights import new_modules
from tiny_rerankers import write_reranker
from tiny_store import serving, wait_until

QUERIES = ["what is a panda?", "how are lists sorted", ""]
DOCUMENTS = [
    "The giant panda is a bear.",
    "",
    "sorting: sorted(x)\n",
    "The giant panda. " * 6,
    "中文 text",
    "x",
    "lists",
]
LORAS = ("acme", "globex")


def adapted(base, form, seed, folder):
    """A copy of the base under an adapter that is saved in ``folder``."""
    one = copy.copy(base)
    one.module = copy.deepcopy(base.module)
    adapter = lowrank.attach(
        one.module, form, rank=2 + seed % 3, seed=seed, targets="all-linear", trained=new_modules(one)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)
    for each in adapter.forms.values():
        each.advance(1, 2)
    one.module.eval()
    adapter.save(folder, base_name=str(base.base))
    return one


@pytest.fixture(scope="module", params=["qwen3", "gemma2"])
def folder(request, tmp_path_factory):
    changes = {"gemma2": {"sliding_window": 24}}.get(request.param, {})
    return write_reranker(tmp_path_factory.mktemp("base") / "Qwen3-Reranker-0.6B", request.param, **changes)


@pytest.fixture
def base(folder):
    return CausalRanker(folder, chat="off")


@pytest.fixture
def store(base, tmp_path):
    """A folder of two adapters, and the rankers under each."""
    root = tmp_path / "store"
    return root, {name: adapted(base, "lora", seed, root / name) for seed, name in enumerate(LORAS, start=1)}


def whole(ranker, query, documents):
    """The scores of prompts that are computed whole."""
    plain = copy.copy(ranker)
    plain.reuses_prefix = False
    return plain.score(query, documents)


def agree(answers, expected):
    for answer, want in zip(answers, expected, strict=True):
        assert np.abs(answer.scores - want).max(initial=0) <= 1e-5 * np.abs(want).max(initial=1e-9)


def test_every_form_in_one_batch_gets_what_it_gets_alone(base, tmp_path):
    rankers = {form: adapted(base, form, i, tmp_path / form) for i, form in enumerate(FORMS)}
    engine = MixedEngine(base, FolderStore(tmp_path), memory=1 << 24)
    jobs = [Job(name, query, DOCUMENTS) for name in [*rankers, None] for query in QUERIES[:2]]
    agree(engine.score(jobs), [whole(rankers.get(job.adapter, base), job.query, DOCUMENTS) for job in jobs])
    assert engine.mixes
    assert engine.stats()["mixed_forwards"]


def test_a_head_that_each_adapter_brings(folder, tmp_path):
    base = CausalRanker(folder, chat="off", view="head")
    rankers = {name: adapted(base, "lora", seed, tmp_path / name) for seed, name in enumerate(LORAS, start=1)}
    engine = MixedEngine(base, FolderStore(tmp_path))
    jobs = [Job(name, query, DOCUMENTS) for name in LORAS for query in QUERIES]
    agree(engine.score(jobs), [whole(rankers[job.adapter], job.query, DOCUMENTS) for job in jobs])
    assert np.ptp(engine.score(jobs[:1])[0].scores) > 0


def test_in_bfloat16_a_batch_scores_as_each_alone(folder, store):
    root, rankers = store
    engine = MixedEngine(CausalRanker(folder, chat="off", dtype="bfloat16"), FolderStore(root))
    for name, answer in zip(LORAS, engine.score([Job(name, QUERIES[0], DOCUMENTS) for name in LORAS]), strict=True):
        exact = whole(rankers[name], QUERIES[0], DOCUMENTS)
        assert np.abs(answer.scores - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("long", ["max", "mean"])
def test_passages_of_long_documents(folder, store, long):
    root, rankers = store
    cost = CausalRanker(folder, chat="off").template.cost
    base = CausalRanker(folder, chat="off", max_length=cost + 40, long=long)
    expected = []
    for name in LORAS:
        one = copy.copy(base)
        one.module = rankers[name].module
        expected.append(whole(one, QUERIES[1], DOCUMENTS))
    agree(MixedEngine(base, FolderStore(root)).score([Job(name, QUERIES[1], DOCUMENTS) for name in LORAS]), expected)


def test_lists_of_all_sizes(base, store):
    root, rankers = store
    engine = MixedEngine(base, FolderStore(root))
    lists = [[], ["one"], DOCUMENTS, DOCUMENTS[:2], ["same", "same"], ["too long to be read whole " * 200, "short"]]
    jobs = [Job(name, query, texts) for name in LORAS for query in QUERIES for texts in lists]
    answers = engine.score(jobs)
    agree(answers, [whole(rankers[job.adapter], job.query, job.documents) for job in jobs])
    assert {answer.truncated for answer, job in zip(answers, jobs) if job.documents == lists[-1]} == {1}


def test_a_list_in_slices_computes_its_beginning_once_per_adapter(base, store):
    root, rankers = store
    engine = MixedEngine(base, FolderStore(root))
    for at in range(len(DOCUMENTS)):
        jobs = [Job(name, QUERIES[0], DOCUMENTS[at : at + 1], len(DOCUMENTS)) for name in LORAS]
        agree(engine.score(jobs), [whole(rankers[name], QUERIES[0], DOCUMENTS[at : at + 1]) for name in LORAS])
    alone = MixedEngine(base, FolderStore(root))
    alone.ranker.reuses_prefix = False
    for at in range(len(DOCUMENTS)):
        alone.score([Job(name, QUERIES[0], DOCUMENTS[at : at + 1], len(DOCUMENTS)) for name in LORAS])
    assert engine.stats()["tokens"] < 0.7 * alone.stats()["tokens"]


def test_a_changed_adapter_does_not_go_on_from_what_it_was(base, store):
    root, _ = store
    engine = MixedEngine(base, FolderStore(root))
    job = Job("acme", QUERIES[0], DOCUMENTS)
    before = engine.score([job])[0].scores
    other = adapted(base, "lora", 9, root.parent / "new")
    shutil.rmtree(root / "acme")
    (root.parent / "new").rename(root / "acme")
    assert wait_until(lambda: np.abs(engine.score([job])[0].scores - before).max() > 0.01)
    agree(engine.score([job]), [whole(other, QUERIES[0], DOCUMENTS)])


def test_a_merged_copy_goes_on_from_its_own(base, store):
    root, rankers = store
    engine = MixedEngine(base, FolderStore(root), merged_share=0.6)
    job = Job("acme", QUERIES[1], [*DOCUMENTS, *(f"{number} pandas" for number in range(30))])
    for _ in range(20):
        answers = engine.score([job, Job("globex", QUERIES[1], DOCUMENTS[:1])])
    assert engine.merged is not None
    agree(
        answers, [whole(rankers["acme"], job.query, job.documents), whole(rankers["globex"], job.query, DOCUMENTS[:1])]
    )


def test_a_log_ratio_is_refused(folder, store):
    ranker = CausalRanker(folder, chat="off", view="log-ratio")
    with pytest.raises(UsageError, match="before and after"):
        MixedEngine(ranker, FolderStore(store[0])).score([Job("acme", "q", DOCUMENTS)])


def test_beginnings_are_held_up_to_a_number_of_tokens():
    held = HeldPrefixes(10)
    for name in "abc":
        held.keep((name,), Beginning(np.arange(4), []))
    assert held.get(("a",)) is None
    assert held.get(("b",)) is not None
    held.keep(("b",), Beginning(np.arange(6), []))
    assert held.tokens == 10
    held.keep(("d",), Beginning(np.arange(1), []))
    assert held.get(("c",)) is None
    assert held.tokens == 7
    held.keep(("e",), Beginning(np.arange(11), []))
    assert held.tokens == 0


@pytest.mark.slow
def test_a_process_serves_two_tenants_on_a_causal_base(tmp_path):
    folder = write_reranker(tmp_path / "Qwen3-Reranker-0.6B", "qwen3")
    base = CausalRanker(folder, max_length=512)
    rankers = {name: adapted(base, "lora", seed, tmp_path / "store" / name) for seed, name in enumerate(LORAS)}
    options = ["--memory-mb", "4", "--latency-ms", "100"]
    with serving(folder, tmp_path / "store", tmp_path / "log.txt", options, kind="causal", max_length=512) as running:
        for name, ranker in [*rankers.items(), (folder.name, base)]:
            for query in QUERIES[:2]:
                response = requests.post(
                    f"{running.address}/v1/rerank",
                    json={"model": name, "query": query, "documents": DOCUMENTS, "raw_scores": True},
                    timeout=60,
                )
                assert response.ok, response.text
                found = {row["index"]: row["relevance_score"] for row in response.json()["results"]}
                expected = whole(ranker, query, DOCUMENTS)
                got = [found[i] for i in range(len(DOCUMENTS))]
                np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
