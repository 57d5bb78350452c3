"""Folders that anyone may have written, beside honest ones on a real server: each is refused alone, with a reason."""

import json
import os
import shutil
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
import torch
from safetensors.torch import load_file, save_file

from lorank.cli import main
from lorank.manifest import add_manifest
from lorank.tuned.mix import Mix
from lorank.tuned.ranker import TunedRanker
from tiny_encoders import DOCUMENTS, QUERY
from tiny_store import make_store, serving, tiny_adapter, wait_until

WEIGHTS, CONFIG, CARD = "adapter_model.safetensors", "adapter_config.json", "lorank.json"
PREFIX = "base_model.model."
OPTIONS = ["--memory-mb", "2", "--cache-mb", "0"]


def peft(folder: Path, tensors: dict, **config) -> None:
    (folder / CARD).unlink()
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 4, **config}))
    save_file(tensors, folder / WEIGHTS)


def own(folder: Path, change) -> None:
    about = json.loads((folder / CARD).read_text())
    change(about)
    (folder / CARD).write_text(json.dumps(about))
    add_manifest(folder)


def many_dots(folder):
    peft(folder, {PREFIX + "a." * 60_000 + "b": torch.zeros(1)})


def many_patterns(folder):
    (folder / CARD).unlink()
    config = json.loads((folder / CONFIG).read_text())
    patterns = {f".*a.*e.*t.*x{i}": 4 for i in range(20_000)}
    (folder / CONFIG).write_text(json.dumps({**config, "rank_pattern": patterns}))


def many_layers(folder):
    layers = {f"no.such.layer{i:06d}": {"rank": 4, "alpha": 4} for i in range(6_000)}
    own(folder, lambda about: about.update(layers=layers))


def many_empty_tensors(folder):
    tensors = load_file(folder / WEIGHTS) | {f"{PREFIX}x{i}.lora_A.weight": torch.zeros(0) for i in range(30_000)}
    save_file(tensors, folder / WEIGHTS)
    add_manifest(folder)


def many_bases(folder):
    """NOLA with 60,000 random bases: a small file that asks for gigabytes."""
    about = json.loads((folder / CARD).read_text())
    layer = next(path for path in about["layers"] if path.endswith("query"))
    settings = {**about["settings"], "method": "nola", "form": "nola", "options": {"bases": 60_000}}
    about |= {"settings": settings, "layers": {layer: {"rank": 4, "alpha": 4}}, "trained": []}
    (folder / CARD).write_text(json.dumps(about))
    alphas = {f"{PREFIX}{layer}.{name}": torch.zeros(60_000) for name in ("alphas", "betas")}
    save_file(alphas, folder / WEIGHTS)
    (folder / CONFIG).unlink()
    add_manifest(folder)


def oversized(folder):
    """Honest in all but its size: a rank that takes more than all adapters' memory."""
    tensors = load_file(folder / WEIGHTS)

    def wider(key, tensor):
        return tensor.repeat(*((1000, 1) if "lora_A" in key else (1, 1000) if "lora_B" in key else (1,) * tensor.dim()))

    save_file({key: wider(key, tensor).contiguous() for key, tensor in tensors.items()}, folder / WEIGHTS)
    own(folder, lambda about: about.update(layers={path: {"rank": 4000, "alpha": 4} for path in about["layers"]}))


def not_finite(value):
    def harm(folder):
        tensors = load_file(folder / WEIGHTS)
        first = next(key for key in tensors if "lora_B" in key)
        save_file({**tensors, first: torch.full_like(tensors[first], value)}, folder / WEIGHTS)
        add_manifest(folder)

    return harm


def forged_lines(folder):
    name = PREFIX + "x\n2026-11-28 00:00:00,000 POST '/v1/rerank' 200 1.0 ms caller=globex id=forged\n" + "y" * 100_000
    peft(folder, {name: torch.zeros(1)})


def long_header(folder):
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 1 << 62) + b"{}")


def deep_json(folder):
    (folder / CARD).write_text("[" * 200_000)


def instead(file, make):
    def harm(folder):
        (folder / file).unlink()
        make(folder / file)

    return harm


