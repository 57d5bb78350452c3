"""One forward over rows of many adapters gives each what it gets alone: every form, every architecture, heads too."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from lorank import lowrank
from lorank.catalogue import METHODS
from lorank.lowrank.forms import FORMS
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.serving.adapters.store import FolderStore
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.forward.segments import Segments, Unmixable
from lorank.serving.requests.engine import Job
from lorank.training.weights import new_modules
from tiny_encoders import DOCUMENTS, QUERY

ARCHITECTURES = ("bert", "roberta", "deberta-v2", "modernbert")
READ = DOCUMENTS[:4]


def shake(adapter, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)
    for form in adapter.forms.values():
        form.advance(1, 2)


def alone(base, form, rank, seed, folder, targets="all-linear"):
    """What a copy of the base with this adapter alone scores; the adapter is saved in ``folder``."""
    one = copy.copy(base)
    one.module = copy.deepcopy(base.module)
    adapter = lowrank.attach(one.module, form, rank=rank, seed=seed, targets=targets, trained=new_modules(one))
    shake(adapter, seed)
    one.module.eval()
    adapter.save(folder)
    return one.score(QUERY, READ)


@dataclass
class Mixed:
    """Scores of one batch over all forms and the base, those of each alone, and the bank."""

    together: dict
    alone: dict
    bank: MixedEngine


def mixed(base, root):
    expected = {form: alone(base, form, 2 + i % 3, i, root / form) for i, form in enumerate(FORMS)}
    expected[None] = base.score(QUERY, READ)
    bank = MixedEngine(base, FolderStore(root), memory=1 << 24)
    answers = bank.score([Job(name, QUERY, READ) for name in expected])
    return Mixed(dict(zip(expected, answers)), expected, bank)


@pytest.fixture(scope="module")
def by_architecture(tiny_folders, tmp_path_factory):
    """name -> the mixed batch on a cross-encoder of that architecture, computed once."""
    made = {}

    def get(name):
        if name not in made:
            base = CrossEncoder(str(tiny_folders[name]), head="random")
            made[name] = mixed(base, tmp_path_factory.mktemp(f"store-{name}"))
        return made[name]

    return get


def agree(got, want):
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("form", [*FORMS, None], ids=str)
def test_a_mixed_batch_is_each_adapter_alone(by_architecture, name, form):
    found = by_architecture(name)
    answer = found.together[form]
    assert not isinstance(answer, Exception), answer
    agree(answer.scores, found.alone[form])
    assert answer.scores.dtype == np.float32
    if form is not None:
        assert np.abs(answer.scores - found.alone[None]).max() > 1e-3 * np.abs(found.alone[None]).max()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_batch_was_one_forward_of_all(by_architecture, name):
    found = by_architecture(name)
    stats = found.bank.stats()
    assert found.bank.mixes
    assert stats["forwards"] == stats["mixed_forwards"] <= 4
    assert stats["loads"] == stats["loaded"] == len(FORMS)


def test_bi_encoders_mix_too(tiny_folders, tmp_path):
    found = mixed(BiEncoder(str(tiny_folders["bert"])), tmp_path)
    for form, answer in found.together.items():
        agree(answer.scores, found.alone[form])


def test_s_lora_mixed_ranks_equal_one_by_one_and_a_thousand_adapters_fit_a_cap(tiny_folders, tmp_path):
    """shows of s-lora: mixed ranks as one by one to 1e-5; the pool's cap holds, LRU leaves; 1,000 adapters served."""
    assert METHODS["s-lora"].area == "adapters.serve"
    base = CrossEncoder(str(tiny_folders["bert"]), head="random")
    ranks = (1, 2, 3, 8)
    expected = [alone(base, "lora", rank, rank, tmp_path / f"rank{rank}", ["query", "value"]) for rank in ranks]
    for i in range(1000):
        (tmp_path / f"tenant{i}").symlink_to(tmp_path / f"rank{ranks[i % 4]}")
    one = sum(path.stat().st_size for path in (tmp_path / "rank8").iterdir())
    bank = MixedEngine(base, FolderStore(tmp_path), memory=10 * one)
    for begin in range(0, 1000, 125):
        batch = range(begin, begin + 125)
        answers = bank.score([Job(f"tenant{i}", QUERY, READ[:2]) for i in batch])
        for i, answer in zip(batch, answers):
            agree(answer.scores, expected[i % 4][:2])
        stats = bank.stats()
        assert stats["memory_bytes"] <= stats["memory_limit_bytes"] <= 10 * one
    assert stats["loads"] == 1000
    assert stats["evictions"] == 1000 - stats["loaded"] > 900
    assert bank.loaded.keys()[-1] == "tenant999"
    together = bank.score([Job(f"rank{rank}", QUERY, READ) for rank in ranks])
    for answer, want in zip(together, expected):
        agree(answer.scores, want)


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_bfloat16_stays_near_float32(tiny_folders, tmp_path, name):
    base = CrossEncoder(str(tiny_folders[name]), head="random")
    expected = {form: alone(base, form, 4, i, tmp_path / form) for i, form in enumerate(("lora", "dora"))}
    base.dtype = "bfloat16"
    answers = MixedEngine(base, FolderStore(tmp_path)).score([Job(form, QUERY, READ) for form in expected])
    for answer, want in zip(answers, expected.values()):
        assert np.abs(answer.scores - want).max() < 0.1 * np.abs(want).max()


