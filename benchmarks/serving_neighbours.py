"""A quiet tenant beside others: what its requests take on one `lorank serve` while the others do their worst.

    python benchmarks/serving.py --beside              five minutes; on a machine that does nothing else

One real server on MiniLM, keys for each tenant, no cache. The quiet tenant sends lists of 30 documents, one after
another. It is measured alone and beside each neighbour in turn; a neighbour's clients are a process of their own, whose
requests were written before, but they use the processor that the server uses:

    a  a flood: 24 threads of one other tenant, lists of 100 documents
    b  a streamed list of 20,000 documents of another tenant, and the next as soon as it ends
    c  128 slow clients: half of them send headers byte by byte, half a body
    d  40 reloads a minute of another tenant's adapter, which is asked after each
    e  hostile folders in the store: a tensor name of dots, patterns without end, torn files; asked for all the time

What is to be shown: p99 beside a neighbour at most twice the p99 alone, plus a batch; and no refusal.
"""

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WORDS = [f"word{i}" for i in range(5000)]
QUIET_S, ALONE_S = 30.0, 15.0
QUESTION = {"query": "which words", "return_documents": False}
TENANTS = ("quiet", "flood", "long", "reload", "hostile")


@dataclass
class Seen:
    """What the quiet tenant saw: seconds of answers, and statuses of refusals."""

    seconds: list[float] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Return a quantile of the answers' milliseconds."""
        return 1000 * float(np.quantile(self.seconds, share)) if self.seconds else float("nan")


