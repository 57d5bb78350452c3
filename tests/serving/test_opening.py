"""From a base and a folder to an engine: what is taken from the adapters, and what is refused."""

import json
import shutil

import numpy as np
import pytest

from lorank import lowrank
from lorank.errors import LorankError, UsageError
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.serving.requests.engine import Job
from lorank.serving.start import open_engine
from lorank.tuned.ranker import TunedRanker
from tiny_encoders import DOCUMENTS, QUERY
from tiny_store import tiny_adapter

MEMORY = 1 << 22


@pytest.fixture
def tuned(tiny_folders, tmp_path):
    """A tuned ranker in a store, with a calibration in its lorank.json."""
    ranker, adapter = tiny_adapter(tiny_folders["bert"], seed=3)
    ranker.base = str(tiny_folders["bert"])
    tuned = TunedRanker(ranker, adapter)
    tuned.save(tmp_path / "store" / "acme")
    card = tmp_path / "store" / "acme" / "lorank.json"
    calibration = {"kind": "platt", "slope": 0.7, "intercept": -0.2}
    card.write_text(json.dumps({**json.loads(card.read_text()), "calibration": calibration}))
    return tuned, tmp_path / "store"


def test_the_base_is_what_the_command_line_says(tiny_folders, tuned):
    """No folder has a say in it, however it is called and whatever stands in its card."""
    ranker, store = tuned
    for number, card in enumerate(
        ['{"kind": "bi-encoder", "options": {"max_length": 9}}', "{", '{"kind": "features"}']
    ):
        (store / f"aaa{number}").mkdir()
        (store / f"aaa{number}" / "lorank.json").write_text(card)
    base = str(tiny_folders["bert"])
    engine = open_engine(base, str(store), kind="cross-encoder", max_length=32, memory_bytes=MEMORY)
    assert (engine.ranker.kind, engine.ranker.max_length) == ("cross-encoder", 32)
    assert engine.base_name == tiny_folders["bert"].name
    found = engine.score([Job("acme", QUERY, DOCUMENTS)])[0]
    expected = ranker.score(QUERY, DOCUMENTS)
    np.testing.assert_allclose(found.scores, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(0.2 - 0.7 * expected)), atol=1e-5)
    engine.close()
    engine = open_engine(base, str(store), memory_bytes=MEMORY)
    assert engine.ranker.options() == CrossEncoder(base).options()
    answers = engine.score([Job(name, QUERY, DOCUMENTS) for name in ("acme", "aaa0", None)])
    assert "max_length=32" in str(answers[0])
    assert isinstance(answers[1], LorankError)
    assert "no scoring head of its own" in str(answers[2])
    engine.close()


def test_an_adapter_of_another_kind_is_refused_alone(tiny_folders, tuned):
    engine = open_engine(str(tiny_folders["bert"]), str(tuned[1]), kind="bi-encoder", memory_bytes=MEMORY)
    assert engine.ranker.kind == "bi-encoder"
    assert "cross-encoder" in str(engine.score([Job("acme", QUERY, DOCUMENTS)])[0])
    engine.close()


def test_how_the_base_reads_can_be_said(tiny_folders):
    base = str(tiny_folders["bert"])
    engine = open_engine(base, None, kind="bi-encoder", options={"pooling": "cls"}, memory_bytes=MEMORY)
    assert engine.ranker.options()["pooling"] == "cls"
    with pytest.raises(UsageError, match="option of reading"):
        open_engine(base, None, options={"dtype": "x"})
    with pytest.raises(UsageError, match="cross-encoder cannot be opened"):
        open_engine(base, None, kind="cross-encoder", options={"pooling": "cls"})


def test_a_place_without_adapters_says_so(tiny_folders, tuned, tmp_path):
    base, store = str(tiny_folders["bert"]), tuned[1]
    (tmp_path / "empty").mkdir()
    for place, words in ((tmp_path / "empty", "no adapters at"), (store / "acme", "is itself an adapter")):
        with pytest.raises(UsageError, match=words):
            open_engine(base, str(place), memory_bytes=MEMORY, may_be_empty=False)
    open_engine(base, str(tmp_path / "empty"), memory_bytes=MEMORY).close()


