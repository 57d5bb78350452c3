"""alora-activated shows: prefix K and V are the base's to the bit, reuse changes nothing, saved prefill is counted."""

import copy

import peft
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from lorank import lowrank
from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.lowrank.folder import contents_of
from lorank.serving.adapters.package import Package
from lorank.serving.forward.activated import (
    Activated,
    ActivatedModel,
    invocation_start,
    keys_and_values,
    read_activated,
)
from lorank.serving.requests.engine import UnknownAdapter

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
MODELS = {"llama": (LlamaForCausalLM, LlamaConfig), "qwen2": (Qwen2ForCausalLM, Qwen2Config)}
INVOCATION = [7, 8]
PROMPT = [3, 4, 5, 6, 9, 10, 11, 12, *INVOCATION, 13]


@pytest.fixture(params=MODELS)
def model(request):
    kind, config = MODELS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = kind(config(**SIZES)).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.dim() == 2:
                    parameter += 0.2 * torch.randn(parameter.shape)
    return made


def adapter(model, seed, form="lora", folder=None):
    """An adapter of its own values, as a package."""
    made = lowrank.attach(copy.deepcopy(model), form, rank=3, targets=["q_proj", "k_proj", "v_proj"], seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return Activated(Package(contents_of(made), folder or "memory"), tuple(INVOCATION)), made


def test_alora_activated_is_registered():
    assert METHODS["alora-activated"].area == "adapters.serve"


def test_before_the_invocation_keys_and_values_are_the_bases_to_the_bit(model):
    own, _ = adapter(model, 1)
    activated = ActivatedModel(model, {"a": own})
    start = invocation_start(PROMPT, INVOCATION)
    opened = activated.open("a")
    with torch.inference_mode():
        base = keys_and_values(model(input_ids=torch.tensor([PROMPT]), use_cache=True).past_key_values)
        mixed = keys_and_values(
            activated.run([(activated._base, start), (opened, len(PROMPT) - start)], PROMPT).past_key_values
        )
    for (keys, values), (own_keys, own_values) in zip(base, mixed):
        assert torch.equal(keys[:, :, :start], own_keys[:, :, :start])
        assert torch.equal(values[:, :, :start], own_values[:, :, :start])
        assert not torch.equal(keys[:, :, start:], own_keys[:, :, start:])


@pytest.mark.parametrize("form", ["lora", "dora"])
def test_reuse_equals_no_reuse_and_saved_prefill_is_counted(model, form):
    adapters = {name: adapter(model, seed, form)[0] for seed, name in enumerate("abc")}
    activated = ActivatedModel(model, adapters)
    start = invocation_start(PROMPT, INVOCATION)
    plain = {name: activated.logits(PROMPT, name, reuse=False) for name in adapters}
    assert activated.usage.computed == 3 * len(PROMPT)
    assert activated.usage.saved == 0
    for name in adapters:
        torch.testing.assert_close(activated.logits(PROMPT, name), plain[name], rtol=1e-5, atol=1e-5)
    assert activated.usage.saved == 2 * start
    assert activated.usage.computed == 3 * len(PROMPT) + start + 3 * (len(PROMPT) - start)
    assert (plain["a"] - plain["b"]).abs().max() > 1e-2


def test_peft_gives_the_same_logits_for_its_own_folder(model, tmp_path):
    config = peft.LoraConfig(
        r=3,
        lora_alpha=6,
        target_modules=["q_proj", "k_proj", "v_proj"],
        task_type="CAUSAL_LM",
        alora_invocation_tokens=INVOCATION,
        init_lora_weights=False,
    )
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    theirs.save_pretrained(tmp_path)
    activated = ActivatedModel(model, {"a": read_activated(tmp_path)})
    without = [token for token in PROMPT if token not in INVOCATION]
    for prompt in (PROMPT, [*INVOCATION, 5], without):
        with torch.inference_mode():
            expected = theirs(input_ids=torch.tensor([prompt])).logits[0, -1]
        for reuse in (False, True):
            torch.testing.assert_close(activated.logits(prompt, "a", reuse=reuse), expected, rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        base = model(input_ids=torch.tensor([without])).logits[0, -1]
    torch.testing.assert_close(activated.logits(without, "a"), base, rtol=1e-5, atol=1e-5)


def test_prefixes_and_adapters_share_one_budget(model):
    adapters = {name: adapter(model, seed)[0] for seed, name in enumerate("ab")}
    activated = ActivatedModel(model, adapters, memory=24_000)
    for token in range(20, 40):
        prompt = [token, *PROMPT]
        for name in (*adapters, None):
            torch.testing.assert_close(
                activated.logits(prompt, name), activated.logits(prompt, name, reuse=False), rtol=1e-5, atol=1e-5
            )
            assert activated.pool.used_bytes <= 24_000
    assert activated.lru.counts.evictions > 0
    assert activated.usage.saved > 0
    tiny = ActivatedModel(model, adapters, memory=8_200)
    torch.testing.assert_close(tiny.logits(PROMPT, "a"), activated.logits(PROMPT, "a"), rtol=1e-5, atol=1e-5)


def test_an_activated_judge_answers_through_its_adapter(model, tiny_folders):
    from transformers import AutoTokenizer

    from lorank.ranking.judges.question import Question
    from lorank.serving.forward.activated import ActivatedJudge

    tokenizer = AutoTokenizer.from_pretrained(tiny_folders["bert"])
    model.resize_token_embeddings(len(tokenizer))
    activated = ActivatedModel(model, {name: adapter(model, seed)[0] for seed, name in enumerate("ab")})
    judges = [ActivatedJudge(activated, name, tokenizer) for name in "ab"]
    for judge in judges:
        judge.candidates = lambda question: ([5, 6], [1.0, 0.0])
    question = Question("pointwise", (0,))
    answers = [next(iter(judge.answer("a query", ["the moon"], [question]))) for judge in judges]
    ids = judges[0].encode(judges[0].prompt("a query", ["the moon"], question))
    assert ids[-2:] == INVOCATION
    for name, answer in zip("ab", answers):
        row = activated.logits(ids, name, reuse=False)
        assert answer.value == pytest.approx((row[5] - row[6]).item(), rel=1e-4)
    assert activated.usage.saved > 0


def test_what_is_no_activated_adapter_is_refused(model, tmp_path):
    own, made = adapter(model, 1)
    made.save(tmp_path)
    with pytest.raises(UsageError, match="alora_invocation_tokens"):
        read_activated(tmp_path)
    with pytest.raises(UnknownAdapter, match="'b'"):
        ActivatedModel(model, {"a": own}).logits(PROMPT, "b")
