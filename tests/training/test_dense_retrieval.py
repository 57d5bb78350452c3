"""Dense retrieval ranks a whole collection by the scores that the ranker gives, however it reads documents."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorank.data.collection import Collection, Split
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.training.lists.retrieval import dense_run
from lorank.tuned.first_stage import Component, FirstStage

TEXTS = ["moon earth\n" + "list query sun words " * 8, "sun\nwords", "no title but a sun " * 9, "moon list", ""]
QUERIES = {"q": "sun words", "r": "moon"}


def collection() -> Collection:
    split = Split("test", QUERIES, {"q": {"d0": 1}, "r": {"d1": 1}})
    return Collection("texts", [f"d{i}" for i in range(len(TEXTS))], TEXTS, {"test": split})


@pytest.mark.parametrize("long", ["truncate", "first", "max", "mean", "titled"])
def test_the_run_is_the_rankers_own_order(long: Any, tiny_folders: dict[str, Path]) -> None:
    ranker = BiEncoder(tiny_folders["bert"], max_length=16, long=long)
    run = dense_run(ranker, collection(), QUERIES, 4)
    for query, text in QUERIES.items():
        scores = ranker.score(text, TEXTS) * ranker.temperature
        expected = dict(zip([f"d{i}" for i in range(len(TEXTS))], scores.tolist(), strict=True))
        assert len(run[query]) == 4
        assert run[query] == pytest.approx({document: expected[document] for document in run[query]}, abs=1e-4)
        assert min(run[query].values()) >= max(v for k, v in expected.items() if k not in run[query]) - 1e-4


def test_a_first_stage_reads_as_the_run_that_it_stands_for(tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    ranker = BiEncoder(tiny_folders["bert"], max_length=16, long="titled", title_weight=0.25)
    components = (Component("bi-encoder"),)
    made = FirstStage(
        "fusion", components, BM25Statistics.of(TEXTS), str(tiny_folders["bert"]), reading=ranker.options()
    )
    made.save(tmp_path / "first")
    pairs = np.array([[0, i] for i in range(len(TEXTS))])
    found = FirstStage.load(tmp_path / "first").score_pairs(["sun words"], TEXTS, pairs)
    assert found == pytest.approx(ranker.score("sun words", TEXTS), abs=1e-3)
