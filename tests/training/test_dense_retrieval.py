"""Dense retrieval ranks a whole collection by the scores that the ranker gives, however it reads documents."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorank.data.collection import Collection, Split
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.ranking.scorers.text_ranker import TextRanker
from lorank.training.lists.retrieval import dense_run
from lorank.training.open_recipe import open_recipe_base
from lorank.training.recipe import RecipeFile
from lorank.tuned.first_stage import Component, FirstStage
from lorank.tuned.reading import ReadingSettings

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


@pytest.mark.parametrize(
    ("kind", "titles", "stated", "expected"),
    [
        ("bi-encoder", True, None, "titled"),
        ("bi-encoder", False, None, "truncate"),
        ("bi-encoder", True, "truncate", "truncate"),
        ("bi-encoder", True, "mean", "mean"),
        ("cross-encoder", True, None, "truncate"),
    ],
)
def test_documents_with_titles_are_read_as_titled_passages_where_nothing_else_is_said(
    kind: str, titles: bool, stated: Any, expected: str, tiny_folders: dict[str, Path]
) -> None:
    texts = collection()
    data = replace(texts, titles=[text.split("\n")[0] for text in TEXTS] if titles else None)
    plan = RecipeFile(base=str(tiny_folders["bert"]), kind=kind, reading=ReadingSettings(long=stated))
    ranker = open_recipe_base(plan, data)
    assert isinstance(ranker, TextRanker)
    assert ranker.long == expected