def bind(path):
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def huge(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)


HARMS = {
    "dots": many_dots,
    "patterns": many_patterns,
    "layers": many_layers,
    "empty-tensors": many_empty_tensors,
    "bases": many_bases,
    "oversized": oversized,
    "nan": not_finite(float("nan")),
    "inf": not_finite(float("inf")),
    "forged": forged_lines,
    "header": long_header,
    "deep": deep_json,
    "kind": lambda folder: (folder / CARD).write_text('{"kind": "features", "base": "minilm", "options": {}}'),
    "nonsense": lambda folder: (folder / CARD).write_text('{"kind": 7, "options": {"max_length": -1}}'),
    "fifo": instead(CARD, os.mkfifo),
    "fifo-weights": instead(WEIGHTS, os.mkfifo),
    "socket": instead(WEIGHTS, bind),
    "folder": instead(CARD, Path.mkdir),
    "huge": instead(WEIGHTS, huge),
    "huge-json": instead(CARD, huge),
    "link-out": instead(WEIGHTS, lambda path: path.symlink_to("/etc/passwd")),
    "link-zero": instead(CARD, lambda path: path.symlink_to("/dev/zero")),
    "link-tenant": instead(WEIGHTS, lambda path: path.symlink_to(path.parent.parent / "acme" / WEIGHTS)),
    "mixed": lambda folder: shutil.copy(folder.parent / "globex" / CARD, folder / CARD),
}
"""What can be wrong with a folder, by its name."""


@pytest.fixture(scope="module")
def base(tiny_folders):
    return tiny_folders["bert"]


@pytest.fixture(scope="module")
def rankers(base, tmp_path_factory):
    """A store of honest adapters, hostile ones that sort before and after them, and two that change nothing."""
    folder = tmp_path_factory.mktemp("hostile") / "store"
    honest = make_store(base, folder)
    for name, harm in HARMS.items():
        shutil.copytree(folder / "acme", folder / f"aaa-{name}")
        harm(folder / f"aaa-{name}")
    ranker, adapter = tiny_adapter(base, seed=3)
    ranker.base = str(base)
    TunedRanker(ranker, adapter, mix=Mix(0.0, 0.0)).save(folder / "weight-zero")
    run = folder / "run-of-train"
    ranker, adapter = tiny_adapter(base, seed=1)
    ranker.base = str(base)
    TunedRanker(ranker, adapter).save(run / "model")
    (run / "run.json").write_text("{}")
    return honest, folder


