"""clarify-question-ranking: a trained ranker asks for the facet that lacks, and the answer raises recall."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import lorank
from lorank.cli.app import app
from lorank.data import read_beir, read_run, write_beir
from lorank.ranking.clarification import INVENTORY, choose_questions, extended
from lorank.ranking.routing import query_features
from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.ranking.scorers.features import FeatureLists, feature_model
from lorank.ranking.scorers.features.text_features import text_features
from planted_clarifications import FACETS, QUESTIONS, searched_collection, write_judged, write_word_encoder


def command(*words: Any, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*map(str, words)])
    assert (done.exit_code == 0) == (code == 0), (done.output, done.exception)
    return done.stdout if not code else str(done.exception) + done.output


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_judged(tmp_path / "judged.jsonl", 0, 30)
    (tmp_path / "questions.txt").write_text("\n".join(QUESTIONS) + "\n")
    write_beir(searched_collection(0)[0], tmp_path / "data")
    return tmp_path


def test_rows_become_a_collection_whose_documents_are_the_questions(place: Path) -> None:
    command("clarify", "collect", place / "judged.jsonl", "--out", place / "made")
    made = read_beir(place / "made")
    assert set(made.documents) <= set(QUESTIONS)
    assert [len(made.split(name).queries) for name in ("train", "dev", "test")] == [18, 6, 6]
    rows = [json.loads(line) for line in (place / "judged.jsonl").read_text().splitlines()]
    valid = {row["query"]: row["valid"] for row in rows}
    for split in made.splits.values():
        for name, query in split.queries.items():
            assert [made.documents[made.position[d]] for d in split.qrels[name]] == valid[query]


def test_questions_are_asked_answers_appended_and_the_rest_stays(place: Path) -> None:
    line = ["--ranker", "bm25", "--data", place / "data", "--questions", place / "questions.txt"]
    said = command("clarify", "ask", *line, "--out", place / "asked.jsonl")
    rows = [json.loads(line) for line in said.splitlines()]
    assert (place / "asked.jsonl").read_text() == said
    assert {row["question"] for row in rows} <= set(QUESTIONS)
    rows[0]["answer"] = "new words"
    (place / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command("clarify", "answer", place / "asked.jsonl", "--data", place / "data", "--out", place / "new")
    old, new = (read_beir(place / name).split("test") for name in ("data", "new"))
    assert new.queries[rows[0]["query_id"]] == old.queries[rows[0]["query_id"]] + " new words"
    assert {q: t for q, t in new.queries.items() if q != rows[0]["query_id"]} == {
        q: t for q, t in old.queries.items() if q != rows[0]["query_id"]
    }
    assert new.qrels == old.qrels


def test_a_query_alone_is_met_with_a_question_of_the_inventory() -> None:
    row = json.loads(command("clarify", "ask", "--ranker", "bm25", "--query", "which version of the library"))
    assert row["question"] in INVENTORY
    assert row["answer"] is None


def test_equal_scores_take_the_earlier_question_and_others_stand_in_the_order_of_scores() -> None:
    class Known:
        def score(self, query: str, documents: Any) -> np.ndarray:
            return np.array([1.0, 3.0, 3.0, 2.0], np.float32)

    found = choose_questions(Known(), ["q"], ["a", "b", "c", "d"])[0]
    assert (found.question, found.order) == ("b", ("b", "c", "d", "a"))


@pytest.mark.parametrize(
    ("query", "answer", "expected"),
    [("a b", "", "a b"), ("a b", "B c C", "a b c"), ("open file ", "c++ v1.2", "open file c++ v1.2")],
)
def test_a_query_takes_the_terms_that_it_lacks(query: str, answer: str, expected: str) -> None:
    assert extended(query, answer).split() == expected.split()


def test_wrong_use_is_refused(place: Path) -> None:
    assert "--data for a collection" in command("clarify", "ask", "--ranker", "bm25", code=1)
    (place / "few.jsonl").write_text('{"query": "a", "valid": ["b"]}\n')
    assert "the fewest to split" in command("clarify", "collect", place / "few.jsonl", "--out", place / "x", code=1)
    (place / "bad.jsonl").write_text('{"query": "a", "valid": []}\n' * 6)
    assert "lacks a query" in command("clarify", "collect", place / "bad.jsonl", "--out", place / "x", code=1)
    (place / "twice.txt").write_text("a\nb\na\n")
    line = ["clarify", "ask", "--ranker", "bm25", "--query", "a", "--questions", place / "twice.txt"]
    assert "twice.txt:3" in command(*line, code=1)
    (place / "a.jsonl").write_text('{"query_id": "nobody", "answer": "x"}\n')
    line = ["clarify", "answer", place / "a.jsonl", "--data", place / "data", "--out", place / "y"]
    assert "no query 'nobody'" in command(*line, code=1)


def test_bad_rows_are_left_out_of_what_is_collected_and_answered(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (place / "judged.jsonl").open("a") as file:
        file.write('{"query": "a"}\n' * 2)
    assert "--skip-bad" in command("clarify", "collect", place / "judged.jsonl", "--out", place / "made", code=1)
    command("clarify", "collect", place / "judged.jsonl", "--out", place / "made", "--skip-bad")
    assert len((place / "made.skipped.jsonl").read_text().splitlines()) == 2
    with (place / "data" / "queries.jsonl").open("a") as file:
        file.write("[1]\n" * 2)
    (place / "a.jsonl").write_text('{"query_id": "q0", "answer": "x"}\n')
    line = ["clarify", "answer", place / "a.jsonl", "--data", place / "data", "--out", place / "new"]
    assert "--skip-bad" in command(*line, code=1)
    command(*line, "--skip-bad")
    assert (place / "new.skipped.jsonl").is_file()


def features_right(data: Any, queries: list[str], lacking: list[int]) -> float:
    """How often a network over features of query and question, which learned from the same judgments, asks validly."""
    statistics = BM25Statistics.of([*QUESTIONS, *data.train.queries.values()])

    def rows_of(asked: list[str]) -> np.ndarray:
        pairs = np.stack([np.repeat(np.arange(len(asked)), 6), np.tile(np.arange(6), len(asked))], 1)
        features = text_features(statistics, asked, QUESTIONS, pairs)
        own = query_features(asked, statistics).repeat(6, 0)
        return np.concatenate([features, own, np.tile(np.eye(6), (len(asked), 1))], 1).astype(np.float32)

    place = {text: i for i, text in enumerate(QUESTIONS)}
    labels = np.zeros((len(data.train), 6), np.float32)
    for number, query in enumerate(data.train.queries):
        for name in data.train.qrels[query]:
            labels[number, place[data.documents[data.position[name]]]] = 1
    rows = rows_of(list(data.train.queries.values()))
    model = feature_model("mlp").fit(FeatureLists(rows, labels.reshape(-1), np.arange(len(labels) + 1) * 6))
    test = FeatureLists(rows_of(queries), np.zeros(6 * len(queries), np.float32), np.arange(len(queries) + 1) * 6)
    return float(np.mean(model.score_lists(test).reshape(-1, 6).argmax(1) == lacking))


@pytest.mark.slow
def test_clarify_question_ranking_asks_validly_beats_features_and_raises_recall(place: Path) -> None:
    valid, baseline, gains = [], [], []
    for seed in range(3):
        write_judged(place / f"{seed}.jsonl", seed)
        folder, out = place / f"questions{seed}", place / f"run{seed}"
        command("clarify", "collect", place / f"{seed}.jsonl", "--out", folder, "--seed", seed)
        base = write_word_encoder(place / f"base{seed}", seed)
        line = ["--base", base, "--kind", "bi-encoder", "--adapter", "full", "--epochs", 40, "--lr", 3e-3]
        command("train", "--data", folder, *line, "--seed", seed, "--out", out)
        data, answers, lacking = searched_collection(100 + seed)
        write_beir(data, place / f"data{seed}")
        asked = place / f"asked{seed}.jsonl"
        line = ["--data", place / f"data{seed}", "--questions", place / "questions.txt", "--out", asked]
        rows = list(map(json.loads, command("clarify", "ask", "--ranker", out, *line).splitlines()))
        right = {row["query_id"]: row["question"] == QUESTIONS[lacking[row["query_id"]]] for row in rows}
        valid.append(np.mean(list(right.values())))
        baseline.append(features_right(read_beir(folder), [row["query"] for row in rows], list(lacking.values())))
        for row in rows:  # who is asked for a facet that the query has, or that does not matter, has no more to say
            row["answer"] = answers[row["query_id"]] if right[row["query_id"]] else None
        asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
        clarified = place / f"clarified{seed}"
        command("clarify", "answer", asked, "--data", place / f"data{seed}", "--out", clarified)
        recall = []
        for collection in (place / f"data{seed}", clarified):
            command("retrieve", "--data", collection, "--out", place / "a.run")
            run = {"run": read_run(place / "a.run")}
            recall.append(lorank.evaluate(run, data.test.qrels, measures=["R@1"], resamples=10).systems["run"].mean)
        gains.append(recall[1]["R@1"] - recall[0]["R@1"])
    assert len(FACETS) == 6
    assert min(valid) >= 0.8
    assert np.mean(valid) > np.mean(baseline) + 0.2
    assert min(gains) > 0.2
