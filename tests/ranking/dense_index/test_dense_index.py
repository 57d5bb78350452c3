"""The dense index: exact search equals brute force, changes last, and a killed build goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import read_run
from lorank.data.collection import Collection
from lorank.errors import DataError, LorankError, UsageError
from lorank.ranking.dense_index import DenseIndex, fingerprint_encoder, search_blocks
from lorank.ranking.dense_index.changes import only_writer
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.encoded import EncodedDocuments
from lorank.training.lists.retrieval import dense_run
from lorank.tuned.dense_index import open_index

DIMENSION = 8


def made(rng: np.random.Generator, documents: int, long: Any = "truncate") -> EncodedDocuments:
    """Random documents, of one to four parts unless they are cut."""
    counts = np.ones(documents, np.int64) if long == "truncate" else rng.integers(1, 5, documents)
    titled = (rng.random(documents) < 0.5) & (counts > 1) if long == "titled" else np.zeros(documents, bool)
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    vectors = rng.normal(size=(int(counts.sum()), DIMENSION)).astype(np.float32)
    return EncodedDocuments(vectors, begins, titled, long, 0.35)


def brute_force(queries: np.ndarray, documents: EncodedDocuments, depth: int) -> list[list[int]]:
    rows = [documents.similarities(query) for query in queries]
    return [np.argsort(-row, kind="stable")[:depth].tolist() for row in rows]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    depth=st.integers(1, 60),
    block=st.integers(1, 30),
    long=st.sampled_from(["truncate", "max", "mean", "titled"]),
)
def test_search_by_blocks_is_brute_force_whatever_the_blocks(seed, sizes, depth, block, long) -> None:
    rng = np.random.default_rng(seed)
    segments = [made(rng, size, long) for size in sizes]
    queries = rng.normal(size=(3, DIMENSION)).astype(np.float32)
    kept = [rng.random(size) < 0.8 for size in sizes]
    scores = np.stack([np.concatenate([s.similarities(q) for s in segments]) for q in queries])
    alive = np.concatenate(kept)
    for row, (at, found) in zip(scores, search_blocks(queries, segments, depth, kept=kept, block=block), strict=True):
        assert len(at) == min(depth, alive.sum())
        assert alive[at].all()
        assert found == pytest.approx(row[at], abs=1e-4)
        left = np.setdiff1d(np.flatnonzero(alive), at)
        assert (np.diff(found) <= 0).all()
        assert not len(left) or row[left].max() <= found.min() + 1e-4


def test_equal_documents_come_in_the_order_of_their_positions() -> None:
    same = EncodedDocuments(np.ones((50, DIMENSION), np.float32), np.arange(50), np.zeros(50, bool))
    for block in (1, 7, 100):
        ((at, _),) = search_blocks(np.ones((1, DIMENSION), np.float32), [same, same], 20, block=block)
        assert at.tolist() == list(range(20))


def filled(folder: Path, count: int, dtype: str = "float32") -> tuple[DenseIndex, dict[str, np.ndarray]]:
    """An index of ``count`` documents whose texts are their ids, in changes of seven, and the vector of each."""
    index = DenseIndex.create(folder, ranker="hash", name="made", dimension=DIMENSION, dtype=dtype)
    ids = [f"d{i}" for i in range(count)]
    index.add(ids, ids, encode, chunk=7)
    return index, {name: encode([name]).vectors[0] for name in ids}


def encode(texts: Any) -> EncodedDocuments:
    rows = [np.random.default_rng(list(text.encode())).normal(size=DIMENSION) for text in texts]
    return EncodedDocuments(np.asarray(rows, np.float32), np.arange(len(rows)), np.zeros(len(rows), bool))


def check(index: DenseIndex, vectors: dict[str, np.ndarray], tolerance: float = 1e-4) -> None:
    """Compare the index, and the one that a new process would open, with a plain table."""
    query = np.random.default_rng(5).normal(size=DIMENSION).astype(np.float32)
    for each in (index, DenseIndex.open(index.folder)):
        assert sorted(each.ids) == sorted(vectors)
        found = each.search({"q": query}, 5)["q"]
        best = sorted(vectors, key=lambda name: -float(vectors[name] @ query))[:5]
        assert list(found) == best
        assert list(found.values()) == pytest.approx([float(vectors[name] @ query) for name in best], abs=tolerance)


def test_documents_are_added_replaced_deleted_and_compacted(tmp_path: Path) -> None:
    index, vectors = filled(tmp_path / "index", 40)
    assert len(index.segments) == 6
    check(index, vectors)
    assert index.add(["d3", "d4", "new"], ["changed", "d4", "new"], encode) == 2
    vectors |= {"d3": encode(["changed"]).vectors[0], "new": encode(["new"]).vectors[0]}
    check(index, vectors)
    assert index.delete(["d3", "d10", "nobody", "d10"]) == 2
    del vectors["d3"], vectors["d10"]
    check(index, vectors)
    index.delete([f"d{i}" for i in range(7, 14)])
    for i in range(7, 14):
        vectors.pop(f"d{i}", None)
    check(index, vectors)
    size = sum(path.stat().st_size for path in (tmp_path / "index").rglob("vectors.npy"))
    index.compact()
    check(index, vectors)
    assert len(index.segments) == 1
    assert sum(path.stat().st_size for path in (tmp_path / "index").rglob("vectors.npy")) < size
    assert index.add(["d3"], ["d3"], encode) == 1
    check(index, vectors | {"d3": encode(["d3"]).vectors[0]})
    assert index.search({"q": np.ones(DIMENSION)}, 3, only=["d0"])["q"].keys() == {"d0"}
    assert index.search({}, 3) == {}


def test_everything_can_be_deleted_and_added_again(tmp_path: Path) -> None:
    index, vectors = filled(tmp_path / "index", 9)
    index.delete(list(vectors))
    index.compact()
    assert index.search({"q": np.ones(DIMENSION)}, 3) == {"q": {}}
    index.add(list(vectors), list(vectors), encode)
    check(index, vectors)


def test_half_precision_takes_half_the_room_and_finds_nearly_the_same(tmp_path: Path) -> None:
    index, vectors = filled(tmp_path / "index", 30, "float16")
    check(index, vectors, 0.05)
    assert index.segments[0].documents.vectors.dtype == np.float16


def test_two_open_indexes_of_a_folder_do_not_undo_each_other(tmp_path: Path) -> None:
    index, vectors = filled(tmp_path / "index", 10)
    other = DenseIndex.open(tmp_path / "index")
    other.add(["x"], ["x"], encode)
    index.add(["y"], ["y"], encode)
    check(index, vectors | {name: encode([name]).vectors[0] for name in "xy"})
    with only_writer(tmp_path / "index"), pytest.raises(LorankError, match="another process writes"):
        index.delete(["x"])


@pytest.mark.parametrize("long", ["truncate", "max"])
def test_the_mean_vector_of_a_document_is_that_of_its_parts_wherever_it_lies(tmp_path: Path, long: str) -> None:
    documents = made(np.random.default_rng(0), 12, long)
    index = DenseIndex.create(tmp_path / "index", ranker="hash", name="made", dimension=DIMENSION, long=long)
    ids = [f"d{i}" for i in range(12)]
    index.add(ids, ids, lambda texts: documents.of(np.array([int(text[1:]) for text in texts])), chunk=5)
    asked = ["d11", "d0", "d7"]
    expected = [documents.of(np.array([int(name[1:])])).vectors.mean(0) for name in asked]
    np.testing.assert_allclose(index.mean_vectors(asked), expected, rtol=1e-5)
    with pytest.raises(UsageError, match="lacks 1 of 2"):
        index.mean_vectors(["d1", "x"])


def test_bad_input_is_refused_by_name(tmp_path: Path) -> None:
    index, _ = filled(tmp_path / "index", 10)
    for what, message in [
        (lambda: index.add(["a", "a"], ["1", "2"], encode), "each id once"),
        (lambda: index.search({"q": np.ones(DIMENSION)}, 0), "at least one"),
        (lambda: DenseIndex.create(tmp_path / "index", ranker="", name="", dimension=1), "holds something"),
        (lambda: DenseIndex.create(tmp_path / "x", ranker="", name="", dimension=1, dtype="int4"), "float16"),
        (lambda: DenseIndex.open(tmp_path), "no dense index"),
        (lambda: index.check_ranker("other", "runs/other"), "another ranker"),
    ]:
        with pytest.raises((UsageError, DataError), match=message):
            what()
    (tmp_path / "index" / index.segments[0].name / "begins.npy").write_bytes(b"")
    with pytest.raises(DataError, match="build the index again"):
        DenseIndex.open(tmp_path / "index")
    (tmp_path / "index" / "index.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        DenseIndex.open(tmp_path / "index")


def test_the_fingerprint_changes_with_weights_and_reading_and_nothing_else(tiny_folders: dict[str, Path]) -> None:
    first = BiEncoder(tiny_folders["bert"], max_length=16)
    again = BiEncoder(tiny_folders["bert"], max_length=16, temperature=1.0)
    assert fingerprint_encoder(first) == fingerprint_encoder(again)
    assert fingerprint_encoder(BiEncoder(tiny_folders["bert"], max_length=17)) != fingerprint_encoder(first)
    next(iter(again.module.parameters())).data.view(-1)[7] += 1e-3
    assert fingerprint_encoder(first) != fingerprint_encoder(again)


def corpus(path: Path, count: int) -> Path:
    rows = [
        {"_id": f"d{i}", "title": f"sun {i}", "text": f"the moon orbits the earth {i % 7} times"} for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(*words: Any, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout if not code else str(done.exception)


@pytest.mark.slow
def test_a_build_that_is_killed_goes_on_where_it_was(tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    source, folder = corpus(tmp_path / "corpus.jsonl", 1500), tmp_path / "vectors"
    line = ["index", "build", folder, "--documents", source, "--ranker", tiny_folders["bert"], "--chunk", 25]
    build = [sys.executable, "-c", "from lorank.cli import main; main()", *map(str, line)]
    process = subprocess.Popen(build, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    for _ in range(6000):
        about = folder / "index.json"
        done = json.loads(about.read_text())["generation"] if about.exists() else 0
        if done >= 3 or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = DenseIndex.open(folder)
    assert 0 < len(begun) < 1500
    kept = {name: np.array(begun.segments[0].documents.vectors[i]) for i, name in enumerate(begun.segments[0].ids)}
    encoded = int(
        subprocess.run(build, capture_output=True, text=True, check=True).stderr.split(" documents enc")[0].split()[-1]
    )
    assert encoded <= 1500 - len(begun)
    whole = DenseIndex.open(folder)
    assert len(whole) == 1500
    assert len(whole.segments) == 1
    for i, name in enumerate(whole.segments[0].ids[: len(kept)]):
        assert np.array_equal(whole.segments[0].documents.vectors[i], kept[name])  # exact: why: copied, never computed


def test_the_commands_build_change_search_and_refuse_another_ranker(tmp_path, tiny_folders, texts: Collection) -> None:
    folder, ranker = tmp_path / "vectors", tiny_folders["bert"]
    source = corpus(tmp_path / "corpus.jsonl", 30)
    command("index", "build", folder, "--documents", source, "--ranker", ranker, "--max-length", 24)
    found = [json.loads(row) for row in command("index", "search", folder, "--query", "moon", "--top", 3).splitlines()]
    encoder = BiEncoder(ranker, max_length=24)
    documents = [f"sun {i}\nthe moon orbits the earth {i % 7} times" for i in range(30)]
    scores = encoder.score("moon", documents) * encoder.temperature
    assert [each["score"] for each in found] == pytest.approx(sorted(scores.tolist(), reverse=True)[:3], abs=0.02)
    command("index", "delete", folder, "--id", "d3", "--id", "d4")
    more = tmp_path / "more.jsonl"
    more.write_text('{"_id": "e", "text": "the sun"}\n{"_id": "d5", "text": "another text"}\n')
    command("index", "add", folder, "--documents", more)
    facts = json.loads(command("index", "show", folder))
    assert (facts["documents"], facts["deleted"], facts["segments"]) == (29, 3, 2)
    command("index", "compact", folder)
    assert json.loads(command("index", "show", folder))["deleted"] == 0
    command("index", "build", folder, "--documents", source)
    assert sorted(DenseIndex.open(folder).ids) == sorted(f"d{i}" for i in range(30))
    said = command("index", "add", folder, "--documents", more, "--ranker", tiny_folders["roberta"], code=1)
    assert "another ranker" in said
    assert "--data" in command("index", "build", folder, code=1)
    (tmp_path / "bad.jsonl").write_text('{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n')
    assert "bad.jsonl:2" in command("index", "add", folder, "--documents", tmp_path / "bad.jsonl", code=1)


@pytest.mark.parametrize("fusion", [False, True])
def test_retrieve_by_an_index_is_retrieve_without_one_and_encodes_once(
    fusion: bool, tmp_path: Path, tiny_folders: dict[str, Path], texts: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorank.data import write_beir

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_beir(texts, tmp_path / "beir")
    line = ["retrieve", "--data", tmp_path / "beir", "--ranker", tiny_folders["bert"], "--depth", 10]
    line += ["--fusion"] if fusion else []
    command(*line, "--out", tmp_path / "plain.run")
    command(*line, "--out", tmp_path / "first.run", "--vectors", tmp_path / "vectors")
    changed = DenseIndex.open(tmp_path / "vectors").description.generation
    command(*line, "--out", tmp_path / "second.run", "--vectors", tmp_path / "vectors")
    assert DenseIndex.open(tmp_path / "vectors").description.generation == changed
    plain, first, second = (read_run(tmp_path / f"{name}.run") for name in ("plain", "first", "second"))
    for query, row in plain.items():
        for found in (first, second):
            assert sorted(found[query].values()) == pytest.approx(sorted(row.values()), abs=0.05)
    assert "--vectors" in command(
        "retrieve", "--data", tmp_path / "beir", "--out", tmp_path / "x", "--vectors", "v", code=1
    )


def test_an_index_of_titled_passages_gives_the_rankers_run(tmp_path: Path, tiny_folders, texts: Collection) -> None:
    encoder = BiEncoder(tiny_folders["bert"], max_length=16, long="titled", title_weight=0.25)
    index = open_index(tmp_path / "vectors", encoder, "tiny")
    index.add(list(texts.document_ids), list(texts.documents), encoder.encode_documents, chunk=11)
    queries = texts.test.queries
    vectors = dict(zip(queries, encoder.encode(list(queries.values()), query=True), strict=True))
    found, expected = index.search(vectors, 5), dense_run(encoder, texts, queries, 5)
    for query in queries:
        assert list(found[query].values()) == pytest.approx(list(expected[query].values()), abs=1e-4)
