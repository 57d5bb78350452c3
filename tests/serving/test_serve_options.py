"""`lorank serve` as operators run it: options by file, environment and flag; several processes; logs, health, usage."""

import json
import os
import signal
import threading
import time
from collections import Counter

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.errors import DataError, UsageError
from lorank.serving.http.middleware import OPEN_PATHS
from lorank.serving.http.peers import Peers, sum_counts
from lorank.serving.requests.keys import hash_key
from tiny_encoders import DOCUMENTS, QUERY
from tiny_store import make_store, serving, wait_until

OPTIONS = """
log-format = "json"
memory-mb = 4
latency_ms = 100
drain-s = 7
names-in-metrics = true

[aliases]
"rerank-v3.5" = "globex"
own = ""
"""


@pytest.fixture(scope="module")
def running(tiny_folders, tmp_path_factory):
    """Two processes on one port, set up by a file, the environment and flags."""
    home = tmp_path_factory.mktemp("options")
    (home / "store").mkdir()
    make_store(tiny_folders["bert"], home / "store")
    (home / "keys.txt").write_text(f"acme {hash_key('lr-acme')} acme\noperator {hash_key('lr-operator')} *\n")
    (home / "serve.toml").write_text(OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORANK_SERVE_CONFIG", str(home / "serve.toml"))
        patch.setenv("LORANK_SERVE_KEYS", str(home / "keys.txt"))
        patch.setenv("LORANK_SERVE_WORKERS", "2")
        with serving(tiny_folders["bert"], home / "store", home / "log.txt") as process:
            yield process


def ask(running, name="operator", **more):
    body = {"query": QUERY, "documents": DOCUMENTS, "model": "globex" if name == "operator" else name, **more}
    headers = {"Authorization": f"Bearer lr-{name}"}
    return requests.post(f"{running.address}/v1/rerank", json=body, headers=headers, timeout=120)


def get(running, path, name="operator"):
    return requests.get(running.address + path, headers={"Authorization": f"Bearer lr-{name}"}, timeout=120)


def samples(page, name):
    return [s for family in text_string_to_metric_families(page) for s in family.samples if s.name == name]


def test_aliases_lead_to_adapters_that_the_key_opens(running):
    assert ask(running, model="rerank-v3.5").json()["model"].endswith(":globex")
    assert ask(running, "acme", model="rerank-v3.5").status_code == 404
    assert ask(running, "acme", model="own").json()["model"].endswith(":acme")
    listed = [row["id"] for row in get(running, "/v1/models").json()["data"]]
    assert {"rerank-v3.5", "own"} < set(listed)
    assert "rerank-v3.5" not in [row["id"] for row in get(running, "/v1/models", "acme").json()["data"]]


def test_health_and_build_and_counts_of_every_process(running):
    for path in ("/health", "/health/live", "/health/ready"):
        assert requests.get(running.address + path, timeout=120).status_code == 200
    for number in range(6):
        assert ask(running, query=f"{QUERY} {number}").ok

    def is_complete():
        """Each process knows of the other what it laid down last: any of the two may answer, a moment behind."""
        page = requests.get(f"{running.address}/metrics", timeout=120).text
        rows = [row for row in samples(page, "lorank_requests_total") if row.labels["route"] == "/v1/rerank"]
        return (
            {row.labels["worker"] for row in samples(page, "lorank_build_info")} == {"0", "1"}
            and sum(row.value for row in rows if row.labels["status"] == "200") >= 6
            and sum(key_requests(page)["operator"].values()) >= 6
            and samples(page, "process_resident_memory_bytes")
            and samples(page, "lorank_adapters_resident")
        )

    assert wait_until(is_complete)


def key_requests(page):
    """Requests by key and worker."""
    found = {"operator": {}}
    for row in samples(page, "lorank_key_requests_total"):
        found.setdefault(row.labels["key"], {})[row.labels["worker"]] = row.value
    return found


def test_all_counts_of_a_process_are_of_one_moment(running):
    """Under load each page agrees with itself: what the routes count is what the keys count, process by process."""
    over = threading.Event()

    def load():
        number = 0
        while not over.is_set():
            number += 1
            ask(running, query=f"load {number}")

    threads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            page = requests.get(f"{running.address}/metrics", timeout=120).text
            routes, keys = Counter(), Counter()
            for row in samples(page, "lorank_requests_total"):
                if row.labels["route"] not in (*OPEN_PATHS, "other"):
                    routes[row.labels["worker"]] += row.value
            for counts in key_requests(page).values():
                keys.update(counts)
            assert keys == routes
            time.sleep(0.3)  # a page is kept for a moment
    finally:
        over.set()
        for thread in threads:
            thread.join(120)
    assert sum(routes.values()) > 0


def test_usage_is_summed_over_processes(running):
    def used():
        return get(running, "/v1/usage").json()["data"].get("operator", {}).get("documents", 0)

    before = used()
    for number in range(4):
        assert ask(running, query=f"usage {number}").ok
    assert wait_until(lambda: used() >= before + 4 * len(DOCUMENTS))
    assert wait_until(lambda: list(get(running, "/v1/usage", "acme").json()["data"]) == ["acme"])


def test_every_request_is_one_json_line(running):
    identifier = f"request-{time.time()}"
    headers = {"Authorization": "Bearer lr-acme", "X-Request-Id": identifier}
    body = {"query": "a json line", "documents": DOCUMENTS}
    assert requests.post(f"{running.address}/v1/rerank", json=body, headers=headers, timeout=120).ok

    def found():
        rows = [json.loads(line) for line in running.log.read_text().splitlines() if line.startswith("{")]
        return [row for row in rows if row.get("request_id") == identifier]

    assert wait_until(found)
    row = found()[0]
    assert (row["tenant"], row["rows"], row["status"], row["route"]) == ("acme", len(DOCUMENTS), 200, "/v1/rerank")
    assert row["model"].endswith(":acme")
    assert 0 <= row["queue_ms"] <= row["total_ms"]
    assert 0 < row["score_ms"] <= row["total_ms"]
    assert row["tokens"] > 0


def test_a_process_that_dies_is_replaced_and_sigterm_ends_all_with_0(running):
    """Stands last among the tests of these processes, which it ends."""
    children = workers_of(running.process.pid)
    assert len(children) == 2
    os.kill(children[0], signal.SIGKILL)
    assert wait_until(lambda: len(set(workers_of(running.process.pid)) - set(children)) == 1)
    for number in range(4):
        assert ask(running, query=f"after {number}").ok  # one of the two serves all the time
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(120) == 0
    assert wait_until(lambda: not any(alive(child) for child in children))


def workers_of(parent):
    """The running children of a process."""
    with open(f"/proc/{parent}/task/{parent}/children") as file:  # noqa: PTH123
        return [int(word) for word in file.read().split() if alive(int(word))]


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def refused(*arguments, **environment):
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)], env=environment)
    return result.exception, result.output


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("prot = 80", "'prot' is no option"),
        ("base = [1]", "takes one value"),
        ("port = {}", "takes one value"),
        ("=", "not TOML"),
        ("config = 'x'", "'config' is no option"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, text, word):
    path = tmp_path / "serve.toml"
    path.write_text(text)
    error, _ = refused("--config", path)
    assert isinstance(error, DataError)
    assert word in str(error)
    assert "serve.toml" in str(error)


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path):
    path = tmp_path / "serve.toml"
    path.write_text('base = "minilm"\nlatency-ms = -3\ndrain-s = -4\ntimeout-s = -5')
    error, _ = refused("--config", path, "--latency-ms", "-1", LORANK_SERVE_LATENCY_MS="-2", LORANK_SERVE_DRAIN_S="7")
    assert "timeout_s must be" in str(error)
    path.write_text('base = "minilm"\nlatency-ms = -3')
    assert "got -1.0" in str(refused("--config", path, "--latency-ms", "-1", LORANK_SERVE_LATENCY_MS="-2")[0])
    assert "got -2.0" in str(refused("--config", path, LORANK_SERVE_LATENCY_MS="-2")[0])
    assert "got -3.0" in str(refused("--config", path)[0])
    path.write_text('base = "minilm"\nport = "many"')
    assert "--port" in refused("--config", path)[1]


@pytest.mark.parametrize("alias", ["=x", "a=", "", "a\nb"])
def test_aliases_that_say_nothing_are_refused(alias):
    error, _ = refused("--base", "minilm", "--alias", alias)
    assert isinstance(error, UsageError)


def test_pages_of_processes_become_one(tmp_path):
    page = b'# HELP a_total A.\n# TYPE a_total counter\na_total{x="1"} 2.0\n'
    ours, theirs = Peers(tmp_path, 0), Peers(tmp_path, 1)
    theirs.publish(page, {"acme": {"requests": 2}})
    (tmp_path / "2.json").write_text("torn")
    text = ours.page(page).decode()
    assert text.count("# TYPE a_total counter") == 1
    assert 'a_total{worker="0",x="1"} 2.0' in text
    assert 'a_total{worker="1",x="1"} 2.0' in text
    assert ours.usage({"acme": {"requests": 1}}) == {"acme": {"requests": 3}}
    assert sum_counts([]) == {}
