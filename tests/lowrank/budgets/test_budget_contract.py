"""What holds for every budget; a new one is covered by registering it."""

import copy
import json
from types import SimpleNamespace

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.budgets import DYNAMIC, STATIC, Timetable, make_budget, share_ranks_of
from lorank.lowrank.budgets.core.settle import settle
from lorank.lowrank.forms import Gated, LoRA, Site

every_dynamic = pytest.mark.parametrize("name", sorted(DYNAMIC))
every_static = pytest.mark.parametrize("name", sorted(STATIC))
EQUAL = ("dylora", "qdylora")  # give every layer the same
WITHIN = ("dora-dynamic", "autolora-meta")  # compare a component with those of its own layer
OPTIONS = {
    "sora": {"sparsity": 0.4},
    "selective-lora-indicator": {"rate": 0.1},
    "alora-allocate": {"sample": None},
    "diffora": {"every": 2},
    "autolora-meta": {"every": 8},
}
X = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def runs():
    """One finished run of each budget at a total of 5, made when it is first asked for; tests get copies."""
    made = {}

    def get(name, toy):
        if name not in made:
            made[name] = toy(name, total=5, **OPTIONS.get(name, {})).run()
        return copy.deepcopy(made[name])

    return get


@every_dynamic
@pytest.mark.parametrize("total", [5, 8])
def test_ranks_add_up_at_every_step(name, total, toy, runs):
    run = runs(name, toy) if total == 5 else toy(name, steps=25, **OPTIONS.get(name, {})).run()
    for step, ranks in enumerate(run.ranks, start=1):
        planned = run.budget.planned_total(step, run.steps)
        assert sum(ranks.values()) == planned if run.budget.exact else sum(ranks.values()) <= planned, step
    assert run.budget.planned_total(run.steps, run.steps) == total
    last = run.budget.timetable.bounds(run.steps)[1]
    assert all(ranks == run.ranks[-1] for ranks in run.ranks[last - 1 :])


@every_dynamic
def test_ranks_are_those_of_the_update(name, toy, runs):
    run = runs(name, toy)
    for path, form in run.adapter.forms.items():
        delta = form.delta(run.adapter.layers[path].frozen.weight)
        assert torch.linalg.matrix_rank(delta, rtol=1e-6) == run.ranks[-1][path]


@pytest.mark.parametrize("name", sorted(set(DYNAMIC) - {*EQUAL, *WITHIN}))
def test_a_planted_layer_gets_the_ranks(name, toy, runs):
    run = runs(name, toy)
    ranks = run.ranks[-1]
    assert ranks["planted"] == max(ranks.values())
    assert ranks["planted"] > sum(rank for path, rank in ranks.items() if path != "planted") / 3


@every_dynamic
def test_growing_and_moving_leave_the_forward_unchanged_where_promised(name, toy, runs):
    run = runs(name, toy)
    promised = run.budget.growth_change
    grown = [step for step in run.jumps if step > 1 and run.ranks[step - 1] != run.ranks[step - 2]]
    assert grown
    if promised is None or name in ("elalora", "alora-allocate"):
        return  # prunes too, which changes the output: growing alone is tested with these
    assert all(run.jumps[step] <= 20 * promised + 1e-6 for step in run.jumps)


@every_dynamic
def test_a_component_that_is_off_adds_nothing(name, toy, runs):
    run = runs(name, toy)
    before = run.model(X)
    with torch.no_grad():
        for form in run.adapter.forms.values():
            form.A[~form.on] += 7.0
            form.B[:, ~form.on] += 7.0
            form.gate[~form.on] += 7.0
    assert torch.equal(run.model(X), before)


@every_dynamic
def test_settled_and_exported_as_plain_lora_it_scores_the_same(name, toy, runs, tmp_path):
    run = runs(name, toy)
    gated = run.model(X)
    ranks = {path: len(form.as_lora().A) for path, form in run.adapter.forms.items()}
    run.adapter.export(tmp_path / "portable", format="portable", probe=lambda model: model(X), limit=1e-6)
    settle(run.adapter)
    assert all(type(form) is LoRA for form in run.adapter.forms.values())
    assert {path: form.rank for path, form in run.adapter.forms.items()} == ranks
    torch.testing.assert_close(run.model(X), gated, atol=1e-6, rtol=0)
    run.adapter.export(tmp_path / "peft", probe=lambda model: model(X), limit=1e-6)
    run.adapter.save(tmp_path / "own", probe=lambda model: model(X))
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    held = {path for path, rank in ranks.items() if rank}
    assert set(config["target_modules"]) == held
    assert {path: config.get("rank_pattern", {}).get(path, config["r"]) for path in held} == {
        path: ranks[path] for path in held
    }
    plain = run.adapter.detach()
    if name == "qdylora":  # peft gets the base as the update was trained on it: in 4 bits, written out
        lowrank.quantise(plain)
        lowrank.dequantise(plain)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "peft")
    torch.testing.assert_close(theirs(X), gated, atol=5e-6, rtol=1e-5)


@every_dynamic
def test_saved_as_gated_it_scores_the_same(name, toy, runs, tmp_path):
    run = runs(name, toy)
    run.adapter.save(tmp_path / "gated", probe=lambda model: model(X))


@every_dynamic
def test_a_run_taken_up_again_has_the_same_bits(name, toy, runs):
    whole, at = runs(name, toy), 15
    cut = toy(name, total=5, **OPTIONS.get(name, {})).run(until=at)
    weights = {key: tensor.clone() for key, tensor in cut.adapter.state().items()}
    budget = {key: tensor.clone() for key, tensor in cut.budget.state().items()}
    moments = cut.optimizer.state_dict()["state"]
    again = toy(name, total=5, **OPTIONS.get(name, {}))
    again.adapter.load_state(weights)
    again.optimizer.load_state_dict({"state": moments, "param_groups": again.optimizer.state_dict()["param_groups"]})
    again.budget.load_state(budget)
    again.step = at
    again.run()
    for key, tensor in whole.adapter.state().items():
        assert torch.equal(again.adapter.state()[key], tensor), key
    assert again.ranks == whole.ranks[at:]


