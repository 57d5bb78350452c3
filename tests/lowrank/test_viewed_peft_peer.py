"""PEFT as the peer on embeddings and convolutions: it loads our folders, we load its, and the outputs agree."""

import json

import numpy as np
import peft
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import DataError, UsageError


class Reader(nn.Module):
    """A table, a convolution along the text, one in the plane, one in groups, and a linear layer."""

    def __init__(self, dilation=1):
        super().__init__()
        self.words = nn.Embedding(20, 8, padding_idx=0)
        self.along = nn.Conv1d(8, 6, 3, padding=dilation, dilation=dilation)
        self.plane = nn.Conv2d(1, 4, (3, 3), stride=(2, 1), padding=1)
        self.groups = nn.Conv2d(4, 6, 3, groups=2, padding=1)
        self.out = nn.Linear(6, 1)

    def forward(self, ids):
        h = torch.tanh(self.along(self.words(ids).transpose(1, 2)))
        h = torch.tanh(self.groups(torch.tanh(self.plane(h.unsqueeze(1)))))
        return self.out(h.mean((2, 3))).squeeze(-1)


IDS = torch.randint(0, 20, (5, 7), generator=torch.Generator().manual_seed(0))
NAMES = ["words", "along", "plane", "groups", "out"]


def make(**keywords):
    model = Reader(**keywords)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model.eval()


def scores(model):
    with torch.no_grad():
        return model(IDS).numpy()


@pytest.mark.parametrize("method", ["lora", "dora", "rslora", "pissa", "lora-fa"])
@pytest.mark.parametrize("own", [True, False], ids=["adapter.save", "peft alone"])
def test_peft_computes_with_our_folder_as_we_do_and_we_open_it_again(method, own, shake, tmp_path):
    if method == "dora":
        names = ["words", "along", "plane", "out"]  # PEFT's norm of a kernel in groups is another one
    else:
        names = NAMES
    model = make()
    base = scores(model)
    adapter = lowrank.attach(model, method, rank=2, targets=names, seed=2)
    shake(adapter, size=0.3)
    model.eval()
    if own:
        adapter.save(tmp_path / "adapter", probe=lambda model: model(IDS))
    else:
        adapter.export(tmp_path / "adapter", "peft", probe=lambda model: model(IDS))
        (tmp_path / "adapter" / "lorank.json").unlink()
    assert np.ptp(scores(model) - base) > 1e-2
    peer = peft.PeftModel.from_pretrained(make(), tmp_path / "adapter").eval()
    np.testing.assert_allclose(scores(peer), scores(model), atol=2e-6)
    again = make()
    lowrank.load(again, tmp_path / "adapter")
    np.testing.assert_allclose(scores(again.eval()), scores(model), atol=2e-6)


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}, {"rank_pattern": {"words": 3}}])
def test_we_compute_with_pefts_folder_as_it_does(options, tmp_path):
    names = ["words", "along", "plane", "out"]
    theirs = peft.get_peft_model(make(), peft.LoraConfig(r=4, lora_alpha=6, target_modules=names, **options))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    theirs.eval().save_pretrained(tmp_path / "adapter")
    ours = make()
    adapter = lowrank.load(ours, tmp_path / "adapter")
    assert sorted(adapter.layers) == sorted(names)
    np.testing.assert_allclose(scores(ours.eval()), scores(theirs), atol=2e-6)
    adapter.merge()
    np.testing.assert_allclose(scores(ours), scores(theirs), atol=2e-6)


def test_what_peft_trains_on_a_convolution_in_groups_is_refused_by_name(tmp_path):
    with pytest.warns(UserWarning, match="groups > 1"):
        theirs = peft.get_peft_model(make(), peft.LoraConfig(r=4, target_modules=["groups"], init_lora_weights=False))
    theirs.save_pretrained(tmp_path / "adapter")
    with pytest.raises(DataError, match=r"layer groups: .*channels of all"):
        lowrank.load(make(), tmp_path / "adapter")


