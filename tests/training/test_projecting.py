"""Projected optimizers in the training loop: each trains whole weights and is taken up after kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lorank.data import write_beir
from lorank.errors import UsageError
from lorank.lowrank.projected import PRESETS
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.training import fit, load_ranker
from lorank.training.checks import check_options
from lorank.training.loop.checkpoints import newest_checkpoint
from lorank.training.plan import resolve_recipe
from lorank.training.projecting import make_projecting, rank_of_optimizer
from lorank.training.recipe import RecipeFile, override
from lorank.training.settings import (
    AdapterSettings,
    ListSettings,
    OptimizerSettings,
    ProjectionSettings,
    Recipe,
)

pytestmark = pytest.mark.usefixtures("own_cache")
QUICK = Recipe(
    training=OptimizerSettings(steps=4, batch_size=4, evaluations=2),
    lists=ListSettings(negatives=3, depth=20),
    keep="tuned",
)


def with_optimizer(name, rank=None, **options):
    return replace(QUICK, optimizer=ProjectionSettings(name, rank, options))


@pytest.mark.parametrize("name", PRESETS)
def test_every_optimizer_trains_a_ranker_and_what_is_saved_scores_as_it(name, texts, bert, tmp_path):
    if PRESETS[name].inner.startswith("adamw") and PRESETS[name].inner != "adamw":
        pytest.importorskip("torchao.optim", reason="torchao is not installed")
    ranker = BiEncoder(bert)
    before = {key: p.detach().clone() for key, p in ranker.module.named_parameters()}
    tuned = fit(ranker, texts, out=tmp_path / "run", recipe=with_optimizer(name))
    moved = [key for key, p in ranker.module.named_parameters() if not torch.equal(p, before[key])]
    assert any("query.weight" in key for key in moved)
    assert any("LayerNorm" in key for key in moved)
    documents = list(texts.documents[:6])
    one, two = tuned.score("moon earth", documents), load_ranker(tmp_path / "run").score("moon earth", documents)
    assert abs(one - two).max() <= 1e-6 * max(1.0, abs(one).max())
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["optimizer"]["name"] == name
    assert f"optimizer `{name}`" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_a_head_that_the_checkpoint_did_not_bring_steps_plainly(texts, bert, tmp_path):
    ranker = CrossEncoder(bert)
    head = {name: p.detach().clone() for name, p in ranker.head_parameters()}
    fit(ranker, texts, out=tmp_path / "run", recipe=with_optimizer("fira", rank=4))
    assert head
    assert all(not torch.equal(head[name], p) for name, p in ranker.head_parameters())


def test_the_rank_is_the_optimizers_or_the_adapters_or_a_quarter(bert):
    recipe = replace(with_optimizer("galore"), adapter=AdapterSettings("full", rank=8))
    assert rank_of_optimizer(recipe.optimizer, recipe.adapter) == 8
    assert rank_of_optimizer(ProjectionSettings("galore", 4), recipe.adapter) == 4
    assert rank_of_optimizer(ProjectionSettings("galore"), AdapterSettings("full")) is None
    assert rank_of_optimizer(ProjectionSettings("apollo-mini"), AdapterSettings("full")) == 1
    plan = override(RecipeFile(), {"adapter.rank": 8, "optimizer.name": "galore", "optimizer.gap": 7}, "--set")
    assert plan.optimizer.options == {"gap": 7}


REFUSED = [
    ("use --adapter full, or leave the optimizer out", {"adapter.name": "lora", "optimizer.name": "galore"}),
    ("leave one of them out", {"optimizer.name": "galore", "rule.name": "loft"}),
    ("neither a rank nor options", {"optimizer.rank": 3}),
    ("optimizer.gap is 'x'; give a whole number", {"optimizer.name": "galore", "optimizer.options": {"gap": "x"}}),
    ("gap is -2; give a whole number of 1 or more", {"optimizer.name": "galore", "optimizer.gap": -2}),
    ("has no option 'gape'", {"optimizer.name": "galore", "optimizer.options": {"gape": 2}}),
    ("unknown projector 'svdd'", {"optimizer.name": "galore", "optimizer.projector": "svdd"}),
]


@pytest.mark.parametrize(("message", "given"), REFUSED, ids=[message for message, _ in REFUSED])
def test_what_does_not_go_together_is_refused_before_any_work(message, given):
    with pytest.raises(UsageError, match=message):
        check_options(override(RecipeFile(), given, "--set"))


def test_a_rank_that_no_matrix_bears_and_steps_that_cannot_be_early(texts, bert, tmp_path):
    with pytest.raises(UsageError, match=r"rank 40 is above the shorter side .* \(32, 32\); give a rank of 32 or less"):
        fit(BiEncoder(bert), texts, out=tmp_path / "run", recipe=with_optimizer("galore", rank=40))
    early = with_optimizer("galore", in_backward=True)
    recipe, _ = resolve_recipe(
        ranker := BiEncoder(bert), texts, replace(early, training=OptimizerSettings(accumulate=2))
    )
    with pytest.raises(UsageError, match="training.accumulate = 1"):
        make_projecting(recipe, ranker)


def test_stepping_in_the_backward_pass_is_the_unclipped_run(texts, bert, tmp_path):
    found = []
    for name, early in (("late", False), ("early", True)):
        recipe = with_optimizer("galore", rank=4, in_backward=early)
        recipe = replace(recipe, training=replace(recipe.training, clip=None))
        ranker = BiEncoder(bert)
        fit(ranker, texts, out=tmp_path / name, recipe=recipe)
        found.append(ranker.module.state_dict())
    for key, value in found[0].items():
        assert torch.equal(found[1][key], value), key  # exact: the same operations


def start_command(name, base, folder, out, *more):
    """`lorank train` in a process of its own, which writes a checkpoint after every step."""
    stated = ["--data", folder / "data", "--base", base, "--kind", "bi-encoder", "--out", folder / out]
    short = ["--optimizer", name, "--rank", "4", "--steps", "30", "--batch-size", "4", "--no-test", "--quiet"]
    layers = ["optimizer.gap=7", "optimizer.interval=5", "optimizer.active=1"]
    loop = ["training.evaluations=2", "training.checkpoint_seconds=0", "lists.negatives=3", "keep=tuned"]
    given = [word for each in (*layers, *loop) for word in ("--set", each)]
    command = [sys.executable, "-m", "lorank", "train", *map(str, stated), *short, *given, *more]
    return subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["owlore", "fira"])
def test_a_command_that_was_killed_ends_as_the_one_that_was_not(name, texts, bert, tmp_path):
    write_beir(texts, tmp_path / "data")
    whole = start_command(name, bert, tmp_path, "whole")
    cut = start_command(name, bert, tmp_path, "cut")
    checkpoints = tmp_path / "cut" / "checkpoints"
    until = time.monotonic() + 300
    while cut.poll() is None and time.monotonic() < until:
        if checkpoints.is_dir() and any(int(path.name[5:]) >= 8 for path in checkpoints.glob("step-*")):
            cut.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert cut.wait() == -signal.SIGKILL
    kept = load_file(newest_checkpoint(checkpoints) / "state.safetensors")
    moments = sum(name.endswith("exp_avg") and value.numel() > 0 for name, value in kept.items())
    again = start_command(name, bert, tmp_path, "cut", "--resume")
    for run in (whole, again):
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors.decode()
    one, two = (load_ranker(tmp_path / out).ranker.module for out in ("whole", "cut"))
    for key, value in one.state_dict().items():
        assert torch.equal(two.state_dict()[key], value), key  # exact: a resumed run is the same run
    parameters, layer = list(one.parameters()), list(one.get_submodule("encoder.layer.0").parameters())
    assert 0 < moments <= len(parameters) - (len(layer) if name == "owlore" else 0)  # a resting layer has no state


@pytest.mark.slow
def test_the_command_trains_whole_weights_into_a_folder_that_ranks(texts, bert, tmp_path):
    write_beir(texts, tmp_path / "data")

    def lorank(*arguments):
        command = [sys.executable, "-m", "lorank", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=600)

    stated = ["--data", str(tmp_path / "data"), "--base", bert, "--optimizer", "fira", "--steps", "3"]
    wrong = lorank("train", *stated, "--adapter", "lora", "--out", str(tmp_path / "wrong"))
    assert wrong.returncode == 2
    assert "use --adapter full" in wrong.stderr
    assert not (tmp_path / "wrong").exists()
    done = lorank(
        "train", *stated, "--adapter", "full", "--rank", "8", "--set", "keep=tuned", "--out", str(tmp_path / "run")
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "documents.jsonl").write_text('{"text": "the moon"}\n{"text": "a list"}\n')
    ranked = lorank(
        "rank", "--ranker", str(tmp_path / "run"), "--query", "moon", "--documents", str(tmp_path / "documents.jsonl")
    )
    assert ranked.returncode == 0, ranked.stderr
    assert len(ranked.stdout.splitlines()) == 2