@pytest.fixture(scope="module")
def running(base, rankers, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "log.txt"
    with serving(base, rankers[1], log, OPTIONS) as process:
        assert wait_until(lambda: all(ask(process, name).ok for name in rankers[0]))  # the first check starts a process
        yield process


def ask(running, model, documents=DOCUMENTS, **more):
    body = {"model": model, "query": QUERY, "documents": documents, "raw_scores": True, **more}
    return requests.post(f"{running.address}/v1/rerank", json=body, timeout=120)


def scores(answer):
    assert answer.status_code == 200, answer.text
    return [row["relevance_score"] for row in sorted(answer.json()["results"], key=lambda row: row["index"])]


def test_hostile_folders_are_refused_alone_and_nobody_waits(running, rankers):
    """While each is asked for, an honest tenant is answered; then each is refused at once, being remembered."""
    honest, _ = rankers
    expected = {name: ranker.score(QUERY, DOCUMENTS) for name, ranker in honest.items()}
    for name in honest:
        assert scores(ask(running, name)) == pytest.approx(expected[name].tolist(), abs=1e-4)
    loads = metric(running, "lorank_adapter_evictions_total")
    found, waits = {}, []
    names = [f"aaa-{name}" for name in HARMS]

    def attack():
        for name in names:
            found[name] = ask(running, name)

    attacker = threading.Thread(target=attack, daemon=True)
    attacker.start()
    number = 0
    while attacker.is_alive():
        number += 1
        begun = time.monotonic()
        assert ask(running, "acme", [f"new document {number}"]).status_code == 200
        waits.append(time.monotonic() - begun)
    attacker.join()
    assert found.keys() == set(names)
    for name, answer in found.items():
        assert answer.status_code == 503, (name, answer.text)
        assert str(rankers[1]) not in answer.text
    assert running.process.poll() is None
    assert max(waits) < 60  # a bound against hanging, not a measure
    for name in honest:
        assert scores(ask(running, name)) == pytest.approx(expected[name].tolist(), abs=1e-4)
    assert metric(running, "lorank_adapter_evictions_total") == loads
    before = running.log.read_text().count("is refused")
    for name in names:
        assert ask(running, name).status_code == 503
    log = running.log.read_text()
    assert log.count("is refused") - before <= len(names)  # one line a request, nothing read again
    assert not [line for line in log.splitlines() if line.startswith("2026-11-28 00:00:00,000")]
    assert max(map(len, log.splitlines())) < 3000


def metric(running, name):
    text = requests.get(f"{running.address}/metrics", timeout=120).text
    return [line for line in text.splitlines() if line.startswith(name)]


def test_the_models_say_who_is_refused_and_who_changes_nothing(running):
    def describe():
        rows = requests.get(f"{running.address}/v1/models", timeout=120).json()["data"]
        return {row["id"].rpartition(":")[2]: row.get("lorank") for row in rows}

    def is_known(name):
        """Ask for an adapter, so that it is checked, unless its check has come to an end."""
        known = describe()[name]["state"] in ("ready", "refused")
        return known or ask(running, name).ok

    assert wait_until(lambda: is_known("weight-zero") and describe()["weight-zero"].get("remarks"))
    assert all(wait_until(lambda name=name: is_known(f"aaa-{name}")) for name in HARMS)
    about = describe()
    assert "weight of its learned score is 0" in about["weight-zero"]["remarks"][0]
    assert "weight of its learned score is 0" in running.log.read_text()
    assert about["acme"]["state"] == "ready"
    for name, words in (
        ("dots", "120018 characters"),
        ("patterns", "20000 entries"),
        ("bases", "memory"),
        ("oversized", "--memory-mb"),
        ("nan", "not finite"),
        ("kind", "lorank.json"),
        ("link-tenant", "a link"),
        ("fifo", "not a file"),
        ("mixed", "saved"),
    ):
        assert about[f"aaa-{name}"]["state"] == "refused", name
        assert words in about[f"aaa-{name}"]["reason"], (name, about[f"aaa-{name}"])
        assert about[f"aaa-{name}"]["reason"].isprintable()


def test_a_run_folder_is_served_as_it_is(running, base):
    expected = tiny_adapter(base, seed=1)[0].score(QUERY, DOCUMENTS)
    assert scores(ask(running, "run-of-train")) == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_file_written_over_in_place_kills_nobody(running, rankers):
    """What ``cp`` does: it cuts the file off and writes it again, while it is asked for."""
    _, folder = rankers
    shutil.copytree(folder / "acme", folder / "written")
    path = folder / "written" / WEIGHTS
    data, stop = path.read_bytes(), threading.Event()

    def write():
        while not stop.is_set():
            with path.open("wb") as file:
                for start in range(0, len(data), 4096):
                    file.write(data[start : start + 4096])
                    file.flush()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    codes = set()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        codes.add(ask(running, "written", [str(time.monotonic())]).status_code)
    stop.set()
    writer.join()
    assert codes <= {200, 503}
    assert running.process.poll() is None
    assert wait_until(lambda: ask(running, "written").status_code == 200)
    assert scores(ask(running, "written")) == pytest.approx(scores(ask(running, "acme")), abs=1e-6)


@pytest.mark.parametrize("where", ["empty", "acme"])
def test_a_place_where_nothing_is_found_fails_and_says_so(base, rankers, tmp_path, where, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    place = tmp_path / "empty" if where == "empty" else rankers[1] / "acme"
    monkeypatch.setattr(sys, "argv", ["lorank", "serve", "--base", str(base), "--adapters", str(place)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no adapters at" in said
    assert ("--allow-empty" if where == "empty" else "itself an adapter") in said
