"""The adapter that dominates the traffic gets a merged copy, swapped whole, given up when its files change."""

import copy

import numpy as np
import pytest
import torch

from lorank import lowrank
from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.serving.adapters.store import FolderStore
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.forward.merged_copy import STEADY, Traffic
from lorank.serving.requests.engine import Job
from lorank.training.weights import new_modules
from tiny_encoders import DOCUMENTS, QUERY

MANY = DOCUMENTS * 20


def write(folder, base, form, seed):
    one = copy.copy(base)
    one.module = copy.deepcopy(base.module)
    adapter = lowrank.attach(one.module, form, rank=2, seed=seed, trained=new_modules(one))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    adapter.save(folder)
    return one.score(QUERY, DOCUMENTS)


def close(answer, scores):
    assert np.abs(answer.scores[: len(scores)] - scores).max() <= 1e-5 * np.abs(scores).max()


@pytest.mark.parametrize("form", ["lora", "dora"])
@pytest.mark.parametrize(
    ("architecture", "kind"), [("roberta", CrossEncoder), ("modernbert", CrossEncoder), ("bert", BiEncoder)]
)
def test_the_leader_is_merged_and_scores_as_before(tiny_folders, tmp_path, architecture, kind, form):
    base = kind(str(tiny_folders[architecture]), **({"head": "random"} if kind is CrossEncoder else {}))
    plain = base.score(QUERY, DOCUMENTS)
    expected = {name: write(tmp_path / name, base, form, seed) for seed, name in enumerate(("big", "small"), 1)}
    bank = MixedEngine(base, FolderStore(tmp_path, recheck=0.0), merged_share=0.6)
    jobs = [Job("big", QUERY, MANY), Job("small", QUERY, DOCUMENTS), Job(None, QUERY, DOCUMENTS)]
    while bank.merged is None:
        for answer, want in zip(bank.score(jobs), (*expected.values(), plain)):
            close(answer, want)
    assert bank.merged.name == "big"
    assert bank.stats()["merged_bytes"] == bank.merged.bytes > 0
    shared = {tensor.data_ptr() for tensor in base.module.parameters()}
    own = [t for t in bank.merged.reader.ranker.module.parameters() if t.data_ptr() not in shared]
    assert sum(tensor.nbytes for tensor in own) == bank.merged.bytes
    loads = bank.stats()["loads"]
    bank.loaded.drop("big")
    for answer, want in zip(bank.score(jobs), (*expected.values(), plain)):
        close(answer, want)
    assert bank.stats()["loads"] == loads
    fresh = write(tmp_path / "big", base, form, 9)
    close(bank.score([Job("big", QUERY, DOCUMENTS)])[0], fresh)
    close(bank.score([Job(None, QUERY, DOCUMENTS)])[0], plain)


def test_shares_fade_and_small_samples_mean_nothing():
    traffic = Traffic(memory=0.5)
    traffic.count({"a": STEADY - 1})
    assert traffic.leader(0.6) is None
    traffic.count({"a": STEADY})
    assert traffic.leader(0.6) == "a"
    for _ in range(6):
        traffic.count({"b": STEADY})
    assert traffic.leader(0.6) == "b"
    traffic.count({None: 100 * STEADY})
    assert traffic.leader(0.6) is None


def test_a_share_that_several_could_have_is_refused(tiny_folders, tmp_path):
    with pytest.raises(UsageError, match="merged_share"):
        MixedEngine(CrossEncoder(str(tiny_folders["bert"])), FolderStore(tmp_path), merged_share=0.5)


def test_a_scoring_path_reads_the_base_and_the_merged_copy(tiny_folders, tmp_path):
    base = CrossEncoder(str(tiny_folders["bert"]), head="random")
    plain = base.score(QUERY, DOCUMENTS)
    expected = write(tmp_path / "big", base, "lora", 1)
    bank = MixedEngine(base, FolderStore(tmp_path, recheck=0.0), merged_share=0.6, path="torch-int8")
    jobs = [Job("big", QUERY, MANY), Job(None, QUERY, DOCUMENTS)]
    while bank.merged is None:
        answers = bank.score(jobs)
    close(answers[0], expected)
    roughly = bank.score(jobs)
    for answer, exact in zip(roughly, (expected, plain)):
        difference = np.abs(answer.scores[: len(exact)] - exact).max()
        assert 1e-5 * np.abs(exact).max() < difference < 0.35 * exact.std()
