"""New heads and poolers are found from what the checkpoint did not bring."""

import pytest
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from lorank import lowrank


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("bert", ["bert.pooler", "classifier"]),
        ("roberta", ["classifier"]),
        ("deberta-v2", ["pooler", "classifier"]),
        ("modernbert", ["head", "classifier"]),
    ],
)
def test_what_an_encoder_without_head_lacks(architecture, expected, make_scorer):
    model, heads = make_scorer(architecture)
    assert heads == expected
    adapter = lowrank.attach(model, rank=1, trained=heads)
    assert list(adapter.trained) == expected


def test_a_pooler_that_the_checkpoint_brings_is_not_new(tmp_path):
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path)
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1, output_loading_info=True)
    assert lowrank.new_head_modules(model, info["missing_keys"]) == ["classifier"]


def test_nothing_is_new_in_a_trained_scorer(tmp_path, make_scorer):
    model, _ = make_scorer("roberta")
    model.save_pretrained(tmp_path)
    again, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert lowrank.new_head_modules(again, info["missing_keys"]) == []


def test_keys_that_are_no_parameters_are_passed_over(make_scorer):
    model, _ = make_scorer("bert")
    assert lowrank.new_head_modules(model, ["bert.embeddings.position_ids", "classifier.weight"]) == ["classifier"]
