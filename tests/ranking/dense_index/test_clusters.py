"""Approximate search: proposals by lists, scores by the vectors, and an index that changes under its lists."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import read_run
from lorank.errors import DataError, UsageError
from lorank.ranking.dense_index import DenseIndex
from lorank.ranking.dense_index.clusters import FILE, usual_lists
from lorank.ranking.scorers.encoded import EncodedDocuments

pytest.importorskip("faiss", reason="needs the extra lorank[approximate]")

DIMENSION = 16


def planted(topics: int, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around orthogonal topics, and a query near each topic."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))[0][:topics].astype(np.float32)
    near = 0.05 * rng.normal(size=(topics, each, DIMENSION))
    queries = centres + 0.05 * rng.normal(size=centres.shape)
    return (centres[:, None] + near).reshape(-1, DIMENSION).astype(np.float32), queries.astype(np.float32)


def index_of(folder: Path, vectors: np.ndarray, chunk: int = 10_000, long: str = "truncate") -> DenseIndex:
    """An index of documents d0, d1, ... whose texts are their numbers; two parts a document where it is not cut."""
    parts = 1 if long == "truncate" else 2
    index = DenseIndex.create(folder, ranker="hash", name="made", dimension=vectors.shape[1], long=long)

    def encode(texts):
        rows = np.array([int(text) for text in texts])
        own = np.concatenate([vectors[rows * parts + i][:, None] for i in range(parts)], axis=1)
        own = own.reshape(-1, vectors.shape[1])
        return EncodedDocuments(own, np.arange(len(texts)) * parts, np.zeros(len(texts), bool), long)

    count = len(vectors) // parts
    index.add([f"d{i}" for i in range(count)], [str(i) for i in range(count)], encode, chunk=chunk)
    return index


def asked(queries: np.ndarray) -> dict[str, np.ndarray]:
    return {f"q{i}": query for i, query in enumerate(queries)}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_list_of_a_planted_topic_holds_what_exact_search_finds(tmp_path: Path, seed: int) -> None:
    vectors, queries = planted(8, 40, seed)
    index = index_of(tmp_path / "index", vectors)
    index.cluster(8, seed=seed)
    exact, found = index.search(asked(queries), 10), index.search(asked(queries), 10, probes=1)
    share = np.mean([len(exact[q].keys() & found[q].keys()) / 10 for q in exact])
    assert share >= 0.8  # a topic may be cut in two by k-means; chance is 10 of 320


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), lists=st.integers(1, 12), chunk=st.integers(5, 60), depth=st.integers(1, 70))
def test_all_lists_are_exact_search_when_everything_is_asked_for(tmp_path_factory, seed, lists, chunk, depth) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(60, DIMENSION)).astype(np.float32)
    index = index_of(tmp_path_factory.mktemp("index") / "index", vectors, chunk)
    index.cluster(lists, seed=seed)
    queries = asked(rng.normal(size=(3, DIMENSION)).astype(np.float32))
    exact, found = index.search(queries, depth), index.search(queries, depth, probes=lists)
    for query in exact:
        for document, score in found[query].items():  # a score is that of exact search, whatever was proposed
            assert score == pytest.approx(float(vectors[int(document[1:])] @ queries[query]), abs=1e-4)
        assert list(found[query].values()) == sorted(found[query].values(), reverse=True)
        assert len(found[query]) == len(exact[query])
        if depth >= 60:
            assert found[query].keys() == exact[query].keys()


@pytest.mark.parametrize("long", ["max", "mean"])
def test_documents_of_several_parts_are_scored_whole_and_named_once(tmp_path: Path, long: str) -> None:
    vectors = np.random.default_rng(3).normal(size=(80, DIMENSION)).astype(np.float32)
    index = index_of(tmp_path / "index", vectors, long=long)
    index.cluster(4)
    query = np.random.default_rng(4).normal(size=DIMENSION).astype(np.float32)
    found = index.search({"q": query}, 40, probes=4)["q"]
    assert len(found) == 40  # asked again until there are as many documents as were asked for
    joined = np.max if long == "max" else np.mean
    for document, score in found.items():
        number = int(document[1:])
        assert score == pytest.approx(float(joined(vectors[2 * number : 2 * number + 2] @ query)), abs=1e-4)


def test_what_is_deleted_is_not_found_and_what_is_added_is(tmp_path: Path) -> None:
    vectors, queries = planted(4, 50, 0)
    index = index_of(tmp_path / "index", vectors)
    index.cluster(4)
    best = next(iter(index.search(asked(queries[:1]), 1, probes=4)["q0"]))
    index.delete([best])
    again = DenseIndex.open(tmp_path / "index")
    assert best not in again.search(asked(queries[:1]), 200, probes=4)["q0"]
    assert again.clustered() == 199
    itself = EncodedDocuments(queries[:1], np.zeros(1, np.int64), np.zeros(1, bool))
    again.add(["new"], ["new"], lambda texts: itself)
    assert "new" in again.search(asked(queries[:1]), 60, probes=1)["q0"]
    kept = again.search(asked(queries[:1]), 60, only=["new", "d1"], probes=4)["q0"]
    assert set(kept) <= {"new", "d1"}


def test_the_lists_are_the_same_for_the_same_seed_and_go_with_compaction(tmp_path: Path) -> None:
    vectors, queries = planted(8, 30, 1)
    runs = []
    for name in ("one", "other"):
        index = index_of(tmp_path / name, vectors, chunk=100)
        assert len(index.cluster(4, seed=5)) == 3
        runs.append({q: list(row) for q, row in index.search(asked(queries), 10, probes=1).items()})
    assert runs[0] == runs[1]
    index.compact()
    assert index.clustered() == 0
    with pytest.raises(UsageError, match="lorank index cluster"):
        index.search(asked(queries), 10, probes=1)


def test_bad_input_is_refused_with_a_remedy(tmp_path: Path) -> None:
    vectors, queries = planted(4, 20, 2)
    index = index_of(tmp_path / "index", vectors)
    with pytest.raises(UsageError, match="no lists to probe"):
        index.search(asked(queries), 5, probes=2)
    with pytest.raises(UsageError, match="1 or more"):
        index.cluster(0)
    index.cluster()
    with pytest.raises(UsageError, match="probes is 0"):
        index.search(asked(queries), 5, probes=0)
    (path,) = (tmp_path / "index").glob(f"*/{FILE}")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="make them again"):
        DenseIndex.open(tmp_path / "index").search(asked(queries), 5, probes=1)
    index.cluster(2)
    assert index.search(asked(queries), 5, probes=2)


def test_the_usual_number_of_lists_leaves_64_vectors_a_list() -> None:
    for parts in (1, 63, 64, 1000, 10**5, 10**7):
        lists = usual_lists(parts)
        assert 1 <= lists <= max(parts // 64, 1)
        assert lists & (lists - 1) == 0


def command(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == code, (done.output, done.exception)
    return str(done.exception) if code else done.stdout


def test_the_commands_make_lists_and_look_into_them(tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    folder, data = tmp_path / "vectors", tmp_path / "data"
    data.mkdir()
    rows = [{"_id": f"d{i}", "title": "", "text": f"the moon orbits the earth {i} times"} for i in range(40)]
    (data / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "earth 3"}) + "\n")
    (data / "qrels").mkdir()
    (data / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td3\t1\n")
    retrieve = ("retrieve", "--data", data, "--ranker", tiny_folders["bert"], "--vectors", folder)
    command(*retrieve, "--out", tmp_path / "exact.run")
    assert "lorank index cluster" in command(*retrieve, "--probes", 2, "--out", tmp_path / "none.run", code=1)
    command("index", "cluster", folder, "--lists", 4)
    assert json.loads(command("index", "show", folder))["documents in lists"] == 40
    command(*retrieve, "--probes", 4, "--out", tmp_path / "all.run")
    exact, found = read_run(tmp_path / "exact.run"), read_run(tmp_path / "all.run")
    assert found["q"] == pytest.approx(exact["q"], abs=1e-5)
    lines = command("index", "search", folder, "--query", "earth", "--top", 3, "--probes", 1).splitlines()
    assert 1 <= len(lines) <= 3
    said = command("retrieve", "--data", data, "--ranker", "minilm", "--probes", 3, "--out", tmp_path / "x", code=1)
    assert "--vectors" in said
    assert "--documents" in command("index", "build", tmp_path / "empty", "--ranker", tiny_folders["bert"], code=1)