@every_dynamic
def test_the_global_generator_is_left_alone(name, toy):
    run = toy(name, steps=10, **OPTIONS.get(name, {}))
    before = torch.random.get_rng_state()
    run.run()
    assert torch.equal(before, torch.random.get_rng_state())


@every_dynamic
def test_no_event_changes_a_parameters_shape_or_identity(name, toy):
    run = toy(name, steps=10, **OPTIONS.get(name, {}))
    before = [(id(p), p.shape) for p in run.adapter.parameters()]
    groups = len(run.optimizer.param_groups)
    run.run()
    assert [(id(p), p.shape) for p in run.adapter.parameters()] == before
    assert len(run.optimizer.param_groups) == groups


@every_dynamic
def test_bad_input_is_refused(name, toy):
    with pytest.raises(UsageError, match="total of 999"):
        toy(name, total=999)
    with pytest.raises(UsageError, match="shares"):
        toy(name, warmup=0.7, final=0.5)
    with pytest.raises(UsageError, match="every"):
        toy(name, every=0)
    with pytest.raises(UsageError, match="bogus"):
        toy(name, bogus=1)
    if DYNAMIC[name].needs:
        run = toy(name)
        with pytest.raises(UsageError, match="dev data"):
            run.budget.begin(SimpleNamespace(optimizer=None, training_loss=None, held_out_loss=None, measure=None))


def test_a_form_without_gates_and_an_unknown_budget_are_refused(toy):
    adapter = lowrank.attach(torch.nn.Sequential(torch.nn.Linear(3, 2)), "lora")
    with pytest.raises(UsageError, match="LoRA"):
        make_budget("adalora", adapter.forms)
    with pytest.raises(UsageError, match="adalora"):
        make_budget("adalorra", adapter.forms)
    with pytest.raises(UsageError, match="capacity"):
        lowrank.attach(torch.nn.Sequential(torch.nn.Linear(3, 2)), "gated", options={"capacity": 0.5})
    with pytest.raises(UsageError, match="gates"):
        lowrank.attach(torch.nn.Sequential(torch.nn.Linear(3, 2)), "gated", options={"gates": "two"})
    gated = toy("adalora").adapter
    settle(gated)
    with pytest.raises(UsageError, match="nothing to settle"):
        settle(gated)


@given(warmup=st.floats(0, 0.6), final=st.floats(0, 0.39), every=st.integers(1, 50), steps=st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_the_last_event_is_there_whatever_the_timetable(warmup, final, every, steps):
    timetable = Timetable(warmup, final, every)
    first, last = timetable.bounds(steps)
    events = timetable.events(steps)
    assert 0 <= first < last <= steps
    assert events[-1] == last
    assert all(first < event <= last for event in events)
    assert timetable.passed_share(last, steps) == pytest.approx(1.0)
    assert timetable.passed_share(first, steps) == 0.0


def sites(count=5, rank=4, sizes=((6, 8), (10, 5)), seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for k in range(count):
        out, width = sizes[k % len(sizes)]
        linear = torch.nn.Linear(width, out, bias=False)
        with torch.no_grad():
            linear.weight.copy_(torch.randn(out, width, generator=generator))
        made.append(Site(f"block.{k}.dense", BaseLinear(linear), rank, float(rank), 1.0))
    return made


def statistics(made, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        site.path: {
            "inputs": torch.randn(60, site.base.in_features, generator=generator),
            "gradient": torch.randn(site.base.weight.shape, generator=generator),
        }
        for site in made
    }


@every_static
@given(count=st.integers(2, 6), rank=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_static_ranks_add_up_and_are_a_function_of_what_was_seen(name, count, rank, seed):
    made = sites(count, rank, seed=seed)
    seen = statistics(made, seed)
    ranks = share_ranks_of(name, made, seen, count * rank)
    assert sum(ranks.values()) == count * rank
    assert list(ranks) == [site.path for site in made]
    assert min(ranks.values()) >= 0
    assert share_ranks_of(name, made, seen, count * rank) == ranks


@every_static
def test_static_budgets_say_what_they_lack(name):
    made = sites()
    if STATIC[name].needs:
        with pytest.raises(UsageError, match="needs statistics of layer block.0.dense"):
            share_ranks_of(name, made, {}, 10)
    with pytest.raises(UsageError, match="unknown static budget"):
        share_ranks_of(name + "x", made, {}, 10)


@every_static
def test_attach_under_a_static_budget_keeps_the_scale(name):
    model = torch.nn.ModuleDict({site.path.replace(".", "_"): site.base.module for site in sites()})
    made = [Site(path, BaseLinear(module), 2, 4.0, 2.0) for path, module in model.items()]
    seen = statistics(made)
    adapter = lowrank.attach(model, name, rank=2, statistics=seen)
    assert sum(form.rank for form in adapter.forms.values()) == 10
    assert all(form.scaling == (pytest.approx(1.0) if form.rank else 0.0) for form in adapter.forms.values())


def test_gated_forms_are_what_the_budgets_preset_says():
    for name, kind in DYNAMIC.items():
        adapter = lowrank.attach(torch.nn.Sequential(torch.nn.Linear(8, 8)), name, rank=4)
        form = adapter.forms["0"]
        assert isinstance(form, Gated)
        assert form.components == round(4 * kind.form_options["capacity"])
