"""The store: what is listed, read, refused and noticed; a broken adapter hurts nobody else."""

import builtins
import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorank import lowrank
from lorank.errors import DataError, LorankError, UsageError
from lorank.manifest import add_manifest
from lorank.ranking.scorers import CrossEncoder
from lorank.serving.adapters.store import FolderStore, RemoteStore, open_store
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.requests.engine import Job, Scored, UnknownAdapter
from lorank.training.weights import new_modules
from lorank.tuned.mix import Mix
from lorank.tuned.ranker import TunedRanker
from tiny_encoders import QUERY

TEXTS = ["sorting a list", "the moon orbits the earth"]
WEIGHTS = "adapter_model.safetensors"


def tuned(folder, base_folder, seed, **options):
    """Write an adapter and return the scores that a ranker with it alone gives."""
    one = CrossEncoder(str(base_folder), head="random", **options)
    adapter = lowrank.attach(one.module, rank=2, targets=["query", "value"], seed=seed, trained=new_modules(one))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    adapter.save(folder)
    return one.score(QUERY, TEXTS), adapter, one


@pytest.fixture(scope="module")
def base_folder(tiny_folders):
    return tiny_folders["bert"]


@pytest.fixture(scope="module")
def made(base_folder, tmp_path_factory):
    """Two good adapters and their scores."""
    root = tmp_path_factory.mktemp("made")
    return root, {name: tuned(root / name, base_folder, seed)[0] for seed, name in enumerate(("good", "other"))}


@pytest.fixture
def store(made, tmp_path):
    root = tmp_path / "store"
    shutil.copytree(made[0], root)
    return root


@pytest.fixture
def bank(store, base_folder):
    return MixedEngine(CrossEncoder(str(base_folder), head="random"), FolderStore(store, recheck=0.0))


def ask(bank, *names):
    return bank.score([Job(name, QUERY, TEXTS) for name in names])


def close(answer, scores):
    assert isinstance(answer, Scored), answer
    assert np.abs(answer.scores - scores).max() <= 1e-5 * np.abs(scores).max()


def spoil(folder: Path, how: str) -> None:
    """Break a copy of a good adapter, whose list of files says that it is as it was saved."""
    break_files(folder, how)
    if how not in ("not json", "a list", "deep json", "large json", "hostile pattern", "truncated"):
        add_manifest(folder)


def break_files(folder: Path, how: str) -> None:
    """Break the files of an adapter."""
    file = folder / WEIGHTS
    tensors = load_file(file)
    first = next(key for key in tensors if key.endswith("lora_A.weight"))
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "header":
        file.write_bytes(b"\xff" * 64)
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "pickle":
        file.unlink()
        (folder / "adapter_model.bin").write_bytes(pickle.dumps({"a": 1}))
    elif how == "shapes":
        save_file({**tensors, first: torch.zeros(2, 7)}, file)
    elif how == "swapped":
        save_file({**tensors, first: tensors[first].t().contiguous()}, file)
    elif how == "lacking":
        save_file({key: tensor for key, tensor in tensors.items() if key != first}, file)
    elif how == "nan":
        save_file({**tensors, first: torch.full_like(tensors[first], float("nan"))}, file)
    elif how == "hostile pattern":
        (folder / "lorank.json").unlink()
        config = json.loads((folder / "adapter_config.json").read_text())
        config["rank_pattern"] = {"(([a-z])+.)+[A-Z]([a-z])+": 2}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    elif how == "deep json":
        (folder / "lorank.json").write_text("[" * 100_000)
    elif how == "large json":
        with (folder / "lorank.json").open("wb") as out:
            out.truncate((1 << 26) + 1)
    elif how == "head":
        save_file({key: tensor for key, tensor in tensors.items() if "classifier" not in key}, file)
    else:
        about = json.loads((folder / "lorank.json").read_text())
        layers = about["layers"]
        if how == "unknown layer":
            layers["bert.nowhere"] = layers.pop(next(iter(layers)))
        elif how == "huge rank":
            next(iter(layers.values()))["rank"] = 10**9
        elif how == "unknown form":
            about["settings"]["form"] = about["settings"]["method"] = "nonsense"
        elif how == "bad option":
            about["settings"]["form"], about["settings"]["options"] = "mos-shards", {"block": "../../etc"}
        elif how == "not json":
            (folder / "lorank.json").write_text("{")
            return
        elif how == "a list":
            (folder / "lorank.json").write_text("[]")
            return
        (folder / "lorank.json").write_text(json.dumps(about))


