"""ofs-dpo: a fast module with a slow one at its heels, and modules of two domains combined."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lorank.catalogue import METHODS
from lorank.data.rows import read_rows
from lorank.errors import UsageError
from lorank.ranking.losses import loss
from lorank.ranking.scorers import CausalRanker
from lorank.training import AdapterSettings, LossSettings, OptimizerSettings, Recipe, fit, load_ranker
from lorank.training.hooks.ofs_dpo import FastSlow
from lorank.training.methods.cofs import combine_domains, mean_loss
from lorank.tuned.export import export

WORDS = ["red", "blue", "green", "one", "two", "three"]
QUICK = Recipe(
    training=OptimizerSettings(steps=10, batch_size=8, lr=1e-2, evaluations=1, precision="fp32"),
    adapter=AdapterSettings("lora", rank=4, targets=["q_proj", "v_proj", "down_proj"]),
)


def written(path, pairs):
    path.write_text(
        "".join(
            json.dumps({"query": query, "chosen": chosen, "rejected": rejected}) + "\n"
            for query, chosen, rejected in pairs
        )
    )
    return read_rows(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Answers that say yes are preferred to those that say no, whatever the question."""
    texts = [f"{a} {b}" for a in WORDS for b in WORDS]
    return written(
        tmp_path_factory.mktemp("pairs") / "pairs.jsonl", [(f"q {text}", f"Yes {text}", f"No {text}") for text in texts]
    )


def tuned_by(base, data, out, name="ofs-dpo", recipe=QUICK, options=None, **more):
    ranker = CausalRanker(base, view="log-ratio", beta=0.5)
    recipe = replace(recipe, loss=LossSettings(name, options or {}))
    return fit(ranker, data, out=out, recipe=recipe, **more)


def parameters(tuned):
    return torch.cat([p.detach().flatten() for p in tuned.adapter.parameters()])


def right(tuned, data):
    texts = dict(zip(data.document_ids, data.documents))
    return np.mean(
        [
            np.subtract(*tuned.score(query, [texts[d] for d in row])) > 0
            for query, row in zip(data.train.queries.values(), data.train.qrels.values())
        ]
    )


def test_ofs_dpo_of_equal_rates_and_zero_weight_is_dpo(pairs, tiny_causals, tmp_path):
    assert METHODS["ofs-dpo"].area == "losses.preference"
    plain = tuned_by(tiny_causals["llama"], pairs, tmp_path / "dpo", "dpo")
    chased = tuned_by(tiny_causals["llama"], pairs, tmp_path / "ofs", options={"strength": 0.0, "slow_rate": 1.0})
    assert torch.equal(parameters(chased), parameters(plain))
    slow = chased.ranker.slow.__self__
    assert torch.equal(torch.cat([p.detach().flatten() for p in slow.slow]), parameters(plain))
    assert slow.swaps == 0


def test_the_fast_module_leads_and_the_slow_one_follows(pairs, tiny_causals, tmp_path):
    chased = tuned_by(tiny_causals["llama"], pairs, tmp_path / "ofs", options={"slow_rate": 0.2})
    values = {}
    with chased.ranker.reference():
        values["none"] = mean_loss(chased.ranker, pairs, loss("dpo"))
    with chased.ranker.slow():
        values["slow"] = mean_loss(chased.ranker, pairs, loss("dpo"))
    values["fast"] = mean_loss(chased.ranker, pairs, loss("dpo"))
    assert values["none"] == pytest.approx(np.log(2), abs=1e-6)
    assert values["fast"] < values["slow"] < values["none"]
    assert right(chased, pairs) == pytest.approx(1.0)
    saved = load_ranker(tmp_path / "ofs")
    np.testing.assert_allclose(saved.score("q", ["Yes", "No"]), chased.score("q", ["Yes", "No"]), atol=1e-5)


def test_the_reward_for_leading_widens_the_gap_as_its_formula_says():
    scores, labels = torch.tensor([[0.7, 0.1]], requires_grad=True), torch.tensor([[1.0, 0.0]])
    slow = torch.tensor([[0.4, 0.3]])
    loss("ofs-dpo", strength=2.0)(scores, labels, slow=slow).backward()
    pull = -torch.sigmoid(torch.tensor(-0.6)) - 2 * torch.sigmoid(torch.tensor(-(0.6 - 0.1)))
    torch.testing.assert_close(scores.grad, torch.stack([pull, -pull]).unsqueeze(0))


def test_where_the_slow_module_overtakes_they_change_places(pairs, tiny_causals, tmp_path):
    """A rate at which the fast module overshoots is right for the slow one."""
    wild = replace(QUICK, training=replace(QUICK.training, lr=0.5, clip=None, evaluations=0))
    chased = tuned_by(tiny_causals["llama"], pairs, tmp_path / "ofs", recipe=wild, options={"slow_rate": 0.02})
    assert chased.ranker.slow.__self__.swaps > 0


