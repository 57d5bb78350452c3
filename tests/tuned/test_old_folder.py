"""A folder that lorank 0.1 saved loads, and scores as PEFT and the mix's formula say."""

from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from sentence_transformers import SentenceTransformer

import lorank
from lorank.ranking.scorers.pretrained import resolve
from lorank.tuned import FirstStage, TunedRanker

FOLDER = Path(__file__).parent / "folder_of_0_1"
QUERY, DOCUMENTS = "how to sort a list", ["order the list: step by step", "remove a tree", "duplicate the mapping"]


@pytest.fixture(scope="module")
def tuned() -> TunedRanker:
    return lorank.load_ranker(FOLDER)


def test_the_learned_score_is_that_of_peft(tuned):
    model = SentenceTransformer(str(resolve("minilm")), device="cpu")
    model.max_seq_length = 32
    model[0].auto_model = peft.PeftModel.from_pretrained(model[0].auto_model, FOLDER / "adapter")
    with torch.no_grad():
        query, *documents = model.encode([QUERY, *DOCUMENTS], normalize_embeddings=True)
    np.testing.assert_allclose(
        tuned.learned.score(QUERY, DOCUMENTS), np.stack(documents) @ query / 0.05, rtol=1e-4, atol=1e-4
    )


def test_the_score_is_the_mix_of_first_stage_and_learned(tuned):
    first = FirstStage.load(FOLDER / "first_stage").score_pairs(
        [QUERY], DOCUMENTS, np.array([[0, i] for i in range(3)])
    )
    expected = tuned.mix.first_stage * first + tuned.mix.factor * tuned.learned.score(QUERY, DOCUMENTS)
    np.testing.assert_allclose(tuned.score(QUERY, DOCUMENTS), expected, rtol=1e-4)
    assert tuned.mix.weight == pytest.approx(2.0)
    assert tuned.gain == []


def test_scoring_leaves_the_update_merged_and_saving_takes_it_out(tuned, tmp_path):
    tuned.score(QUERY, DOCUMENTS)
    assert tuned.adapter.merged
    before = tuned.score(QUERY, DOCUMENTS)
    tuned.save(tmp_path / "again")
    assert not tuned.adapter.merged
    again = lorank.load_ranker(tmp_path / "again")
    np.testing.assert_allclose(again.score(QUERY, DOCUMENTS), before, rtol=1e-5, atol=1e-5)