BROKEN = [
    "truncated",
    "header",
    "empty",
    "pickle",
    "shapes",
    "swapped",
    "lacking",
    "nan",
    "head",
    "unknown layer",
    "huge rank",
    "unknown form",
    "bad option",
    "not json",
    "a list",
    "hostile pattern",
    "deep json",
    "large json",
]


def test_listing_opens_no_file(store, bank, monkeypatch):
    (store / "not-an-adapter").mkdir()
    (store / ".hidden").mkdir()
    monkeypatch.setattr(io, "open", None)
    monkeypatch.setattr(builtins, "open", None)
    assert bank.adapters() == ["good", "other"]


def test_every_broken_adapter_is_refused_by_name_and_hurts_nobody_else(store, bank, made):
    for how in BROKEN:
        name = how.replace(" ", "-")
        shutil.copytree(store / "good", store / name)
        spoil(store / name, how)
    names = [how.replace(" ", "-") for how in BROKEN]
    for _ in range(2):
        good, *answers, other = ask(bank, "good", *names, "other")
        close(good, made[1]["good"])
        close(other, made[1]["other"])
        for name, answer in zip(names, answers):
            assert isinstance(answer, LorankError), name
            assert name in str(answer), (name, str(answer))
            assert str(store.parent) not in str(answer)
    assert bank.stats()["loaded"] == 2
    assert not bank.loaded.peek("good").package.contents.updates  # the pool holds the only copy
    assert bank.pool.free == bank.pool.capacity - sum(
        len(bank.loaded.peek(n).pages) + sum(bank.pool.pages_of_bytes(t.nbytes) for t in bank.loaded.peek(n).held)
        for n in ("good", "other")
    )


def test_an_adapter_that_fails_in_use_fails_alone(store, bank, made):
    shutil.copytree(store / "good", store / "bad")
    ask(bank, "bad", "good")
    bank.loaded.peek("bad").heads["classifier"].forward = None
    for _ in range(2):
        good, bad, other, base = ask(bank, "good", "bad", "other", None)
        close(good, made[1]["good"])
        close(other, made[1]["other"])
        assert isinstance(base, Scored)
        assert isinstance(bad, LorankError)
        assert "'bad' fails" in str(bad)
    assert not bank.loaded._in_use


def test_peft_folders_with_plain_patterns_are_read(store, bank, made):
    (store / "good" / "lorank.json").unlink()
    card = store / "good" / "adapter_config.json"
    patterns = {"rank_pattern": {r"layer.\d+.attention.self.query": 2, ".*value": 2}}
    card.write_text(json.dumps(json.loads(card.read_text()) | patterns))
    close(ask(bank, "good")[0], made[1]["good"])


