"""Documents as titled passages: what is read, the score by hand, training, and the way through folder and server."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.ranking.scorers.titled import blend_titles, split_title

LONG = "moon earth\n" + " ".join(["list query", "sun words", "moon list words", "earth"] * 6)
DOCUMENTS = [LONG, "sun\nwords", "no title but words and a sun", "only a title\n", ""]
WEIGHT = 0.35


def ranker_of(folder: Path, **options: object) -> BiEncoder:
    return BiEncoder(folder, **{"max_length": 16, "long": "titled", "overlap": 2, "passage": "best", **options})  # type: ignore[arg-type]


def texts_by_hand(ranker: BiEncoder, text: str) -> tuple[str, list[str]]:
    """Return the title and the titled passages of a text, cut as strings: a token of the tiny model is a word."""
    title, body = split_title(text)
    words, beside = body.split(), ranker.room - len(title.split())
    step = beside - min(ranker.overlap, beside // 2)
    starts = [0] if len(words) <= beside else [*range(0, len(words) - beside, step), len(words) - beside]
    return title, [f"{title} {' '.join(words[start : start + beside])}".strip() for start in starts]


def score_by_hand(ranker: BiEncoder, query: str, text: str) -> float:
    q = ranker.encode([query], query=True)[0]
    title, passages = texts_by_hand(ranker, text)
    best = float((ranker.encode(passages) @ q).max())
    alone = float(ranker.encode([title])[0] @ q)
    return ((best + WEIGHT * alone) / (1 + WEIGHT) if title else best) / ranker.temperature


def test_the_score_is_that_of_titled_passages_and_of_the_title(tiny_folders: dict[str, Path]) -> None:
    ranker = ranker_of(tiny_folders["bert"])
    assert all(len(ranker.tokenizer.tokenize(word)) == 1 for word in LONG.split())
    for query in ("sun words", "moon"):
        found = ranker.score(query, DOCUMENTS[:2])
        assert found == pytest.approx([score_by_hand(ranker, query, text) for text in DOCUMENTS[:2]], abs=1e-3)


def test_texts_without_titles_are_read_as_by_max(tiny_folders: dict[str, Path]) -> None:
    texts = ["sun words " * 20, "moon", "", "only a title\n"]
    plain = BiEncoder(tiny_folders["bert"], max_length=16, long="max", overlap=2)
    assert ranker_of(tiny_folders["bert"]).score("sun", texts) == pytest.approx(plain.score("sun", texts), abs=1e-4)


@pytest.mark.parametrize("passage", ["best", "words"])
def test_training_scores_what_ranking_scores(passage: str, tiny_folders: dict[str, Path]) -> None:
    """The guess by words may take a passage that is not the best, so it is never above what ranks."""
    ranker = ranker_of(tiny_folders["bert"], passage=passage)
    queries = ["sun words", "moon list"]
    inputs = ranker.prepare(queries, DOCUMENTS)
    grid = torch.arange(len(DOCUMENTS)).repeat(2, 1)
    mask = torch.ones_like(grid, dtype=torch.bool)
    mask[1, 3] = False
    trained = ranker.forward(inputs, torch.arange(2), grid, mask)
    ranked = np.stack([ranker.score(query, DOCUMENTS) for query in queries])
    ranked[1, 3] = 0.0
    if passage == "best":
        assert trained.detach().numpy() == pytest.approx(ranked, abs=1e-3)
    else:
        assert (trained.detach().numpy() <= ranked + 1e-3).all()
        assert trained.detach().numpy()[:, 1:] == pytest.approx(ranked[:, 1:], abs=1e-3)
    trained.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in ranker.module.parameters() if p.grad is not None)


def test_the_gradient_is_that_of_the_score_by_hand(tiny_folders: dict[str, Path]) -> None:
    ranker = ranker_of(tiny_folders["bert"])
    weight = next(p for name, p in ranker.module.named_parameters() if name.endswith("query.weight"))
    one = torch.zeros(1, 1, dtype=torch.long)
    ranker.forward(ranker.prepare(["sun words"], [LONG]), one[0], one, one == 0).sum().backward()
    assert weight.grad is not None
    found, weight.grad = weight.grad.clone(), None
    title, passages = texts_by_hand(ranker, LONG)
    table = ranker.tokens(["sun words", title, *passages], "")
    q, alone, *others = ranker.encode_batch(table, np.arange(len(passages) + 2))
    best = torch.stack([passage @ q for passage in others]).max()
    ((best + WEIGHT * (alone @ q)) / (1 + WEIGHT) / ranker.temperature).backward()
    torch.testing.assert_close(found, weight.grad, rtol=1e-2, atol=1e-3 * float(found.abs().max()))


def test_a_saved_ranker_reads_the_same_and_keeps_its_weight(tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    ranker = ranker_of(tiny_folders["bert"], title_weight=0.25)
    ranker.save(tmp_path / "saved")
    opened = BiEncoder.load(tmp_path / "saved")
    assert opened.long == "titled"
    assert opened.options()["title_weight"] == ranker.options()["title_weight"]
    assert opened.score("sun words", DOCUMENTS) == pytest.approx(ranker.score("sun words", DOCUMENTS), abs=1e-4)


def test_a_prefix_stands_before_each_passage(tiny_folders: dict[str, Path]) -> None:
    ranker = ranker_of(tiny_folders["bert"], document_prefix="query ")
    table = ranker.prepare([], [LONG]).documents
    span = ranker.document_spans(table, np.arange(1))
    word = ranker.tokenizer("query", add_special_tokens=False)["input_ids"][0]
    assert [int(table.ids[start]) for start in span.start] == [word] * len(span)
    assert int(span.length.max()) <= ranker.room


def test_passages_have_a_length_of_their_own(tiny_folders: dict[str, Path]) -> None:
    for long in ("max", "mean", "titled"):
        options: dict[str, object] = {"max_length": 40, "long": long, "passage_length": 12}
        ranker = BiEncoder(tiny_folders["bert"], **options)  # type: ignore[arg-type]
        table = ranker.prepare([], [LONG]).documents
        span = ranker.document_spans(table, np.arange(1))
        assert int(span.length.max()) == 12 - ranker.template.single_cost
        assert ranker.overlap == 12 // 8
    with pytest.raises(UsageError, match="passage_length"):
        BiEncoder(tiny_folders["bert"], passage_length=2)
    with pytest.raises(UsageError, match="less than half of the 12 tokens"):
        BiEncoder(tiny_folders["bert"], long="max", passage_length=12, overlap=6)


def test_what_reads_pairs_refuses(tiny_folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="cross-encoder does not read so"):
        CrossEncoder(tiny_folders["bert"], long="titled")
    for weight in (-0.5, float("nan")):
        with pytest.raises(UsageError, match="title_weight"):
            BiEncoder(tiny_folders["bert"], title_weight=weight)


def test_the_order_of_documents_does_not_matter(tiny_folders: dict[str, Path]) -> None:
    ranker = ranker_of(tiny_folders["bert"])
    scores = ranker.score("sun words", DOCUMENTS)
    assert ranker.score("sun words", DOCUMENTS[::-1]) == pytest.approx(scores[::-1], abs=1e-4)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.floats(-1, 1), min_size=2, max_size=5), min_size=1, max_size=4), st.floats(0, 3), st.data())
def test_blending_is_the_formula(values: list[list[float]], weight: float, data: st.DataObject) -> None:
    titled = np.array([data.draw(st.booleans()) for _ in values])
    begins = np.cumsum([0, *map(len, values)])[:-1]
    found = blend_titles(np.concatenate(values), begins, titled, weight)
    expected = [
        (max(row[1:]) + weight * row[0]) / (1 + weight) if has else max(row) for row, has in zip(values, titled)
    ]
    assert found == pytest.approx(np.array(expected), abs=1e-9)