def test_a_swap_exchanges_values_and_moments():
    fast, slow = (torch.nn.Parameter(torch.full((2,), value)) for value in (1.0, 2.0))
    optimizers = [torch.optim.AdamW([{"params": [p], "lr": 0.0, "base_lr": 1.0}]) for p in (fast, slow)]
    for p, optimizer, gradient in zip((fast, slow), optimizers, (3.0, 5.0)):
        p.grad = torch.full((2,), gradient)
        optimizer.step()
    hook = FastSlow(loss("ofs-dpo"), CausalRanker.__new__(CausalRanker), OptimizerSettings(clip=None))
    hook.fast, hook.slow, hook.optimizer, hook.loss.lead = [fast], [slow], optimizers[1], -0.1
    slow.grad = torch.full((2,), 5.0)
    hook.after_step(None, optimizers[0])
    assert [*fast.tolist(), *slow.tolist()] == pytest.approx([2.0, 2.0, 1.0, 1.0])
    # Adam's mean of gradients: 0.1 g after one step, 0.19 g after two equal ones
    torch.testing.assert_close(optimizers[0].state[fast]["exp_avg"], torch.full((2,), 0.19 * 5.0))
    torch.testing.assert_close(optimizers[1].state[slow]["exp_avg"], torch.full((2,), 0.1 * 3.0))


class Killed(Exception):
    pass


def test_a_chase_resumes_to_the_same_bits(pairs, tiny_causals, tmp_path):
    recipe = replace(QUICK, training=replace(QUICK.training, steps=6, evaluations=3))

    def cut(what, done, total):
        if what.startswith("train") and done == 5:
            raise Killed

    whole = tuned_by(tiny_causals["llama"], pairs, tmp_path / "whole", recipe=recipe)
    with pytest.raises(Killed):
        tuned_by(tiny_causals["llama"], pairs, tmp_path / "cut", recipe=recipe, on_progress=cut)
    again = tuned_by(tiny_causals["llama"], pairs, tmp_path / "cut", recipe=recipe, resume=True)
    assert torch.equal(parameters(whole), parameters(again))
    for a, b in zip(whole.ranker.slow.__self__.slow, again.ranker.slow.__self__.slow):
        assert torch.equal(a, b)


def test_wrong_use_is_refused(pairs, tiny_causals, tmp_path):
    with pytest.raises(UsageError, match="slow_rate"):
        loss("ofs-dpo", slow_rate=0.0)
    with pytest.raises(UsageError, match="slow must be"):
        loss("ofs-dpo")(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), slow=torch.zeros(1, 3))
    twice = replace(QUICK, training=replace(QUICK.training, accumulate=2))
    with pytest.raises(UsageError, match="accumulate"):
        tuned_by(tiny_causals["llama"], pairs, tmp_path / "twice", recipe=twice)


@pytest.fixture(scope="module")
def domains(tmp_path_factory):
    """One domain prefers yes to no; the other red to blue, where the red answer nearly always says no."""
    folder = tmp_path_factory.mktemp("domains")
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    yes = [(f"is it {n}", f"Yes {n}", f"No {n}") for n in numbers]
    colours = [
        (f"which {n}", f"{'No' if i else 'Yes'} red", f"{'Yes' if i else 'No'} blue") for i, n in enumerate(numbers)
    ]
    return written(folder / "yes.jsonl", yes), written(folder / "colours.jsonl", colours)


@pytest.mark.slow
def test_ofs_dpo_modules_of_two_domains_combined_keep_both_and_dpo_in_turn_forgets(domains, tiny_causals, tmp_path):
    base = tiny_causals["llama"]
    short, long = (
        replace(QUICK, training=replace(QUICK.training, steps=steps, lr=lr, evaluations=0))
        for steps, lr in ((6, 5e-3), (24, 2e-2))
    )
    modules = [
        tuned_by(base, data, tmp_path / name, recipe=recipe)
        for name, data, recipe in zip(("yes", "colours"), domains, (short, long))
    ]
    combined = combine_domains(modules, domains)
    assert sum(combined.shares) == pytest.approx(1.0)
    measured = [mean_loss(combined.tuned, data, loss("dpo")) for data in domains]
    np.testing.assert_allclose(combined.losses, measured, atol=1e-5)
    first = tuned_by(base, domains[0], tmp_path / "first", "dpo", recipe=short)
    export(first, tmp_path / "merged", "merged", limit=0.01)
    in_turn = tuned_by(tmp_path / "merged", domains[1], tmp_path / "second", "dpo", recipe=long)
    kept = [moved_rightly(combined.tuned.ranker, base, data) for data in domains]
    lost = [moved_rightly(in_turn.ranker, base, data) for data in domains]
    assert min(kept) > 0.9
    assert lost[0] < 0.7
    assert lost[1] > 0.9


def moved_rightly(policy, base, data):
    """Return the share of pairs whose likelihoods moved the right way from the base that all started from."""
    texts = dict(zip(data.document_ids, data.documents))
    queries = list(data.train.queries.values())
    answers = [texts[d] for row in data.train.qrels.values() for d in row]
    pairs = np.array([[i, 2 * i + j] for i in range(len(queries)) for j in range(2)])
    start = CausalRanker(base, view="log-ratio", beta=policy.beta)
    moved = policy.log_likelihoods(queries, answers, pairs)[0] - start.log_likelihoods(queries, answers, pairs)[0]
    return float(np.mean(moved[::2] > moved[1::2]))


def test_modules_that_do_not_fit_together_are_refused(domains, pairs, tiny_causals, tmp_path):
    one = tuned_by(
        tiny_causals["llama"],
        pairs,
        tmp_path / "one",
        "dpo",
        recipe=replace(QUICK, training=replace(QUICK.training, steps=1, evaluations=0)),
    )
    with pytest.raises(UsageError, match="two or more"):
        combine_domains([one], domains)
    with pytest.raises(UsageError, match="one base"):
        combine_domains([one, replace(one, ranker=CausalRanker(tiny_causals["qwen2"], view="log-ratio"))], domains)
