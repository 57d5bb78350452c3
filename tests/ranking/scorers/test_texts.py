"""Texts at the edges, for every ranker of texts: read, or refused in words with their position."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.scorers import BM25, BiEncoder, BothWays, CausalRanker, CrossEncoder, PyramidEncoder, ReplyRanker
from lorank.ranking.scorers.texts import checked_texts, replace_surrogates

HALF = "half an emoji \ud83d, or the other half \ude00"
EDGES = [HALF, "nul \0 inside", "", " ", "\ufeffa byte order mark", "e\u0301\u200d", "\U0001f600", "a" * 100_000]


def bm25() -> BM25:
    return BM25.index(["1", "2"], ["how to sort a list", "the words of a list, and of lists, are sorted"])


MADE = {
    "bm25": lambda folders: bm25(),
    "both ways": lambda folders: BothWays(bm25()),
    "bi-encoder": lambda folders: BiEncoder(folders["bert"]),
    "cross-encoder": lambda folders: CrossEncoder(folders["roberta"], head="random"),
    "pyramid": lambda folders: PyramidEncoder(folders["bert"], head="random", summary=16),
    "causal": lambda folders: CausalRanker(folders["llama"], view="head", head="random", max_length=400),
}


@pytest.fixture(scope="module", params=list(MADE))
def ranker(request, tiny_folders, tiny_causals):
    return MADE[request.param](tiny_folders | tiny_causals)


def test_one_string_is_not_read_as_a_list_of_letters(ranker):
    pairs = np.array([[0, 0]])
    for refused in (
        lambda: ranker.score("q", "abc"),
        lambda: ranker.rank("q", "abc"),
        lambda: ranker.score("q", b"abc"),
        lambda: ranker.score_pairs(["q"], "abc", pairs),
        lambda: ranker.score_pairs("q", ["abc"], pairs),
    ):
        with pytest.raises(UsageError, match="give a list of strings"):
            refused()


def test_what_is_no_text_is_refused_by_its_position(ranker):
    for documents, said in ((["a", "b", 3], "document 2 is of type int"), (["a", None], "document 1 is of type None")):
        with pytest.raises(UsageError, match=said):
            ranker.score("q", documents)
    with pytest.raises(UsageError, match="document 4 is of type bytes"):
        ranker.score_pairs(["q"], ["a", "b", "c", "d", b"e"], np.array([[0, 1], [0, 4]]))
    for query in (["q"], None, 3):
        with pytest.raises(UsageError, match="the query is of type"):
            ranker.score(query, ["a"])
    with pytest.raises(UsageError, match="no positions"):
        ranker.score("q", {"a", "b"})


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([[0, 2]], "pair 0 asks for document 2; there are 2"),
        ([[0, 1], [0, -1]], "pair 1 asks for document -1"),
        ([[1, 0]], "asks for query 1"),
        ([[0.0, 1.0]], "whole numbers"),
        ([0, 1], "whole numbers"),
    ],
)
def test_pairs_that_do_not_exist_are_refused(ranker, pairs, said):
    with pytest.raises(UsageError, match=said):
        ranker.score_pairs(["q"], ["a", "b"], np.array(pairs))


def test_texts_at_the_edges_are_read(ranker):
    scores = ranker.score("how to sort \ud83d a list", EDGES)
    assert scores.shape == (len(EDGES),)
    assert np.isfinite(scores).all()
    same = ranker.score("how to sort \ufffd a list", [replace_surrogates(text) for text in EDGES])
    np.testing.assert_allclose(scores, same, rtol=1e-5, atol=1e-6)
    assert [each.text for each in ranker.rank("", EDGES)]


def test_any_sequence_of_texts_is_a_list_of_documents(ranker):
    texts = ["sort a list", "the moon", "words"]
    expected = ranker.score("sort", texts)
    for documents in (tuple(texts), np.array(texts), iter(texts), np.array(texts, object)):
        np.testing.assert_allclose(ranker.score("sort", documents), expected, rtol=1e-5, atol=1e-6)
    assert [each.index for each in ranker.rank("sort", iter(texts))] == [
        each.index for each in ranker.rank("sort", texts)
    ]


def test_replies_are_checked_as_texts(tiny_causals):
    ranker = ReplyRanker(tiny_causals["llama"])
    assert np.isfinite(ranker.score("which \ud83d", ["A", "B"])).all()
    with pytest.raises(UsageError, match="give a list of strings"):
        ranker.score("q", "AB")
    with pytest.raises(UsageError, match="reply 0 is of type int"):
        ranker.score("q", [1])


def test_a_bi_encoder_encodes_lists_only(tiny_folders):
    ranker = BiEncoder(tiny_folders["bert"])
    with pytest.raises(UsageError, match="give a list of strings"):
        ranker.encode("abc")
    assert np.isfinite(ranker.encode([HALF])).all()


def test_halves_that_belong_together_are_one_character():
    assert checked_texts([HALF, "\ud83d\ude00", "plain"]) == [
        "half an emoji \ufffd, or the other half \ufffd",
        "\U0001f600",
        "plain",
    ]


def test_inputs_for_training_read_half_an_emoji(tiny_folders):
    ranker = CrossEncoder(tiny_folders["bert"])
    broken, whole = (
        ranker.prepare([HALF], [HALF, "a"]),
        ranker.prepare([replace_surrogates(HALF)], [replace_surrogates(HALF), "a"]),
    )
    assert np.array_equal(broken.queries.ids, whole.queries.ids)
    assert np.array_equal(broken.documents.ids, whole.documents.ids)
    with pytest.raises(UsageError, match="document 1 is of type"):
        ranker.prepare(["q"], ["a", 2])


def test_the_command_line_prints_half_an_emoji(tmp_path, tiny_folders):
    """`lorank rank` writes UTF-8, in which half a character cannot be written."""
    from lorank.tuned.ranker import TunedRanker

    TunedRanker(CrossEncoder(tiny_folders["bert"], head="random")).save(tmp_path / "run")
    (tmp_path / "texts.jsonl").write_text('"half \\ud83d"\n{"text": "whole"}\n')
    command = [
        sys.executable,
        "-c",
        "from lorank.cli import main; main()",
        "rank",
        "--ranker",
        str(tmp_path / "run"),
        "--query",
        "q",
    ]
    done = subprocess.run(
        [*command, "--documents", str(tmp_path / "texts.jsonl")], capture_output=True, encoding="utf-8", check=True
    )
    assert {json.loads(line)["text"] for line in done.stdout.splitlines()} == {"half \ufffd", "whole"}
