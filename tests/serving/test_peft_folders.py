"""Folders that PEFT itself wrote, of sequence classifiers, are served with PEFT's own scores."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from lorank.ranking.scorers import CrossEncoder
from lorank.serving.adapters.store import FolderStore
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.requests.engine import Job, Scored
from tiny_encoders import QUERY

peft = pytest.importorskip("peft")
TEXTS = ["sorting a list", "the moon orbits the earth", "rankers order documents"]


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"query": 2}}])
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_sequence_classifier_of_peft_is_served(architecture, options, tiny_folders, tmp_path):
    base = CrossEncoder(str(tiny_folders[architecture]), head="random", max_length=32)
    base.save(tmp_path / "base")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base").eval()
    config = peft.LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"], **options)
    tuned = peft.get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    tuned.save_pretrained(tmp_path / "store" / "theirs")
    engine = MixedEngine(CrossEncoder(str(tmp_path / "base"), max_length=32), FolderStore(tmp_path / "store"))
    answer = engine.score([Job("theirs", QUERY, TEXTS)])[0]
    assert isinstance(answer, Scored), answer
    tokens = base.tokenizer([QUERY] * len(TEXTS), TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = tuned(**tokens).logits[:, 0].numpy()
    np.testing.assert_allclose(answer.scores, expected, atol=1e-4)
    plain = engine.score([Job(None, QUERY, TEXTS)])[0].scores
    assert np.abs(answer.scores - plain).max() > 1e-3
    engine.close()