@dataclass
class Server:
    """A running process, the keys of its tenants, and the folder of its adapters."""

    port: int
    keys: dict[str, str]
    store: Path

    def ask(self, tenant: str, documents: list[str], **more: object) -> int:
        """Ask for a list as a tenant; return the status once the whole answer is here."""
        return self.send(tenant, json.dumps({**QUESTION, "documents": documents, **more}).encode())

    def send(self, tenant: str, body: bytes) -> int:
        """Send a request that is written already; return the status once the whole answer is here."""
        headers = {"Authorization": f"Bearer {self.keys[tenant]}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", "/v1/rerank", body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def batch_ms(self) -> tuple[float, float]:
        """Return the sum and the count of the batches so far."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/metrics")
        rows = connection.getresponse().read().decode().splitlines()
        connection.close()
        found = {row.split()[0]: float(row.split()[1]) for row in rows if row.startswith("lorank_batch_seconds_")}
        return 1000 * found["lorank_batch_seconds_sum"], found["lorank_batch_seconds_count"]


def texts(count: int, words: int = 25) -> list[str]:
    """Return texts that were never sent before."""
    return [f"{random.random():.12f} {' '.join(random.choices(WORDS, k=words))}" for _ in range(count)]


def write_adapter(folder: Path, seed: int) -> None:
    """Write a random LoRA of rank 8 for MiniLM, whole at once."""
    draft, draws = folder.with_name(f".{folder.name}"), np.random.default_rng(seed)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    layers = [f"encoder.layer.{i}.attention.self.{name}" for i in range(6) for name in ("query", "value")]
    tensors = {}
    for layer in layers:
        tensors[f"base_model.model.{layer}.lora_A.weight"] = draws.normal(0, 0.02, (8, 384)).astype(np.float32)
        tensors[f"base_model.model.{layer}.lora_B.weight"] = draws.normal(0, 0.02, (384, 8)).astype(np.float32)
    save_file(tensors, draft / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["query", "value"]}
    (draft / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "minilm"}))
    if folder.exists():
        for path in draft.iterdir():
            path.replace(folder / path.name)
        shutil.rmtree(draft)
    else:
        draft.rename(folder)


@contextmanager
def serving() -> Iterator[Server]:
    """Start the server on a store of one adapter a tenant."""
    with tempfile.TemporaryDirectory() as home:
        store, keys, command = (
            Path(home) / "store",
            Path(home) / "keys.txt",
            str(Path(sys.executable).with_name("lorank")),
        )
        for seed, tenant in enumerate(TENANTS):
            write_adapter(store / tenant, seed)
        drawn = {}
        for tenant in TENANTS:
            adapters = "*" if tenant == "hostile" else tenant
            made = [command, "key", tenant, "--keys", str(keys), "--adapters", adapters]
            drawn[tenant] = subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()
        options = ["--base", "minilm", "--adapters", str(store), "--keys", str(keys), "--port", "0", "--cache-mb", "0"]
        process = subprocess.Popen(
            [command, "serve", *options, "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            said = process.stdout.readline() if process.stdout else ""
            yield Server(int(said.strip().rpartition(":")[2]), drawn, store)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def measure(server: Server, seconds: float) -> Seen:
    """Send the quiet tenant's lists for a while."""
    seen, end = Seen(), time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        status = server.ask("quiet", texts(30), model="quiet")
        if status == 200:
            seen.seconds.append(time.perf_counter() - began)
        else:
            seen.refused.append(status)
        time.sleep(0.05)
    return seen


@contextmanager
def neighbours(server: Server, name: str) -> Iterator[None]:
    """Run a neighbour's clients as a process of their own while the block runs; they are at work when it begins."""
    given = json.dumps({"port": server.port, "keys": server.keys, "store": str(server.store)})
    process = subprocess.Popen([sys.executable, __file__, name, given], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def be_neighbour(name: str, given: str) -> None:
    """Repeat a neighbour's work in its threads until the process is killed; what fails is tried again."""
    facts = json.loads(given)
    server = Server(facts["port"], facts["keys"], Path(facts["store"]))
    _, work, count = NEIGHBOURS[name]
    flood_bodies()
    long_bodies()

    def repeat() -> None:
        while True:
            try:
                work(server)
            except (OSError, http.client.HTTPException):  # the server has closed the connection
                time.sleep(0.05)

    for _ in range(count):
        threading.Thread(target=repeat, daemon=True).start()
    time.sleep(2)
    print("at work", flush=True)
    threading.Event().wait()


def flood(server: Server) -> None:
    """Neighbour a."""
    if server.send("flood", random.choice(flood_bodies())) != 200:
        time.sleep(0.05)


def long_list(server: Server) -> None:
    """Neighbour b."""
    server.send("long", long_bodies()[0])


@cache
def flood_bodies() -> list[bytes]:
    """Return the requests of neighbour a."""
    lists = [texts(100) for _ in range(200)]
    return [json.dumps({**QUESTION, "documents": documents, "model": "flood"}).encode() for documents in lists]


@cache
def long_bodies() -> list[bytes]:
    """Return the request of neighbour b."""
    return [json.dumps({**QUESTION, "documents": texts(20_000), "model": "long", "stream": True}).encode()]


def slow_client(server: Server) -> None:
    """Neighbour c: one client, closed by the server sooner or later."""
    head = b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n" % server.keys["flood"].encode()
    body = random.random() < 0.5
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        rest = b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{" if body else b""
        client.sendall(head + rest)
        for _ in range(30):
            client.sendall(b" " if body else b"X")
            time.sleep(0.5)


def reload(server: Server) -> None:
    """Neighbour d."""
    write_adapter(server.store / "reload", random.randrange(10**6))
    server.ask("reload", texts(3), model="reload")
    time.sleep(60 / 40)


def hostile(server: Server) -> None:
    """Neighbour e."""
    name = f"h{random.randrange(10**9)}"
    folder = server.store / name
    shutil.copytree(server.store / "hostile", folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    trick = random.randrange(3)
    if trick == 0:
        save_file({"base_model.model." + "." * 60_000: np.zeros(1, np.float32)}, folder / "adapter_model.safetensors")
    elif trick == 1:
        config["rank_pattern"] = {f"encoder.layer.{i}.x": 4 for i in range(20_000)}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    else:
        weights = folder / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    for _ in range(5):
        server.ask("hostile", texts(2), model=name)
        time.sleep(0.2)
    shutil.rmtree(folder)


NEIGHBOURS: dict[str, tuple[str, Callable[[Server], None], int]] = {
    "a": ("a flood of 24 threads", flood, 24),
    "b": ("a list of 20,000 documents", long_list, 1),
    "c": ("128 slow clients", slow_client, 128),
    "d": ("40 reloads a minute", reload, 1),
    "e": ("hostile folders", hostile, 1),
}


def report(quiet_s: float = QUIET_S, alone_s: float = ALONE_S, chosen: Sequence[str] = tuple(NEIGHBOURS)) -> int:
    """Measure, print the table, and return how many neighbours broke what was to be shown."""
    rows, alone = [], Seen()
    with serving() as server:
        measure(server, 5)  # the speed is learned
        for name in chosen:
            what = NEIGHBOURS[name][0]
            print(f"{name}: {what}", file=sys.stderr, flush=True)
            own = measure(server, alone_s)
            alone.seconds += own.seconds
            alone.refused += own.refused
            before = server.batch_ms()
            with neighbours(server, name):
                seen = measure(server, quiet_s)
            after = server.batch_ms()
            rows.append((name, what, seen, (after[0] - before[0]) / max(after[1] - before[1], 1)))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; lists of 30 documents, {quiet_s:.0f} s each\n")
    print("| beside | answers | p50, ms | p99, ms | refused | p99 / alone | mean batch, ms | bound, ms |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    print(f"| nobody | {len(alone.seconds)} | {alone.quantile(0.5):.0f} | {alone.quantile(0.99):.0f} "
          f"| {len(alone.refused)} | 1 | | |")  # fmt: skip
    broken = 0
    for name, what, seen, batch in rows:
        bound = 2 * alone.quantile(0.99) + batch
        broken += bool(seen.refused) or not seen.quantile(0.99) <= bound
        print(
            f"| {name}: {what} | {len(seen.seconds)} | {seen.quantile(0.5):.0f} | {seen.quantile(0.99):.0f} "
            f"| {len(seen.refused)} | {seen.quantile(0.99) / alone.quantile(0.99):.2f} | {batch:.0f} | {bound:.0f} |"
        )
    return broken


if __name__ == "__main__":
    be_neighbour(*sys.argv[1:])
