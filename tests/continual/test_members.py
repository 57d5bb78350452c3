"""What each continual method shows: distillation without conflicts, related steps, reuse, shifts, routes."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lorank.continual import make_method, train_stream
from lorank.continual.core.features import Prototypes, Selector, hashed_words
from lorank.continual.core.shifts import ShiftDetector
from lorank.continual.plwf import resolve_conflicts
from lorank.continual.tag_lifelong import TAG
from lorank.errors import UsageError
from lorank.tuned.ranker import TunedRanker
from tiny_streams import method, tiny_collection

SEEDS = (0, 1, 2)


def state_of(folder):
    tuned = TunedRanker.load(folder)
    return {key: own.clone() for key, own in tuned.adapter.state().items()}


# plwf


@pytest.mark.slow
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_plwf_leaves_no_negative_dot_with_what_is_protected(seed, count):
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(12, generator=generator, dtype=torch.float64)
    protected = torch.randn(count, 12, generator=generator, dtype=torch.float64)
    found = resolve_conflicts(gradient, protected, rounds=3000)
    assert (protected @ found >= -1e-7 * protected.norm(dim=1) * gradient.norm()).all()
    if (protected @ gradient >= 0).all():
        torch.testing.assert_close(found, gradient)


def test_plwf_with_one_conflict_drops_just_that_component():
    gradient, protected = torch.tensor([3.0, -4.0, 1.0]), torch.tensor([[0.0, 2.0, 0.0]])
    torch.testing.assert_close(resolve_conflicts(gradient, protected), torch.tensor([3.0, 0.0, 1.0]))
    torch.testing.assert_close(resolve_conflicts(gradient, torch.zeros(1, 3)), gradient)


def test_plwf_of_one_task_is_plain_training(three, recipe, tmp_path):
    train_stream(recipe, three[:2], tmp_path / "plain")
    train_stream(method(recipe, "plwf"), three[:2], tmp_path / "plwf")
    one, two = (state_of(tmp_path / f"{name}/stage-1") for name in ("plain", "plwf"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    one, two = (state_of(tmp_path / f"{name}/stage-2") for name in ("plain", "plwf"))
    assert any(not torch.equal(one[key], two[key]) for key in one)


# tag-lifelong


@pytest.mark.parametrize("seed", SEEDS)
def test_tag_lifelong_of_one_task_is_adam(seed):
    torch.manual_seed(seed)
    one, two = nn.Linear(4, 3), nn.Linear(4, 3)
    two.load_state_dict(one.state_dict())
    ours = TAG([{"params": [one.weight]}, {"params": [one.bias], "lr": 0.02}], lr=0.01, weight_decay=0.1)
    theirs = torch.optim.AdamW(
        [{"params": [two.weight]}, {"params": [two.bias], "lr": 0.02}], lr=0.01, weight_decay=0.1
    )
    for _ in range(8):
        x = torch.randn(5, 4)
        for model, optimizer in ((one, ours), (two, theirs)):
            model(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    for own, other in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_tag_lifelong_lowers_the_step_against_a_conflicting_past_and_raises_it_for_an_aligned_one(seed):
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(20, generator=generator)
    side = torch.randn(20, generator=generator)
    side -= gradient * (side @ gradient) / (gradient @ gradient)
    steps = {}
    for name, past in {"aligned": gradient, "unrelated": side, "conflicting": -gradient, "none": None}.items():
        weight = nn.Parameter(torch.zeros(20))
        moments = [] if past is None else [{0: {"first": past, "second": gradient.square()}}]
        optimizer = TAG([weight], moments, lr=0.1)
        weight.grad = gradient.clone()
        optimizer.step()
        steps[name] = float(weight.detach().norm())
    assert steps["conflicting"] < 0.5 * steps["unrelated"] < 0.9 * steps["aligned"] < steps["none"]


@pytest.mark.slow
def test_tag_lifelong_hands_moments_from_stage_to_stage(three, recipe, tmp_path):
    train_stream(method(recipe, "tag-lifelong"), three[:2], tmp_path / "out")
    train_stream(recipe, three[:2], tmp_path / "plain")
    one, two = (state_of(tmp_path / f"{name}/stage-1") for name in ("plain", "out"))
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=1e-3)  # Adam divides by rounding
    moved = [
        sum(float((b[key] - a[key]).norm() ** 2) for key in a)
        for a, b in (
            (state_of(tmp_path / f"{n}/stage-1"), state_of(tmp_path / f"{n}/stage-2")) for n in ("plain", "out")
        )
    ]
    assert moved[1] < moved[0]  # a past in the denominator makes steps smaller


# par-lifelong


def clusters(seed, centre, count, width=16):
    rng = np.random.default_rng([seed, centre])
    own = np.random.default_rng(centre).normal(size=width)
    return own / np.linalg.norm(own) + 0.1 * rng.normal(size=(count, width))


@pytest.mark.parametrize("seed", SEEDS)
def test_par_lifelong_prototypes_tell_related_tasks_from_unrelated_ones(seed):
    known = Prototypes.of(clusters(seed, 1, 80), clusters(seed + 50, 1, 40), 8, seed)
    assert known.relatedness(clusters(seed + 90, 1, 40)) < 1.15
    assert known.relatedness(clusters(seed, 2, 40)) > 1.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_par_lifelong_shares_on_related_collections_and_grows_only_on_unrelated_ones(recipe, tmp_path, seed):
    """By hashed words, for rankers that are no bi-encoders; distances are .7 to 1.3 against 1.6 to 2.8."""
    again = replace(tiny_collection("sorting", seed + 7, times=5), name="sorting again")
    stream = [tiny_collection("sorting", seed, times=5), tiny_collection("heaven", seed, times=5), again]
    words = replace(recipe, kind="cross-encoder", training=replace(recipe.training, steps=2))
    train_stream(method(words, "par-lifelong", threshold=1.45), stream, tmp_path / "out")
    stages = json.loads((tmp_path / "out/continual.json").read_text())["stages"]
    assert [stage["expert"] for stage in stages] == [0, 1, 0]
    assert [stage["new_expert"] for stage in stages] == [True, True, False]
    one, two = (state_of(tmp_path / f"out/stage-{n}") for n in (1, 3))
    assert {key: own.shape for key, own in one.items()} == {key: own.shape for key, own in two.items()}
    assert any(not torch.equal(one[key], two[key]) for key in one)


# tame


@pytest.mark.parametrize("seed", range(20))
def test_tame_finds_planted_changes_within_few_steps_and_sounds_no_false_alarm(seed):
    rng = np.random.default_rng(seed)
    changes, level, detector, alarms = (200, 400, 600), 1.0, ShiftDetector(), []
    for step in range(800):
        level += 1.0 if step in changes else 0.0
        if detector.see(level + 0.1 * rng.normal()):
            alarms.append(step)
    assert len(alarms) == 3
    assert all(0 <= alarm - change <= 5 for alarm, change in zip(alarms, changes, strict=True))


def test_tame_finds_no_change_in_a_still_stream():
    for seed in range(5):
        rng = np.random.default_rng(100 + seed)
        detector = ShiftDetector()
        assert not any(detector.see(1 + 0.3 * rng.normal()) for _ in range(4000))


@pytest.mark.parametrize("seed", SEEDS)
def test_tame_routes_more_than_95_of_100_queries_to_their_expert(seed):
    words = {e: [f"w{e}x{k}" for k in range(30)] for e in range(3)}

    def queries(count, draw):
        rng = np.random.default_rng([seed, draw])
        owners = rng.integers(0, 3, count)
        common = ["the", "of", "a", "in"]
        return owners, [" ".join([*rng.choice(words[e], 3), *rng.choice(common, 3)]) for e in owners]

    owners, texts = queries(300, 0)
    selector = Selector.fit(hashed_words(texts), owners)
    owners, texts = queries(300, 1)
    assert (selector.choose(hashed_words(texts)) == owners).mean() > 0.95


def test_tame_spawns_an_expert_where_the_loss_has_left_what_is_usual(monkeypatch):
    from lorank.continual import tame

    own = make_method("tame")
    usual = list(1 + 0.1 * np.random.default_rng(0).normal(size=30))
    for loss, home in ((1.05, True), (1.3, False), (3.0, False)):
        monkeypatch.setattr(tame, "batch_loss", lambda plan, step, loss=loss: loss)
        assert (own.home(SimpleNamespace(), usual) is not None) is home


@pytest.mark.slow
def test_tame_trains_and_routes_a_stream(three, recipe, tmp_path):
    train_stream(method(recipe, "tame"), three, tmp_path / "out")
    stages = json.loads((tmp_path / "out/continual.json").read_text())["stages"]
    experts = [stage["expert"] for stage in stages]
    assert experts[0] == 0
    assert all(expert <= max(experts[:k]) + 1 for k, expert in enumerate(experts) if k)


# mora-mixture, codyra, coso and gorp as streams


def test_mora_mixture_freezes_former_ranks_and_adds_new_ones(three, recipe, tmp_path):
    train_stream(method(recipe, "mora-mixture"), three, tmp_path / "out")
    one, two, three_ = (TunedRanker.load(tmp_path / f"out/stage-{n}").adapter.forms for n in (1, 2, 3))
    for path in one:
        assert torch.equal(two[path].old_A, one[path].A)
        assert torch.equal(three_[path].old_B[:, :2], one[path].B)
        assert three_[path].all_A().shape[0] == 3 * one[path].rank
        assert not torch.equal(two[path].A, one[path].A)


def test_codyra_ends_as_the_base_with_one_lora(three, recipe, tmp_path):
    done = train_stream(method(recipe, "codyra"), three, tmp_path / "out")
    first, last = (TunedRanker.load(tmp_path / f"out/stage-{n}") for n in (1, 3))
    kept = [stage["ranks"] for stage in done.stages]
    assert done.stages[-1]["ranks_in_all"] == sum(kept)
    assert all(0 < ranks < 2 * len(first.adapter.forms) for ranks in kept)
    assert type(next(iter(last.adapter.forms.values()))).__name__ == "LoRA"
    queries, documents = ["moon of"], ["moon earth", "sorting list words"]
    plain = last.score(queries[0], documents)
    assert last.adapter.merged  # scoring merges: plain layers of the base's own shape
    assert np.isfinite(plain).all()


@pytest.mark.parametrize("name", ["coso", "gorp"])
def test_a_stage_of_coso_or_gorp_moves_matrices_off_the_history_and_nothing_else(name, three, recipe, tmp_path):
    whole = replace(recipe, adapter=replace(recipe.adapter, name="auto", rank=4))
    train_stream(method(whole, name), three[:2], tmp_path / "out")
    one, two = (TunedRanker.load(tmp_path / f"out/stage-{n}").trainable.module.state_dict() for n in (1, 2))
    from lorank.continual.core.state import read_tensors

    history = read_tensors(tmp_path / "out/stage-1/history.safetensors")
    assert history
    for key in one:
        move = (two[key] - one[key]).double()
        if key not in history:
            assert move.abs().max() == 0  # exact: it rests
            continue
        move = move if len(history[key]) == len(move) and move.shape[0] < move.shape[1] else move.t()
        assert move.norm() > 0
        assert (history[key].double().t() @ move).norm() < 1e-3 * move.norm()  # float32 weights, rounded at each step


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tag-lifelong", {"b": -1.0}),
        ("plwf", {"weight": float("nan")}),
        ("par-lifelong", {"threshold": 0.5}),
        ("par-lifelong", {"prototypes": 0}),
        ("tame", {"sigmas": 0.0}),
        ("tame", {"batches": 0}),
        ("coso", {"energy": 0.0}),
        ("gorp", {"energy": 2.0}),
    ],
)
def test_bad_options_are_refused(name, options):
    with pytest.raises(UsageError):
        make_method(name, options)


def test_a_method_says_what_it_does_not_go_with(three, recipe, tmp_path):
    full, dora, lora = (replace(recipe, adapter=replace(recipe.adapter, name=n)) for n in ("full", "dora", "lora"))
    for name, own in (
        ("codyra", dora),
        ("mora-mixture", dora),
        ("coso", lora),
        ("tame", full),
        ("par-lifelong", full),
    ):
        with pytest.raises(UsageError, match=name):
            train_stream(method(own, name), three[:2], tmp_path / name)
