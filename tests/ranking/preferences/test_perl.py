"""perl: adapters for the reward and for the policy, the frozen base as the reference of both."""

import json
import random

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from lorank import lowrank
from lorank.catalogue import METHODS
from lorank.data.rows import read_rows
from lorank.errors import UsageError
from lorank.ranking.preferences import tune_policy
from lorank.ranking.scorers import CausalRanker
from lorank.training import AdapterSettings, OptimizerSettings, Recipe, fit
from tiny_causals import SIZES, causal_tokenizer

GOOD, BAD = "abcdefghijklmABCDEFGHIJKLM", "nopqrstuvwxyzNOPQRSTUVWXYZ"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model whose logits are far enough apart that a small adapter can change its mind."""
    folder = tmp_path_factory.mktemp("perl")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(
            LlamaConfig(**{**SIZES, "hidden_size": 64, "intermediate_size": 192, "initializer_range": 0.2})
        )
    model.save_pretrained(folder)
    causal_tokenizer().save_pretrained(folder)
    return folder


def preferences(path):
    draw = random.Random(0)
    path.write_text(
        "".join(
            json.dumps(
                {
                    "query": f"{i}",
                    "chosen": "".join(draw.choices(GOOD, k=2)),
                    "rejected": "".join(draw.choices(BAD, k=2)),
                }
            )
            + "\n"
            for i in range(60)
        )
    )
    return read_rows(path)


def rewarded(base, data, name, out):
    recipe = Recipe(
        adapter=AdapterSettings(name, rank=1, targets=["q_proj", "v_proj"]),
        training=OptimizerSettings(
            steps=32, batch_size=10, lr=2e-2 if name == "lora" else 2e-3, evaluations=1, precision="fp32"
        ),
    )
    return fit(CausalRanker(base, view="head"), data, loss="ranknet", out=out, recipe=recipe)


def test_perl_rewards_by_lora_are_as_accurate_as_by_full_tuning_with_under_one_percent_of_the_weights(base, tmp_path):
    assert METHODS["perl"].area == "losses.preference"
    data = preferences(tmp_path / "pairs.jsonl")
    texts = dict(zip(data.document_ids, data.documents))
    right = {}
    for name in ("lora", "full"):
        tuned = rewarded(base, data, name, tmp_path / name)
        right[name] = np.mean(
            [
                np.subtract(*tuned.score(query, [texts[d] for d in row])) > 0
                for query, row in zip(data.train.queries.values(), data.train.qrels.values())
            ]
        )
    record = json.loads((tmp_path / "lora" / "run.json").read_text())["adapter"]
    assert record["trained_parameters"] < 0.01 * record["total_parameters"]
    assert right["lora"] > 0.9
    assert right["lora"] >= right["full"] - 0.05


def policy_of(base):
    policy = CausalRanker(base, view="log-ratio", beta=1.0)
    adapter = lowrank.attach(policy.module, "lora", rank=4, seed=0)
    policy.reference = adapter.disabled
    return policy, adapter


def liking(prompt, replies):
    """The reward: letters of the first half of the alphabet count for a reply, those of the second against it."""
    return [sum(c in GOOD for c in reply) - sum(c in BAD for c in reply) for reply in replies]


def test_perl_policy_earns_more_and_the_adapter_off_is_the_reference_exactly(base):
    policy, adapter = policy_of(base)
    pairs = np.array([[0, 0], [0, 1]])
    before = policy.log_likelihoods(["q"], ["abc", "xyz"], pairs)[0]
    state = torch.random.get_rng_state()
    curve = tune_policy(
        policy,
        liking,
        ["0", "1"],
        adapter.parameters(),
        steps=40,
        group=24,
        rate=2e-2,
        divergence=0.02,
        max_tokens=3,
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.mean(curve[-5:]) > np.mean(curve[:5]) + 0.5
    assert not np.array_equal(policy.log_likelihoods(["q"], ["abc", "xyz"], pairs)[0], before)
    with policy.reference():
        assert np.array_equal(policy.log_likelihoods(["q"], ["abc", "xyz"], pairs)[0], before)


def test_perl_divergence_holds_the_policy_at_its_reference(base):
    moved = {}
    for divergence in (0.0, 20.0):
        policy, adapter = policy_of(base)
        tune_policy(
            policy,
            liking,
            ["0"],
            adapter.parameters(),
            steps=15,
            group=16,
            rate=1e-2,
            divergence=divergence,
            max_tokens=3,
            generator=torch.Generator().manual_seed(0),
        )
        replies = [a + b for a in GOOD[:6] for b in BAD[:3]]
        moved[divergence] = float(np.abs(policy.score("0", replies)).mean())
    assert moved[20.0] < 0.5 * moved[0.0]


def test_wrong_use_is_refused(base):
    policy, adapter = policy_of(base)
    for options in ({"group": 1}, {"divergence": -1.0}):
        with pytest.raises(UsageError, match="tuning a policy"):
            tune_policy(policy, liking, ["0"], adapter.parameters(), generator=torch.Generator(), **options)
    with pytest.raises(UsageError, match="log-ratio"):
        tune_policy(CausalRanker(base), liking, ["0"], [], generator=torch.Generator())