def test_run_folders_are_taken_as_they_are(tiny_folders, tuned, tmp_path):
    ranker, store = tuned
    shutil.copytree(store / "acme", tmp_path / "runs/first/model")
    (tmp_path / "runs/first/run.json").write_text("{}")
    (tmp_path / "runs/notes").mkdir()
    engine = open_engine(
        str(tiny_folders["bert"]), str(tmp_path / "runs"), kind="cross-encoder", max_length=32, memory_bytes=MEMORY
    )
    assert engine.adapters() == ["first"]
    expected = ranker.score(QUERY, DOCUMENTS)
    found = engine.score([Job("first", QUERY, DOCUMENTS)])[0]
    np.testing.assert_allclose(found.scores, expected, atol=1e-5 * np.abs(expected).max())
    engine.close()


def test_a_base_alone_is_served_as_what_it_was_made_for(tiny_folders, tmp_path):
    CrossEncoder(tiny_folders["bert"], head="random").save(tmp_path)
    engine = open_engine(str(tmp_path), None, memory_bytes=MEMORY)
    assert engine.ranker.kind == "cross-encoder"
    assert engine.adapters() == []
    engine.close()


def test_wrong_kinds_are_refused(tiny_folders):
    for kind in ("features", "oracle", "pyramid", "trees"):
        with pytest.raises(UsageError, match="bi-encoder"):
            open_engine(str(tiny_folders["bert"]), None, kind=kind)


def test_auto_takes_a_path_that_keeps_the_order_and_says_what_it_found(tiny_folders, tmp_path, monkeypatch):
    CrossEncoder(tiny_folders["bert"], head="random").save(tmp_path)
    from lorank.ranking.scorers import paths

    for name in [name for name in paths.PATHS if not name.startswith("torch")]:
        monkeypatch.delitem(paths.PATHS, name)
    said = []
    engine = open_engine(str(tmp_path), None, kind="cross-encoder", path="auto", say=said.append)
    assert engine.path in paths.PATHS
    assert said[-1] == f"scoring by {engine.path}"
    assert [line for line in said if line.startswith(f"{engine.path}: ") and "tau" in line]


def test_a_bi_encoder_has_no_choice_of_paths(tiny_folders):
    with pytest.raises(UsageError, match="only cross-encoders"):
        open_engine(str(tiny_folders["bert"]), None, kind="bi-encoder", path="torch-int8")


def test_an_adapter_of_an_embedding_is_refused_alone_and_by_name(tiny_folders, tmp_path):
    ranker = CrossEncoder(str(tiny_folders["bert"]), head="random", max_length=32)
    adapter = lowrank.attach(ranker.module, "lora", rank=2, targets=["word_embeddings", "query"])
    adapter.save(tmp_path / "store" / "tables")
    engine = open_engine(str(tiny_folders["bert"]), str(tmp_path / "store"), kind="cross-encoder", memory_bytes=MEMORY)
    refused = engine.score([Job("tables", "q", ["a"])])[0]
    assert "word_embeddings, a layer of type Embedding" in str(refused)
    assert "merge it" in str(refused)
    engine.close()


def test_an_adapter_that_reads_titled_passages_says_how_the_server_is_started(tiny_folders, tmp_path):
    base = str(tiny_folders["bert"])
    ranker = BiEncoder(base, long="titled", title_weight=0.25)
    adapter = lowrank.attach(ranker.module, "lora", rank=2, seed=0)
    TunedRanker(ranker, adapter).save(tmp_path / "store" / "acme")
    expected = ranker.score(QUERY, DOCUMENTS)
    engine = open_engine(base, str(tmp_path / "store"), kind="bi-encoder", memory_bytes=MEMORY)
    assert "--option long=titled" in str(engine.score([Job("acme", QUERY, DOCUMENTS)])[0])
    engine.close()
    said = {"long": "titled", "title_weight": 0.25}
    engine = open_engine(base, str(tmp_path / "store"), kind="bi-encoder", options=said, memory_bytes=MEMORY)
    found = engine.score([Job("acme", QUERY, DOCUMENTS)])[0]
    np.testing.assert_allclose(found.scores, expected, atol=1e-5 * np.abs(expected).max())
    engine.close()
