"""The model card: front matter that the Hub's own reader takes, and the numbers that dev gave."""

import json
from dataclasses import replace

from huggingface_hub import ModelCard

from lorank.ranking.scorers import BiEncoder
from lorank.training import fit
from lorank.training.settings import ListSettings, OptimizerSettings, Recipe


def test_the_hubs_reader_takes_the_card_and_its_numbers_are_those_of_the_run(texts, tiny_folders, tmp_path):
    training = OptimizerSettings(steps=1, batch_size=4, lr=1e-3, evaluations=1, precision="fp32")
    recipe = replace(Recipe(), training=training, lists=ListSettings(negatives=2))
    tuned = fit(BiEncoder(str(tiny_folders["bert"])), texts, "lora", rank=2, out=tmp_path / "first", recipe=recipe)
    card = ModelCard.load(tmp_path / "first" / "model" / "README.md")
    assert card.data.pipeline_tag == "text-ranking"
    assert card.data.library_name == "lorank"
    assert card.data.base_model == str(tiny_folders["bert"])
    assert "lora" in card.data.tags
    best = max(value for _, value in tuned.mix.curve)
    assert card.data.eval_results[0].metric_value == round(best, 4)
    curve = json.loads((tmp_path / "first" / "run.json").read_text())["mix"]["dev_curve"]
    assert f"{max(value for _, value in curve):.4f}" in card.text
    assert f"first stage alone {dict(map(tuple, curve))[0.0]:.4f}" in card.text