def test_a_broken_adapter_is_read_once_and_again_when_it_is_mended(store, bank, made, monkeypatch):
    spoil(store / "good", "truncated")
    assert isinstance(ask(bank, "good")[0], DataError)
    reads = []
    read = bank.source.read
    monkeypatch.setattr(bank.source, "read", lambda *given: reads.append(given) or read(*given))
    assert isinstance(ask(bank, "good")[0], DataError)
    assert not reads
    shutil.copy(made[0] / "good" / WEIGHTS, store / "good" / WEIGHTS)
    close(ask(bank, "good")[0], made[1]["good"])
    assert len(reads) == 1


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "/etc",
        "good/../../outside",
        "..",
        ".",
        "",
        "a\x00b",
        "good/",
        "x" * 200,
        "~root",
        "good\\..",
        "..%2foutside",
    ],
)
def test_names_that_are_paths_are_unknown_and_open_nothing(store, bank, made, base_folder, name, monkeypatch):
    shutil.copytree(store / "good", store.parent / "outside")
    opened = []
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *a, **k: opened.append(path) or read(path, *a, **k))
    answer, good = ask(bank, name, "good")
    assert isinstance(answer, UnknownAdapter)
    close(good, made[1]["good"])
    assert not any(path.resolve().is_relative_to(store.parent / "outside") for path in opened)
    with pytest.raises(UnknownAdapter):
        bank.version(name)


def test_links_out_of_the_store_are_refused(store, bank, made):
    outside = store.parent / "outside"
    shutil.copytree(store / "good", outside)
    (store / "linked").symlink_to(outside)
    shutil.copytree(store / "good", store / "one-file")
    (store / "one-file" / WEIGHTS).unlink()
    (store / "one-file" / WEIGHTS).symlink_to(outside / WEIGHTS)
    shutil.copytree(store / "good", store / "dangling")
    (store / "dangling" / "head.safetensors").symlink_to("/nowhere/at/all")
    (store / "inside").symlink_to(store / "other")
    linked, one_file, dangling, inside, good = ask(bank, "linked", "one-file", "dangling", "inside", "good")
    for name, answer in (("linked", linked), ("one-file", one_file), ("dangling", dangling)):
        assert isinstance(answer, DataError)
        assert name in str(answer)
        assert "out of the store" in str(answer)
    close(inside, made[1]["other"])
    close(good, made[1]["good"])
    (store / ".versions").mkdir()
    (store / "other").rename(store / ".versions" / "other-2")
    (store / "other").symlink_to(".versions/other-2")  # a name that is swapped
    close(ask(bank, "other")[0], made[1]["other"])


def test_changed_files_are_picked_up_and_removed_ones_are_gone(store, bank, made, base_folder):
    close(ask(bank, "good")[0], made[1]["good"])
    before = bank.version("good")
    assert bank.version("good") == before
    fresh = tuned(store / "new", base_folder, 9)[0]
    shutil.rmtree(store / "good")
    (store / "new").rename(store / "good")
    assert bank.version("good") != before
    close(ask(bank, "good")[0], fresh)
    assert bank.stats()["loads"] == 2
    shutil.rmtree(store / "good")
    gone, other = ask(bank, "good", "other")
    assert isinstance(gone, UnknownAdapter)
    close(other, made[1]["other"])


def test_files_are_looked_at_no_more_often_than_asked(store, monkeypatch):
    looks = []
    store = FolderStore(store, recheck=60.0)
    look = FolderStore.look
    monkeypatch.setattr(FolderStore, "look", lambda own, name: looks.append(name) or look(own, name))
    assert len({store.version("good") for _ in range(20)}) == 1
    assert looks == ["good"]


def test_the_budget_holds_and_pinned_adapters_stay(store, base_folder, made):
    for i in range(12):
        shutil.copytree(store / "good", store / f"t{i}")
    base = CrossEncoder(str(base_folder), head="random")
    small = MixedEngine(base, FolderStore(store), memory=8_000, pinned=["other"])
    close(ask(small, "other")[0], made[1]["other"])
    for i in [*range(12), *range(12)]:
        close(ask(small, f"t{i}")[0], made[1]["good"])
        assert small.stats()["memory_bytes"] <= 8_000
    assert "other" in small.loaded
    assert small.stats()["pinned"] == 1
    assert small.stats()["evictions"] > 12
    together = ask(small, *(f"t{i}" for i in range(12)), "other")
    for answer in together[:-1]:
        close(answer, made[1]["good"])
    small.unpin("other")
    ask(small, *(f"t{i}" for i in range(12)))
    assert "other" not in small.loaded
    tiny = MixedEngine(base, FolderStore(store), memory=2_000)
    answer, plain = ask(tiny, "good", None)
    assert isinstance(answer, LorankError)
    assert "memory budget" in str(answer)
    close(plain, base.score(QUERY, TEXTS))


