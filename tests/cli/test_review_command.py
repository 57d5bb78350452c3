"""litllms: reranked recall beats the order of the search, and a score whose quotation is made up is void."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import lorank
from chat_server import serve_chat
from lorank.cli.app import app
from lorank.data import read_run, write_beir
from lorank.data.collection import Collection, Split
from lorank.ranking.attributed import Attributed, as_run, extract_keywords, is_quoted, read_reply, rerank_attributed

TOPICS = 6
METHODS = [f"method{letter}" for letter in "abcdef"]
ALIASES = [f"technique{letter}" for letter in "abcdef"]


def fixture(seed: int) -> Collection:
    """Abstracts that name a method by an alias among common words; papers name it by its name, and others talk more."""
    rng = np.random.default_rng(seed)
    common = [f"common{letter}" for letter in "abcdefghij"]
    documents, relevant = [], {}
    for topic in range(TOPICS):
        for number in range(8):
            if number < 4:
                relevant.setdefault(topic, []).append(len(documents))
                documents.append(" ".join(["we study", METHODS[topic], "for ranking", *rng.choice(common, 3)]))
            else:
                documents.append(" ".join(["we survey", METHODS[topic], "never", *rng.choice(common, 9)]))
    ids = [f"p{i}" for i in range(len(documents))]
    queries = {f"q{t}": " ".join([*rng.choice(common, 6), "about", ALIASES[t]]) for t in range(TOPICS)}
    qrels = {f"q{t}": {ids[i]: 1 for i in relevant[t]} for t in range(TOPICS)}
    return Collection("papers", ids, documents, {"test": Split("test", queries, qrels)})


def reply(prompt: str) -> str:
    """What a model says that knows the aliases: keywords, high scores with quotations, and praise that is made up."""
    topic = ALIASES.index(re.search(r"technique[a-f]", prompt).group())  # type: ignore[union-attr]
    if "keywords" in prompt:
        return f"{METHODS[topic]}, ranking"
    passage = re.search(r"Passage: (.*)\n", prompt).group(1)  # type: ignore[union-attr]
    if f"study {METHODS[topic]} for ranking" in passage:
        return f'Score: 80\nEvidence: "We study {METHODS[topic]}, for ranking"'
    if "survey" in passage:
        return f'Score: 99\nEvidence: "we study {METHODS[topic]} for ranking at length"'
    return "I cannot say."


def command(*words: Any, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*map(str, words)])
    assert (done.exit_code == 0) == (code == 0), (done.output, done.exception)
    return done.stdout if not code else str(done.exception) + done.output


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_litllms_raises_recall_over_the_search_and_voids_what_is_not_in_the_document(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = fixture(seed)
    write_beir(data, tmp_path / "data")
    command("retrieve", "--data", tmp_path / "data", "--out", tmp_path / "bm25.run")
    line = ["review", "--data", tmp_path / "data", "--evidence", tmp_path / "why.jsonl"]
    with serve_chat(reply) as judge:
        said = json.loads(command(*line, "--judge", judge, "--out", tmp_path / "review.run"))
        command(*line, "--judge", judge, "--run", tmp_path / "bm25.run", "--out", tmp_path / "again.run")
    runs = {name: read_run(tmp_path / f"{name}.run") for name in ("bm25", "review", "again")}
    found = lorank.evaluate(runs, data.test.qrels, measures=["R@4"], resamples=10).systems
    assert found["review"].mean["R@4"] > found["bm25"].mean["R@4"] + 0.3
    assert found["again"].mean["R@4"] > found["bm25"].mean["R@4"]
    texts = dict(zip(data.document_ids, data.documents, strict=True))
    rows = [json.loads(row) for row in (tmp_path / "why.jsonl").read_text().splitlines()]
    assert said["void"] > 0
    for row in rows:
        assert (row["score"] is not None) == is_quoted(row["evidence"], texts[row["document_id"]])
        assert "survey" not in texts[row["document_id"]] or row["score"] is None


def test_void_scores_go_last_in_the_order_of_the_search() -> None:
    class Planted:
        def complete(self, prompts: Any) -> list[str]:
            known = {
                "alpha": 'Score: 10\nEvidence: "alpha beta gamma"',
                "delta": 'Score: 90\nEvidence: "made up words"',
            }
            return [next((said for word, said in known.items() if word in each), "none") for each in prompts]

    texts = {"a": "delta words", "b": "alpha beta gamma", "c": "other"}
    found = rerank_attributed(Planted(), {"q": "text"}, {"q": {"a": 3.0, "b": 1.0, "c": 2.0}}, texts)
    assert [each.document for each in found["q"]] == ["b", "a", "c"]
    assert found["q"][1] == Attributed("a", None, "made up words")
    run = as_run(found)["q"]
    assert sorted(run, key=lambda d: -run[d]) == ["b", "a", "c"]


def test_keywords_that_the_query_has_are_not_added_again() -> None:
    class Named:
        def complete(self, prompts: Any) -> list[str]:
            return ["Sparse Retrieval, learned sparse retrieval, BM25, more\nand a second line"] * len(prompts)

    found = extract_keywords(Named(), {"q": "sparse retrieval of texts"}, 3)
    assert found == {"q": "sparse retrieval of texts learned sparse retrieval BM25"}


@pytest.mark.parametrize(
    ("evidence", "document", "quoted"),
    [
        ("a b c", "x a b c y", True),
        ("A, b\n c!", "x a b c y", True),
        ("a c b", "x a b c y", False),
        ("a b", "x a b c y", False),
        ("x a b c y z", "x a b c y", False),
        ("", "x", False),
        ("ab cd e", "xab cd ef", False),
    ],
)
def test_a_quotation_stands_in_the_document_word_by_word(evidence: str, document: str, quoted: bool) -> None:
    assert is_quoted(evidence, document) == quoted


def test_replies_are_read_and_scores_out_of_range_are_none() -> None:
    assert read_reply("score = 7.5 evidence: “some words”") == (7.5, "some words")  # exact: as it was written
    assert read_reply('Score: 700\nEvidence: "w"') == (None, "w")


def test_bad_rows_are_left_out_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_beir(fixture(0), tmp_path / "data")
    with (tmp_path / "data" / "queries.jsonl").open("a") as file:
        file.write("[1]\n" * 2)
    with serve_chat(reply) as judge:
        line = ["review", "--data", tmp_path / "data", "--judge", judge, "--out", tmp_path / "a.run", "--depth", 3]
        assert "--skip-bad" in command(*line, code=1)
        assert json.loads(command(*line, "--skip-bad"))["queries"] == TOPICS
    assert len((tmp_path / "a.run.skipped.jsonl").read_text().splitlines()) == 2


def test_a_judge_that_cannot_write_is_refused(tmp_path: Path) -> None:
    line = ["review", "--data", "pydocs", "--out", tmp_path / "a.run", "--judge"]
    assert "which can write" in command(*line, "oracle", code=1)