def test_what_peft_cannot_compute_is_saved_for_lorank_and_refused_as_peft_by_name(shake, tmp_path):
    model = make(dilation=2)
    adapter = lowrank.attach(model, "lora", targets=["along", "out"], rank=2)
    shake(adapter)
    for format in ("peft", "portable"):
        with pytest.raises(UsageError, match=r"layer along: PEFT leaves out the dilation"):
            adapter.export(tmp_path / format, format)
    adapter.save(tmp_path / "own", probe=lambda model: model(IDS))
    assert not (tmp_path / "own" / "adapter_config.json").exists()
    again = make(dilation=2)
    lowrank.load(again, tmp_path / "own")
    np.testing.assert_allclose(scores(again), scores(model), rtol=1e-5, atol=5e-6)


def test_a_dora_on_groups_is_saved_for_lorank_and_refused_as_peft_by_name(shake, tmp_path):
    model = make()
    adapter = lowrank.attach(model, "dora", targets=["groups"], rank=2)
    shake(adapter)
    with pytest.raises(UsageError, match="layer groups: PEFT computes the norms"):
        adapter.export(tmp_path / "peft", "peft")
    adapter.save(tmp_path / "own", probe=lambda model: model(IDS))
    assert not (tmp_path / "own" / "adapter_config.json").exists()


def test_portable_takes_tables_and_kernels_and_refuses_groups_by_name(shake, tmp_path):
    model = make()
    adapter = lowrank.attach(model, "hydra", rank=2, targets=["words", "plane", "out"])
    shake(adapter)
    adapter.export(tmp_path / "portable", "portable", rank=8, probe=lambda model: model(IDS), limit=1e-4)
    peer = peft.PeftModel.from_pretrained(make(), tmp_path / "portable").eval()
    np.testing.assert_allclose(scores(peer), scores(model.eval()), atol=1e-4)
    other = make()
    adapter = lowrank.attach(other, "lora", rank=2, targets=["groups"])
    with pytest.raises(UsageError, match="rank of their own"):
        adapter.export(tmp_path / "groups", "portable")


def test_the_weights_that_peft_writes_beside_an_adapted_table_must_be_the_models(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    def llama(seed=0):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=20,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=True,
        )
        return LlamaForCausalLM(config).eval()

    def logits(model):
        with torch.no_grad():
            return model(input_ids=IDS).logits.numpy()

    theirs = peft.get_peft_model(
        llama(), peft.LoraConfig(r=2, target_modules=["embed_tokens", "q_proj"], init_lora_weights=False)
    )
    theirs.eval().save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    ours = llama()
    lowrank.load(ours, tmp_path / "adapter")
    np.testing.assert_allclose(logits(ours.eval()), logits(theirs), atol=1e-5)
    with pytest.raises(DataError, match=r"embed_tokens\.weight .* the model does not have"):
        lowrank.load(llama(seed=5), tmp_path / "adapter")


def test_a_merged_model_with_a_tied_table_opens_with_the_same_outputs(shake, tmp_path):
    from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=16)).eval()
    adapter = lowrank.attach(model, "lora", rank=2, targets=["wte", "c_attn"])
    shake(adapter)
    with torch.no_grad():
        before = model(input_ids=IDS).logits
    adapter.export(tmp_path / "merged", "merged", probe=lambda model: model(input_ids=IDS).logits.flatten())
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert again.lm_head.weight is not again.transformer.wte.weight
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=IDS).logits, before, atol=1e-4, rtol=1e-4)


def test_the_configuration_names_ranks_and_layers(shake, tmp_path):
    model = make()
    adapter = lowrank.attach(model, "lora", rank=2, alpha=3.0, targets=NAMES)
    shake(adapter)
    adapter.save(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 3)
    assert (config["rank_pattern"], config["alpha_pattern"]) == ({"groups": 4}, {"groups": 6})
    assert "fan_in_fan_out" not in config