def test_a_tuned_folder_brings_its_mix_and_calibration(store, base_folder, bank):
    alone, adapter, ranker = tuned(store.parent / "scratch", base_folder, 5)
    TunedRanker(ranker, adapter, mix=Mix(0.0, 0.5)).save(store / "mixed")
    card = store / "mixed" / "lorank.json"
    about = json.loads(card.read_text())
    card.write_text(json.dumps(about | {"calibration": {"kind": "platt", "slope": 2.0, "intercept": -1.0}}))
    answer = ask(bank, "mixed")[0]
    close(answer, 0.5 * alone)
    np.testing.assert_allclose(answer.probabilities, 1 / (1 + np.exp(1 - 2 * answer.scores)), rtol=1e-5)
    assert answer.above is None
    middle = float(np.sort(answer.scores)[-2:].mean())
    threshold = {"score": middle, "target": 0.9, "confidence": 0.95, "unit": "best"}
    platt = {"kind": "platt", "slope": 2.0, "intercept": -1.0, "thresholds": [threshold]}
    card.write_text(json.dumps(about | {"calibration": platt}))
    assert ask(bank, "mixed")[0].above.tolist() == (answer.scores >= middle).tolist()
    options = about["options"] | {"max_length": 20}
    for change, words in (
        ({"kind": "bi-encoder"}, "bi-encoder"),
        ({"options": options}, "max_length=20"),
        ({"base": None}, "whole"),
        ({"mix": {}}, "not what lorank writes"),
        ({"mix": about["mix"] | {"first_stage": 1.0}}, "first stage"),
    ):
        card.write_text(json.dumps(about | change))
        refused = ask(bank, "mixed")[0]
        assert isinstance(refused, DataError)
        assert words in str(refused)


def test_a_first_stage_scores_with_no_model_but_the_base(store, base_folder, bank, monkeypatch):
    from lorank.ranking.scorers.bm25 import BM25
    from lorank.tuned.first_stage import Component, FirstStage

    alone, adapter, ranker = tuned(store.parent / "scratch", base_folder, 5)
    statistics = BM25.index([str(i) for i in range(3)], ["sorting lists", "the moon", "rankers"]).statistics
    stage = FirstStage("bm25", (Component("bm25"),), statistics)
    TunedRanker(ranker, adapter, stage, Mix(1.0, 0.5)).save(store / "mixed")
    pairs = np.array([[0, 0], [0, 1]])
    close(ask(bank, "mixed")[0], stage.score_pairs([QUERY], TEXTS, pairs) + 0.5 * alone)
    described = store / "mixed" / "first_stage" / "first_stage.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"base": "/etc/model"}))
    add_manifest(store / "mixed")
    refused = ask(bank, "mixed")[0]
    assert isinstance(refused, DataError)
    assert "/etc/model" in str(refused)


def test_a_url_serves_what_the_folder_serves(store, base_folder, made):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.put(str(store), "/adapters", recursive=True)
    source = open_store("memory://adapters", recheck=0.0)
    assert isinstance(source, RemoteStore)
    remote = MixedEngine(CrossEncoder(str(base_folder), head="random"), source)
    try:
        assert remote.adapters() == ["good", "other"]
        for answer, name in zip(ask(remote, "good", "other"), ("good", "other")):
            close(answer, made[1][name])
        before = remote.version("good")
        for file in (WEIGHTS, "lorank.json"):
            files.put_file(str(store / "other" / file), "/adapters/good/" + file)
        assert remote.version("good") != before
        close(ask(remote, "good")[0], made[1]["other"])
        files.pipe_file("/adapters/bad/lorank.json", b"{")
        bad, unknown, path = ask(remote, "bad", "absent", "../adapters/good")
        assert isinstance(bad, DataError)
        assert isinstance(unknown, UnknownAdapter)
        assert isinstance(path, UnknownAdapter)
        disk = Path(source._disk.name)
        assert disk.exists()
    finally:
        remote.close()
        files.rm("/adapters", recursive=True)
    assert not disk.exists()


