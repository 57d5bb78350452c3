"""Budgets in the loop: killed and resumed they are the same run; fitted rankers end as plain LoRA of the total."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.torch import load_file

from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder
from lorank.training import load_ranker
from lorank.training.fitting import fit
from lorank.training.hooks.budget import JOURNAL, choose_budget
from lorank.training.settings import (
    AdapterSettings,
    BudgetSettings,
    ListSettings,
    OptimizerSettings,
    Recipe,
)

SOME = ["adalora", "elalora", "metric-importance", "qdylora"]
OTHERS = [
    "increlora",
    "sora",
    "dylora",
    "lora-squared",
    "triadaptlora",
    "autolora-meta",
    "selective-lora-indicator",
    "dora-dynamic",
    "diffora",
    "alora-allocate",
]

CHILD = """
import os, signal, sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from safetensors.torch import save_file
from lorank.data.candidates import TrainingList
from lorank.ranking import loss
from lorank.ranking.scorers import FeatureRanker
from lorank.training.lists.batches import epoch_order, pad_lists
from lorank.training.hooks.budget import Budgeting
from lorank.training.loop.loop import Session, train
from lorank.training.settings import AdapterSettings, OptimizerSettings
from lorank.training.weights import AdapterWeights
from lorank.lowrank.budgets import make_budget

class Given:
    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.rows = rng.normal(size=(60, 6)).astype(np.float32)
        best = self.rows @ np.arange(6, dtype=np.float32)
        self.lists = [TrainingList("q", np.arange(i * 5, i * 5 + 5), (best[i * 5:i * 5 + 5] > 0).astype(np.float32))
                      for i in range(12)]
    def epoch(self, epoch):
        return [self.lists[i] for i in epoch_order(len(self.lists), epoch, 0)]
    def collate(self, lists):
        return pad_lists(lists, {"q": 0})

def run(name, folder, cut, resume):
    lists = Given(0)
    ranker = FeatureRanker(features=6, hidden=(8, 8), dropout=0.0, transform="none", seed=0)
    inputs = ranker.prepare([""], lists.rows)
    weights = AdapterWeights(ranker, AdapterSettings(name, rank=2), 0, None)
    budget = make_budget(name, weights.adapter.forms, seed=0, every=4)
    folder.mkdir(exist_ok=True)
    hook = Budgeting(budget, folder / "budget.jsonl", loss("lambda"))
    def kill(progress):
        if cut and progress.step == 14:
            os.kill(os.getpid(), signal.SIGKILL)
    settings = OptimizerSettings(steps=30, batch_size=4, lr=1e-2, evaluations=3, checkpoint_seconds=1e9)
    session = Session(ranker, inputs, weights, lists, loss("softmax"), settings, seed=0, folder=folder, hooks=[hook],
                      held_out=Given(1), evaluate=lambda: {"nDCG@10": 0.5})
    train(session, on_progress=kill, resume=resume)
    save_file(weights.state(), folder / "end.safetensors")

root = Path(sys.argv[1])
for name in sys.argv[2:]:
    for folder, cut, resume in (("whole", False, False), ("cut", True, False), ("cut", False, True)):
        child = os.fork()
        if child == 0:
            try:
                run(name, root / f"{name}-{folder}", cut, resume)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL) if cut else status == 0, name