@pytest.mark.parametrize("long", ["max", "mean", "first"])
@pytest.mark.parametrize("kind", [CrossEncoder, BiEncoder])
def test_long_documents_are_read_as_the_base_reads_them(tiny_folders, tmp_path, long, kind):
    head = {"head": "random"} if kind is CrossEncoder else {}
    base = kind(str(tiny_folders["roberta"]), long=long, max_length=24, **head)
    expected = alone(base, "lora", 2, 0, tmp_path / "a")
    answer, plain = MixedEngine(base, FolderStore(tmp_path)).score([Job("a", QUERY, READ), Job(None, QUERY, READ)])
    agree(answer.scores, expected)
    agree(plain.scores, base.score(QUERY, READ))
    texts = [(QUERY, text) if kind is CrossEncoder else (text,) for text in READ]
    whole = [len(base.tokenizer(*text)["input_ids"]) <= 24 for text in texts]
    assert answer.cut.tolist() == ([not fits for fits in whole] if long == "first" else [False] * len(READ))
    assert answer.truncated == answer.cut.sum()


def test_titled_passages_are_read_as_the_base_reads_them(tiny_folders, tmp_path):
    base = BiEncoder(str(tiny_folders["roberta"]), long="titled", max_length=24)
    documents = [f"moon earth\n{READ[0] * 3}", READ[1], "a sun\nwords", ""]
    adapters = {name: Job(name, QUERY, documents[i:]) for i, name in enumerate(("a", "b"))}
    expected = {}
    for i, name in enumerate(adapters):
        alone(base, "lora", 2 + i, i, tmp_path / name)
        adapter = lowrank.load(base.module, tmp_path / name)
        expected[name] = base.score(QUERY, documents[i:])
        adapter.detach()
    answers = MixedEngine(base, FolderStore(tmp_path)).score([*adapters.values(), Job(None, QUERY, documents)])
    for answer, want in zip(answers, [*expected.values(), base.score(QUERY, documents)]):
        agree(answer.scores, want)
        assert not answer.cut.any()


def test_truncation_and_tokens_are_counted(tiny_folders, tmp_path):
    base = CrossEncoder(str(tiny_folders["bert"]), max_length=40, head="random")
    bank = MixedEngine(base, FolderStore(tmp_path))
    texts = [text for text in DOCUMENTS if text]
    answer, none = bank.score([Job(None, QUERY, texts), Job(None, QUERY, [])])
    assert answer.tokens == sum(
        len(base.tokenizer(QUERY, text, truncation=True, max_length=40)["input_ids"]) for text in texts
    )
    assert answer.cut.tolist() == [len(base.tokenizer(QUERY, text)["input_ids"]) > 40 for text in texts]
    assert none.scores.shape == (0,)
    assert none.tokens == 0
    assert bank.score([]) == []
    assert bank.score([Job(None, QUERY, [])])[0].scores.shape == (0,)


def test_a_model_that_cannot_tell_rows_apart_serves_adapters_in_turn(tiny_folders, tmp_path, monkeypatch):
    def confused(own, lines):
        raise Unmixable(f"{lines} lines")

    base = CrossEncoder(str(tiny_folders["bert"]), head="random")
    expected = {form: alone(base, form, 2, i, tmp_path / form) for i, form in enumerate(("lora", "dora"))}
    monkeypatch.setattr(Segments, "at", confused)
    bank = MixedEngine(base, FolderStore(tmp_path))
    for _ in range(2):
        for answer, want in zip(bank.score([Job(form, QUERY, READ) for form in expected]), expected.values()):
            agree(answer.scores, want)
    assert not bank.mixes
    assert bank.stats()["mixed_forwards"] == 0


def test_answers_do_not_depend_on_the_order_of_jobs(tiny_folders, tmp_path):
    base = CrossEncoder(str(tiny_folders["roberta"]), head="random")
    for i in range(3):
        alone(base, "lora", 2 + i, i, tmp_path / f"a{i}")
    jobs = [Job(f"a{i % 3}", QUERY, DOCUMENTS[i : i + 3]) for i in range(7)]
    bank = MixedEngine(base, FolderStore(Path(tmp_path)))
    forth = bank.score(jobs)
    back = bank.score(jobs[::-1])[::-1]
    for one, other in zip(forth, back):
        agree(one.scores, other.scores)
