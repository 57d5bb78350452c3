"""The process that reads adapter folders first: warm, of one thread, and never the last word where it was late."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from lorank.errors import LorankError
from lorank.ranking.scorers import CrossEncoder
from lorank.serving.adapters.inspector import Inspector, NoInspection
from lorank.serving.adapters.store import FolderStore
from lorank.serving.forward import admission
from lorank.serving.forward.backoff import Backoff
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.requests.engine import Job, NotYet, Scored
from tiny_encoders import QUERY
from tiny_store import tiny_adapter, wait_until
from word_engine import WordEngine, live

LOOP = """
import os, time
from lorank.serving.adapters.inspection_process import Inspection

def work(row):
    what = row["name"]
    if what == "hangs":
        time.sleep(600)
    if what == "dies":
        os.abort()
    if what == "forges":
        os.write(1, b'{"id": 0, "answered": true, "error": null, "remarks": []}')
    return {"error": None, "remarks": [str(os.getpid())]}

Inspection(work, WALL_S).run()
"""
"""The real loop, whose children do what the name of a folder says."""
LONG = 120.0
"""Seconds that nothing here takes, however busy the machine is."""


@contextmanager
def loop(wall_s):
    """Run the loop as a process; yield it, and how to ask it for folders and read its answers."""
    program = LOOP.replace("WALL_S", str(wall_s))
    paths = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )

    def ask(folder, *names):
        for number, name in enumerate(names):
            process.stdin.write(json.dumps({"id": number, "name": name, "folder": str(folder)}).encode() + b"\n")
        process.stdin.flush()
        rows = [json.loads(process.stdout.readline()) for _ in names]
        return {names[row["id"]]: row for row in rows}

    try:
        yield process, ask
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def children_of(process):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == process and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_child_that_hangs_or_dies_says_nothing_of_its_folder_and_holds_nobody_up(tmp_path):
    with loop(wall_s=2.0) as (_, ask):
        rows = ask(tmp_path, "hangs", "dies", "honest", "forges")
        assert not rows["hangs"]["answered"]
        assert "longer than 2 s" in rows["hangs"]["error"]
        assert not rows["dies"]["answered"]
        for name in ("honest", "forges"):
            assert rows[name]["answered"], rows[name]
            assert rows[name]["error"] is None
        again = ask(tmp_path, "honest")["honest"]
        assert again["remarks"] != rows["honest"]["remarks"]  # each in a process of its own


def test_no_child_outlives_the_loop(tmp_path):
    with loop(wall_s=600.0) as (process, _):
        process.stdin.write(json.dumps({"id": 0, "name": "hangs", "folder": str(tmp_path)}).encode() + b"\n")
        process.stdin.flush()
        assert wait_until(lambda: children_of(process.pid), LONG)
        children = children_of(process.pid)
        process.stdin.close()
        assert process.wait(LONG) == 0
        assert wait_until(lambda: not any(is_alive(child) for child in children), LONG)


@pytest.fixture(scope="module")
def base(tiny_folders):
    return tiny_folders["bert"]


@pytest.fixture(scope="module")
def store(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    _, adapter = tiny_adapter(base, seed=1)
    adapter.save(folder / "acme", base_name=str(base))
    return folder


@pytest.fixture(scope="module")
def engine(base, store):
    """An engine whose inspector takes seconds to start: one for all tests."""
    ranker = CrossEncoder(base, max_length=32)
    inspector = Inspector(ranker, 1 << 24, wall_s=LONG)
    made = MixedEngine(ranker, FolderStore(store, recheck=0.0), inspector=inspector)
    yield made
    made.close()


@pytest.fixture
def inspector(engine):
    made = engine.admission.inspector
    made.wall_s = made.grace_s = LONG
    return made


def test_one_warm_process_of_one_thread_reads_all_folders(inspector, store, tmp_path):
    assert list(inspector.check("acme", store / "acme")) == []
    process = inspector._process.id
    shutil.copytree(store / "acme", tmp_path / "torn")
    (tmp_path / "torn" / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(LorankError, match="torn") as refused:
        inspector.check("torn", tmp_path / "torn")
    assert not isinstance(refused.value, NoInspection)
    assert list(inspector.check("acme", store / "acme")) == []
    assert inspector._process.id == process
    assert len(list(Path(f"/proc/{process}/task").iterdir())) == 1  # so that it may fork
    assert "jaxlib" not in Path(f"/proc/{process}/maps").read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_hangs_is_replaced(inspector, store, number):
    inspector.check("acme", store / "acme")
    before = inspector._process.id
    os.killpg(before, number)
    inspector.wall_s = inspector.grace_s = 0.5
    if number == signal.SIGSTOP:
        with pytest.raises(NoInspection, match="did not answer"):
            inspector.check("acme", store / "acme")
    inspector.wall_s = inspector.grace_s = LONG

    def checked():
        try:
            return list(inspector.check("acme", store / "acme")) == []
        except NoInspection:  # it was asked before its end was noticed
            return False

    assert wait_until(checked, LONG)
    assert inspector._process.id != before
    assert not is_alive(before)


def test_an_honest_adapter_whose_check_was_late_is_checked_again(engine, inspector, monkeypatch):
    """What a loaded machine does: the process does not get its turn in time."""
    said = []
    monkeypatch.setattr(admission.logger, "warning", lambda message, *values: said.append(message % values))
    assert wait_until(lambda: inspector._start().ready.is_set(), LONG)
    now = [0.0]
    engine.admission.backoff = Backoff(first_s=10.0, clock=lambda: now[0])
    os.killpg(inspector._process.id, signal.SIGSTOP)
    inspector.wall_s = inspector.grace_s = 0.1
    with pytest.raises(NotYet) as early:
        engine.version("acme")
    early.value.start().result(LONG)
    about = engine.about("acme")
    assert about["state"] == "unchecked"
    assert "did not answer" in about["reason"]
    assert [line for line in said if "'acme' is not checked yet" in line]
    with pytest.raises(NotYet) as early:
        engine.version("acme")
    assert early.value.start is None
    assert 0 < early.value.retry_s <= 10
    assert not isinstance(engine.score([Job("acme", QUERY, ["a"])])[0], Scored)

    now[0], inspector.wall_s, inspector.grace_s = 10.0, LONG, LONG
    with pytest.raises(NotYet) as early:
        engine.version("acme")
    early.value.start().result(2 * LONG)
    engine.version("acme")
    assert engine.about("acme") == {"state": "ready"}
    assert isinstance(engine.score([Job("acme", QUERY, ["a"])])[0], Scored)


def test_close_waits_for_no_check(engine, inspector, store):
    """Stands last among the tests of this engine, which it closes."""
    assert wait_until(lambda: inspector._start().ready.is_set(), LONG)
    process = inspector._process.id
    os.killpg(process, signal.SIGSTOP)
    found = []

    def check():
        with pytest.raises(NoInspection):
            inspector.check("acme", store / "acme")
        found.append(True)

    asking = threading.Thread(target=check, daemon=True)
    asking.start()
    assert wait_until(lambda: inspector._process._pending, LONG)
    engine.close()
    asking.join(LONG)
    assert found
    assert not is_alive(process)
    with pytest.raises(NoInspection, match="about to stop"):
        inspector.check("acme", store / "acme")


def test_a_client_reads_when_to_come_back():
    class Unchecked(WordEngine):
        def version(self, adapter):
            if adapter == "acme":
                raise NotYet(adapter, retry_s=6.5)
            return super().version(adapter)

    with live(Unchecked()) as (address, _):
        body = {"query": "q", "documents": ["a"], "model": "acme"}
        answer = requests.post(f"{address}/v1/rerank", json=body, timeout=120)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
        assert answer.json()["error_type"] == "not_ready"
        assert requests.post(f"{address}/v1/rerank", json={**body, "model": "globex"}, timeout=120).ok


@given(st.floats(0.1, 100.0), st.floats(1.0, 1e4), st.integers(1, 200))
def test_attempts_come_twice_as_late_each_time_up_to_a_bound(first, most, count):
    now = [0.0]
    backoff = Backoff(first_s=first, most_s=most, clock=lambda: now[0])
    for number in range(count):
        seconds = backoff.fail("acme", "1", "late")
        assert seconds == pytest.approx(min(first * 2.0 ** min(number, 60), most))
        assert backoff.left("acme", "1") == pytest.approx(seconds)
        assert backoff.left("acme", "2") == 0.0  # exact: other files may be checked now
        now[0] += seconds * 1.001
        assert backoff.left("acme", "1") == 0.0  # exact: the time is over
    assert backoff.reason("acme") == "late"
    assert backoff.fail("acme", "2", "late") == pytest.approx(min(first, most))
    backoff.forget("acme")
    assert backoff.reason("acme") is None
