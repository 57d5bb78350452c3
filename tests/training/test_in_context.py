"""rewards-in-context through the loop: a tiny policy writes for the rewards that its prompt asks for."""

import json
import random

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from lorank.catalogue import METHODS
from lorank.data.rows import read_rows
from lorank.errors import UsageError
from lorank.ranking.losses import loss
from lorank.ranking.preferences.rewards_in_context import condition_prompt
from lorank.ranking.scorers import CausalRanker
from lorank.training import AdapterSettings, OptimizerSettings, Recipe
from lorank.training.methods.rewards_in_context import OnlineSettings, condition_on_rewards
from tiny_causals import SIZES, causal_tokenizer

EARLY, LATE = "abAB", "yzYZ"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model whose logits are far enough apart that a small adapter can change its mind."""
    folder = tmp_path_factory.mktemp("in_context")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(
            LlamaConfig(**{**SIZES, "hidden_size": 64, "intermediate_size": 192, "initializer_range": 0.2})
        )
    model.save_pretrained(folder)
    causal_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows():
    """Replies of two letters, early or late in the alphabet, small or capital, whatever the prompt."""
    draw = random.Random(0)
    return [(f"{i % 3}", "".join(draw.choices(EARLY + LATE, k=2))) for i in range(200)]


def early(prompt, replies):
    return [sum(letter in EARLY for letter in reply) / max(len(reply), 1) for reply in replies]


def capital(prompt, replies):
    return [sum(letter.isupper() for letter in reply) / max(len(reply), 1) for reply in replies]


def recipe(steps):
    return Recipe(
        adapter=AdapterSettings("lora", rank=8),
        training=OptimizerSettings(steps=steps, batch_size=16, lr=1e-2, evaluations=1, precision="fp32"),
    )


@pytest.mark.slow
def test_rewards_in_context_of_a_single_reward_rise_with_what_is_asked_for(base, rows, tmp_path):
    assert METHODS["rewards-in-context"].area == "losses.preference"
    online = OnlineSettings(stages=1, draws=48, max_tokens=2)
    policy = condition_on_rewards(base, rows, [early], tmp_path / "run", recipe=recipe(60), online=online)
    earned = [np.mean(early("0", policy.replies_for("0", [target], 60, max_tokens=2))) for target in (-1.4, 0.0, 1.4)]
    assert earned[0] + 0.1 < earned[1] < earned[2] - 0.1
    best = np.mean(early("0", policy.replies("0", [1.0], 60, max_tokens=2)))
    assert best > earned[1] + 0.1  # the only reward there is is asked for at its highest
    # the online stage learns replies near the front under the rewards that they have, and a half of the offline rows
    lines = [json.loads(line) for line in (tmp_path / "run" / "stage-1" / "rows.jsonl").read_text().splitlines()]
    kept, again = lines[: policy.kept[0]], lines[policy.kept[0] :]
    assert 0 < len(kept) <= 48
    assert len(again) == 100
    highest = policy.scale.standardise(np.array([[1.0]]))[0, 0]
    for line in kept:
        prompt, reply = line["query"][0], line["docs"][0]
        own = policy.scale.standardise(np.array(early(prompt, [reply])))
        assert line["query"] == condition_prompt(prompt, own)
        assert own[0] >= highest - online.slack


@pytest.mark.slow
def test_rewards_in_context_trace_a_front_as_preference_moves(base, rows, tmp_path):
    policy = condition_on_rewards(
        base, rows, [early, capital], tmp_path / "run", recipe=recipe(150), online=OnlineSettings(stages=0)
    )
    assert policy.kept == ()
    replies = [policy.replies("0", weights, 60, max_tokens=2) for weights in ([1, 0], [1, 1], [0, 1])]
    first, second = ([np.mean(reward("0", each)) for each in replies] for reward in (early, capital))
    assert first[0] > first[1] + 0.1 > first[2] + 0.2
    assert second[0] + 0.2 < second[1] + 0.1 < second[2]


def test_sft_descends_the_likelihood_of_single_replies(tmp_path, tiny_causals):
    """Its gradient is that of the negative log-likelihood, which the reference does not change."""
    ranker = CausalRanker(tiny_causals["llama"], view="log-ratio", beta=0.5)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "a", "docs": ["Yes"], "labels": [1]}\n')
    assert read_rows(path).train.qrels == {"q1": {"d1": 1}}
    inputs = ranker.prepare(["a"], ["Yes"])
    grid, mask = torch.tensor([[0]]), torch.tensor([[True]])
    scores = ranker.forward(inputs, torch.tensor([0]), grid, mask)
    loss("sft")(scores, torch.ones(1, 1), mask, outside=torch.tensor([False])).backward()
    weight = ranker.module.get_output_embeddings().weight
    found, weight.grad = weight.grad.clone(), None
    spans = ranker.spans(inputs, np.array([[0, 0]]))
    (-ranker.read(inputs, spans).sum()).backward()
    torch.testing.assert_close(found, weight.grad)


def test_wrong_use_is_refused(base, rows, tmp_path):
    for given, rewards, online in (([], [early], {}), (rows, [], {}), (rows, [early], {"rehearsed": 2.0})):
        with pytest.raises(UsageError, match="give rows"):
            condition_on_rewards(base, given, rewards, tmp_path / "run", online=OnlineSettings(**online))
