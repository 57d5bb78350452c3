"""Bases: where they come from, which are refused, and how what is missing starts."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.ranking.scorers.pretrained import load_pretrained, longest_input, resolve

NEW = {
    "bert": {"classifier.weight", "classifier.bias"},
    "roberta": {
        "classifier.dense.weight",
        "classifier.dense.bias",
        "classifier.out_proj.weight",
        "classifier.out_proj.bias",
    },
    "deberta-v2": {"pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias"},
    "modernbert": {"head.dense.weight", "head.norm.weight", "classifier.weight", "classifier.bias"},
}


def rewritten(folder, tmp_path, model_class, **options):
    """A checkpoint of another class, made from the tiny folder's config and tokenizer."""
    config = AutoConfig.from_pretrained(folder)
    for name, value in options.items():
        setattr(config, name, value)
    model_class.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NEW)
def test_new_parameters_are_found(name, tiny_folders):
    ranker = CrossEncoder(tiny_folders[name])
    assert {n for n, _ in ranker.head_parameters()} == NEW[name]
    assert all(p is ranker.module.get_parameter(n) for n, p in ranker.head_parameters())


@pytest.mark.parametrize("name", NEW)
def test_scores_of_a_new_head_start_at_exactly_zero(name, tiny_folders, query, documents):
    assert (CrossEncoder(tiny_folders[name]).score(query, documents) == 0.0).all()


@pytest.mark.parametrize("name", NEW)
def test_what_is_new_depends_on_the_seed_alone(name, tiny_folders):
    def drawn(seed, head="random"):
        return torch.cat(
            [p.flatten() for _, p in CrossEncoder(tiny_folders[name], seed=seed, head=head).head_parameters()]
        )

    state = torch.random.get_rng_state()
    first = drawn(1)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(3)
    assert torch.equal(first, drawn(1))
    assert not torch.equal(first, drawn(2))
    weights = [p for n, p in CrossEncoder(tiny_folders[name], head="random").head_parameters() if p.dim() == 2]
    assert all(0.01 < float(w.detach().std()) < 0.03 for w in weights)


def test_what_the_checkpoint_brought_is_left_alone(tiny_folders):
    module = CrossEncoder(tiny_folders["deberta-v2"], seed=9, head="random").module
    for name, tensor in load_file(tiny_folders["deberta-v2"] / "model.safetensors").items():
        assert torch.equal(module.get_parameter(f"deberta.{name}"), tensor), name


def test_a_masked_language_model_is_a_base(tiny_folders, tmp_path, query, documents):
    folder = rewritten(tiny_folders["bert"], tmp_path, AutoModelForMaskedLM)
    assert (CrossEncoder(folder).score(query, documents) == 0).all()
    assert BiEncoder(folder).encode(documents).shape == (len(documents), 32)


def test_causal_language_models_are_refused(tmp_path):
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    model.save_pretrained(tmp_path)
    for kind in (BiEncoder, CrossEncoder):
        with pytest.raises(UsageError, match=r"causal language model \(LlamaForCausalLM\).*--kind causal"):
            kind(tmp_path)


def test_a_head_of_another_task_is_refused(tiny_folders, tmp_path):
    folder = rewritten(tiny_folders["bert"], tmp_path, AutoModelForTokenClassification)
    with pytest.raises(UsageError, match="holds a BertForTokenClassification"):
        CrossEncoder(folder)


def test_a_cross_encoder_is_not_opened_as_a_bi_encoder(tiny_folders, tmp_path):
    CrossEncoder(tiny_folders["bert"]).save(tmp_path)
    with pytest.raises(UsageError, match="holds a BertForSequenceClassification.*open it as a cross-encoder"):
        BiEncoder(tmp_path)


def test_a_classifier_of_three_labels_is_refused(tiny_folders, tmp_path):
    folder = rewritten(tiny_folders["bert"], tmp_path, AutoModelForSequenceClassification, num_labels=3)
    with pytest.raises(UsageError, match="classifies into 3 labels"):
        CrossEncoder(folder)


def test_a_checkpoint_without_its_encoder_is_refused(tiny_folders, tmp_path):
    CrossEncoder(tiny_folders["bert"]).save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    lost = "bert.encoder.layer.1.output.dense.weight"
    save_file({n: t for n, t in tensors.items() if n != lost}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=re.escape(f"lacks 1 weights of its encoder, such as {lost!r}")):
        CrossEncoder(tmp_path)


def test_a_saved_head_that_got_lost_is_no_silent_new_start(tiny_folders, tmp_path):
    CrossEncoder(tiny_folders["bert"]).save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(
        {n: t for n, t in tensors.items() if "classifier" not in n}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(Exception, match="lacks weights, such as classifier.weight|not whole"):
        CrossEncoder.load(tmp_path)


def test_places_that_hold_no_model(tmp_path):
    with pytest.raises(UsageError, match="folder without config.json"):
        BiEncoder(tmp_path)
    with pytest.raises(UsageError, match="no model folder at"):
        BiEncoder(tmp_path / "nowhere")


def test_an_unreachable_hub_name_says_what_to_do():
    with pytest.raises(UsageError, match="cannot open the model 'lorank-tests/none'.*hf download"):
        BiEncoder("lorank-tests/none")


def test_minilm_is_the_package_or_the_hub_name(minilm, monkeypatch):
    assert resolve("minilm") == minilm
    assert minilm.endswith("model")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert resolve("minilm") == "sentence-transformers/all-MiniLM-L6-v2"


def test_longest_input_heeds_robertas_offset(tiny_folders):
    for name, most in {"bert": 80, "roberta": 78, "deberta-v2": 80, "modernbert": 80}.items():
        loaded = load_pretrained(tiny_folders[name], "encoder")
        assert longest_input(loaded.tokenizer, loaded.module.config) == most
    with pytest.raises(UsageError, match="max_length=90 must be from 8 to 80"):
        CrossEncoder(tiny_folders["bert"], max_length=90)


def test_modules_that_we_do_not_apply_are_refused(tiny_folders, tmp_path):
    BiEncoder(tiny_folders["bert"]).save(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_CNN", "type": "sentence_transformers.models.CNN"})
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UsageError, match="has a CNN module"):
        BiEncoder(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "middle"},
        {"similarity": "l2"},
        {"temperature": 0.0},
        {"dtype": "float16"},
        {"long": "middle"},
        {"overlap": 60},
    ],
)
def test_options_that_cannot_work_are_refused(options, tiny_folders):
    with pytest.raises(UsageError, match=next(iter(options))):
        BiEncoder(tiny_folders["bert"], **options)


def test_saving_refuses_what_the_folder_cannot_restore(tiny_folders, tmp_path):
    ranker = CrossEncoder(tiny_folders["bert"], head="random")
    inner = ranker.module.bert.encoder.layer[0].output

    class Wrapped(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base

        def forward(self, x):
            return 1.5 * self.base(x)

    inner.dense = Wrapped(inner.dense)
    with pytest.raises(Exception, match="merge|merging"):
        ranker.save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "lorank.json").exists()
    assert np.isfinite(ranker.score("q", ["d"])).all()