def test_a_url_keeps_one_copy_of_each_adapter(store, base_folder):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    ranker = CrossEncoder(str(base_folder), head="random")
    source = open_store("memory://updated", recheck=0.0)
    try:
        for name in ("good", "other", "good"):
            for file in (store / name).iterdir():
                files.put_file(str(file), f"/updated/acme/{file.name}")
            source.read("acme", ranker)
            copies = {path.parent for path in Path(source._disk.name).rglob("*") if path.is_file()}
            assert len(copies) == 1
    finally:
        source.close()
        files.rm("/updated", recursive=True)


def test_links_below_an_adapter_lead_nowhere(store, bank, made):
    """Another tenant's file, another tenant's folder, and a chain of links through one's own folder."""
    for name in ("file", "folder", "chain"):
        shutil.copytree(store / "good", store / name)
        (store / name / WEIGHTS).unlink()
    (store / "file" / WEIGHTS).symlink_to(store / "other" / WEIGHTS)
    (store / "chain" / "here").symlink_to(store / "other" / WEIGHTS)
    (store / "chain" / WEIGHTS).symlink_to("here")
    (store / "folder" / "adapter").symlink_to(store / "other")
    *refused, good = ask(bank, "file", "chain", "folder", "good")
    for answer in refused:
        assert isinstance(answer, DataError)
        assert "a link" in str(answer)
    close(good, made[1]["good"])


def test_an_adapter_that_never_fits_evicts_nobody_and_is_remembered(store, base_folder, made, monkeypatch):
    small = MixedEngine(CrossEncoder(str(base_folder), head="random"), FolderStore(store, recheck=0.0), memory=40_000)
    close(ask(small, "good")[0], made[1]["good"])
    tensors = load_file(store / "other" / WEIGHTS)
    wide = {
        key: tensor.repeat(*((40, 1) if "lora_A" in key else (1, 40))) if "lora_" in key else tensor
        for key, tensor in tensors.items()
    }
    save_file({key: tensor.contiguous() for key, tensor in wide.items()}, store / "other" / WEIGHTS)
    about = json.loads((store / "other" / "lorank.json").read_text())
    layers = {path: {"rank": 40 * layer["rank"], "alpha": layer["alpha"]} for path, layer in about["layers"].items()}
    (store / "other" / "lorank.json").write_text(json.dumps(about | {"layers": layers}))
    add_manifest(store / "other")
    reads = []
    read = small.source.read
    monkeypatch.setattr(small.source, "read", lambda *given: reads.append(given) or read(*given))
    for _ in range(3):
        other, good = ask(small, "other", "good")
        assert "memory budget" in str(other)
        close(good, made[1]["good"])
    assert len(reads) == 1
    assert (small.stats()["evictions"], small.stats()["loads"]) == (0, 1)


def test_a_store_that_is_not_there_says_so(tmp_path):
    with pytest.raises(UsageError, match="no folder of adapters"):
        open_store(tmp_path / "absent")
    with pytest.raises(UsageError, match="nothing"):
        open_store("nothing://bucket")


def test_a_base_with_an_adapter_on_it_is_refused(base_folder, store):
    ranker = CrossEncoder(str(base_folder))
    lowrank.attach(ranker.module, rank=1, targets=["query"])
    with pytest.raises(UsageError, match="detach"):
        MixedEngine(ranker, FolderStore(store))