"""


@pytest.mark.slow
@pytest.mark.parametrize("names", [SOME, OTHERS], ids=["some", "others"])
def test_killed_between_two_events_and_resumed_it_is_the_same_run(names, tmp_path):
    subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), *names], check=True)
    for name in names:
        whole, cut = tmp_path / f"{name}-whole", tmp_path / f"{name}-cut"
        assert (whole / "end.safetensors").read_bytes() == (cut / "end.safetensors").read_bytes(), name
        assert (whole / JOURNAL).read_text() == (cut / JOURNAL).read_text(), name
        steps = [json.loads(line)["step"] for line in (whole / JOURNAL).read_text().splitlines()]
        assert steps[0] == 0
        assert steps == sorted(set(steps))


def recipe(name, budget=None, **keywords):
    return Recipe(
        keep="tuned",
        adapter=AdapterSettings(name, rank=2, **keywords),
        budget=budget or BudgetSettings(),
        lists=ListSettings(negatives=2),
        training=OptimizerSettings(steps=10, batch_size=4, lr=5e-3, evaluations=5),
    )


def fitted(tiny_folders, texts, tmp_path, plan):
    ranker = BiEncoder(str(tiny_folders["bert"]))
    fit(ranker, texts, out=tmp_path / "run", recipe=plan)
    return tmp_path / "run"


def ranks_of(run):
    return {layer["path"]: layer["rank"] for layer in json.loads((run / "run.json").read_text())["adapter"]["layers"]}


def test_a_fit_under_a_budget_ends_as_plain_lora_of_the_total(tiny_folders, texts, tmp_path):
    run = fitted(tiny_folders, texts, tmp_path, recipe("lora", BudgetSettings("adalora", 17, {"every": 2})))
    ranks = ranks_of(run)
    assert sum(ranks.values()) == 17
    journal = [json.loads(line) for line in (run / JOURNAL).read_text().splitlines()]
    assert journal[0] == {"step": 0, "total": 3 * len(ranks), "ranks": dict.fromkeys(ranks, 3)}
    assert journal[-1]["ranks"] == ranks
    assert journal[-1]["step"] == 7
    config = json.loads(next((run / "model").rglob("adapter_config.json")).read_text())
    tensors = load_file(next((run / "model").rglob("adapter_model.safetensors")))
    held = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): len(tensor)
        for name, tensor in tensors.items()
        if name.endswith("lora_A.weight")
    }
    assert held == {path: rank for path, rank in ranks.items() if rank}
    assert config["peft_type"] == "LORA"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = json.loads((run / "run.json").read_text())["outcome"]["best_step"]
    assert best >= 7, lines


@pytest.mark.parametrize(("name", "adapter"), [("sensitivity-lora", "lora"), ("plop", "dora"), ("eva", "lora")])
def test_a_static_budget_reads_the_calibration_pass(name, adapter, tiny_folders, texts, tmp_path):
    run = fitted(tiny_folders, texts, tmp_path, recipe(adapter, BudgetSettings(name, 20), alpha=4.0))
    assert sum(ranks_of(run).values()) == 20
    assert not (run / JOURNAL).exists()
    assert len(set(ranks_of(run).values())) > 1


def test_the_metric_driven_budget_runs_on_dev_lists(tiny_folders, texts, tmp_path):
    run = fitted(tiny_folders, texts, tmp_path, recipe("metric-importance", BudgetSettings(options={"every": 2})))
    assert sum(ranks_of(run).values()) == 2 * len(ranks_of(run))


def test_what_does_not_fit_together_is_refused():
    for budget, adapter, said in (
        (BudgetSettings("adalora"), "dora", "--adapter lora or --adapter adalora"),
        (BudgetSettings("adalora"), "full", "whole"),
        (BudgetSettings("adalorra"), "lora", "did you mean 'adalora'"),
        (BudgetSettings("none"), "adalora", "name a budget"),
        (BudgetSettings("auto", 5), "lora", "name a budget"),
    ):
        with pytest.raises(UsageError, match=said):
            choose_budget(budget, AdapterSettings(adapter))
    assert choose_budget(BudgetSettings("plop"), AdapterSettings("dora")).adapter.name == "dora"


@pytest.mark.parametrize("name", ["qdylora", "selective-lora-indicator"])
def test_the_saved_ranker_scores_as_the_tuned_one(name, tiny_folders, texts, tmp_path):
    tuned = fit(BiEncoder(str(tiny_folders["bert"])), texts, out=tmp_path / "run", recipe=recipe(name))
    again = load_ranker(tmp_path / "run")
    documents = texts.documents[:7]
    np.testing.assert_allclose(
        again.score("moon earth", documents), tuned.score("moon earth", documents), rtol=1e-5, atol=5e-6
    )
