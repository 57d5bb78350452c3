"""Federations of real processes over loopback: kills, a poisoned client, and what is on the wire."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lorank.data import write_beir
from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.federated.flower.library import check_address
from lorank.tuned import load_ranker

pytest.importorskip("flwr", reason="Flower (lorank[federated]) is not installed")

LORANK = [sys.executable, "-c", "from lorank.cli import main; main()"]
POISONED = [
    sys.executable,
    "-c",
    "from lorank.federated.client import Client\n"
    "honest = Client.send\n"
    "def send(self):\n"
    "    sent = honest(self)\n"
    "    return {name: self._received[name] - 1000 * (t - self._received[name]) - 1 for name, t in sent.items()}\n"
    "Client.send = send\n"
    "from lorank.cli import main; main()",
]
RECORDING = [
    sys.executable,
    "-c",
    "import os, grpc, itertools\n"
    "from pathlib import Path\n"
    "from flwr.proto import transport_pb2\n"
    "count, folder = itertools.count(), Path(os.environ['WIRE'])\n"
    "plain = transport_pb2.ClientMessage.SerializeToString\n"
    "from flwr.proto import transport_pb2_grpc as made\n"
    "class Recorded(made.FlowerServiceStub):\n"
    "    def __init__(self, channel):\n"
    "        self.Join = channel.stream_stream('/flwr.proto.FlowerService/Join',\n"
    "            request_serializer=self.keep, response_deserializer=transport_pb2.ServerMessage.FromString)\n"
    "    def keep(self, message):\n"
    "        data = plain(message)\n"
    "        (folder / f'{next(count)}.bin').write_bytes(data)\n"
    "        return data\n"
    "import flwr.compat.client.grpc_client.connection as connection\n"
    "connection.FlowerServiceStub = Recorded\n"
    "from lorank.cli import main; main()",
]


@pytest.fixture
def owners(texts: Collection, tmp_path: Path) -> Path:
    for place in "abc":
        write_beir(texts, tmp_path / place)
    return tmp_path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Federation:
    """Processes of one federation, all ended when a test ends."""

    def __init__(self, place: Path, base: Path, method: str, rounds: int, steps: int = 2) -> None:
        self.place, self.base, self.method, self.rounds, self.steps = place, base, method, rounds, steps
        self.port = free_port()
        self.running: list[subprocess.Popen[str]] = []
        self.environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(place / "cache"),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "WIRE": str(place / "wire"),
        }
        (place / "wire").mkdir(exist_ok=True)

    def start(self, command: list[str], *words: Any) -> subprocess.Popen[str]:
        line = [*command, "federate", *map(str, words), "--address", f"127.0.0.1:{self.port}", "--patience", "120"]
        with (self.place / f"{words[0]}-{len(self.running)}.log").open("w") as log:
            process = subprocess.Popen(line, env=self.environment, cwd=self.place, stderr=log, stdout=log, text=True)
        self.running.append(process)
        return process

    def server(self, *words: Any, clients: int = 3) -> subprocess.Popen[str]:
        own = ["--method", self.method, "--rounds", self.rounds, "--steps", self.steps, "--clients", clients]
        model = ["--base", self.base, "--kind", "bi-encoder", "--rank", 4]
        return self.start(LORANK, "server", *own, *model, "--out", self.place / "server", *words)

    def client(self, name: str, *words: Any, command: list[str] | None = None) -> subprocess.Popen[str]:
        own = ["--name", name, "--data", self.place / name, "--base", self.base, "--kind", "bi-encoder", "--rank", 4]
        lists = ["--batch-size", 4, "--negatives", 2, "--method", self.method, "--out", self.place / f"run-{name}"]
        return self.start(command or LORANK, "client", *own, *lists, *words)

    def wait(self, *processes: subprocess.Popen[str]) -> None:
        for process in processes:
            process.wait(timeout=240)
        logs = "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.place.glob("*.log")))
        assert all(process.returncode == 0 for process in processes), logs

    def rounds_done(self) -> int:
        record = self.place / "server" / "federation.json"
        return len(json.loads(record.read_text())["rounds"]) - 1 if record.exists() else -1

    def wait_for_round(self, number: int) -> None:
        until = time.monotonic() + 240
        while self.rounds_done() < number:
            assert time.monotonic() < until, "the round did not end"
            time.sleep(0.05)

    def end(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def federation(owners: Path, tiny_folders: dict[str, Path], request: pytest.FixtureRequest):
    made: list[Federation] = []

    def make(method: str, rounds: int, steps: int = 2) -> Federation:
        made.append(Federation(owners, tiny_folders["bert"], method, rounds, steps))
        return made[-1]

    yield make
    for each in made:
        each.end()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_client_and_the_server_are_killed_and_come_back(federation) -> None:
    """fedex-lora: a client that missed a round gets what was added to the weights meanwhile."""
    run = federation("fedex-lora", 6, 4)
    server = run.server(clients=2)
    clients = {name: run.client(name) for name in "abc"}
    run.wait_for_round(1)
    kill(clients["b"])
    run.wait_for_round(3)
    clients["b"] = run.client("b")
    kill(server)
    server = run.server("--resume", clients=3)
    run.wait(server, *clients.values())
    record = json.loads((run.place / "server" / "federation.json").read_text())
    assert [row["round"] for row in record["rounds"]] == list(range(7))
    assert any("b" not in row["up"] for row in record["rounds"][1:])
    assert "b" in record["rounds"][-1]["up"]
    documents = ["the moon and the earth", "list of words", "query and document"]
    common = load_ranker(run.place / "server" / "model").learned.score("moon earth", documents)
    for name in "abc":
        own = load_ranker(run.place / f"run-{name}").learned.score("moon earth", documents)
        assert own == pytest.approx(common, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "bound"), [("mean", "none"), ("mean", "median")])
def test_a_poisoned_client_is_bounded(method: str, bound: str, federation) -> None:
    run = federation(method, 2)
    server = run.server("--bound", bound)
    clients = [run.client("a"), run.client("b"), run.client("c", command=POISONED)]
    run.wait(server, *clients)
    last = load_file(run.place / "server" / "rounds" / "0002" / "last.safetensors")
    start = load_file(run.place / "server" / "rounds" / "0002" / "start.safetensors")
    moved = max((last[name] - start[name]).abs().max().item() for name in start)
    assert (moved > 0.3) == (bound == "none")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fedsa-lora", "fed-sb", "frl"])
def test_on_the_wire_is_what_the_method_says_and_nothing_else(method: str, federation, texts: Collection) -> None:
    run = federation(method, 1)
    server = run.server()
    clients = [run.client("a", command=RECORDING), run.client("b"), run.client("c")]
    run.wait(server, *clients)
    from flwr.proto.transport_pb2 import ClientMessage

    sent = [ClientMessage.FromString(path.read_bytes()) for path in sorted((run.place / "wire").iterdir())]
    kinds = {message.WhichOneof("msg") for message in sent}
    assert {"get_properties_res", "fit_res"} <= kinds
    allowed = {"fedsa-lora": ("A",), "fed-sb": ("R",), "frl": ("order",)}[method]
    tensors: set[str] = set()
    for message in sent:
        data = message.SerializeToString()
        for text in [*texts.documents[:40], *texts.train.queries.values()]:
            assert text.encode() not in data
        if message.WhichOneof("msg") == "fit_res":
            assert not message.fit_res.metrics
            path = run.place / "message.safetensors"
            path.write_bytes(message.fit_res.parameters.tensors[0])
            tensors |= set(load_file(path))
        if message.WhichOneof("msg") == "get_properties_res":
            assert set(message.get_properties_res.properties) == {"name", "installed", "tensors"}
        if message.WhichOneof("msg") == "evaluate_res":
            assert (message.evaluate_res.loss, len(message.evaluate_res.metrics)) == (0.0, 0)  # exact: copied
    assert tensors
    assert all(name.rpartition(".")[2].rstrip("0123456789") in allowed for name in tensors)
    assert (run.place / "server" / "model").is_dir() == (method != "fedsa-lora")


@pytest.mark.slow
def test_over_tls(federation) -> None:
    run = federation("fed-sb", 1)
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    try:
        subprocess.run(made, cwd=run.place, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    ca, key = run.place / "cert.pem", run.place / "key.pem"
    server = run.server("--ca", ca, "--certificate", ca, "--key", key, clients=2)
    clients = [run.client(name, "--ca", ca) for name in "ab"]
    run.wait(server, *clients)
    assert run.rounds_done() == 1


def test_a_network_without_tls_is_refused() -> None:
    for address in ("127.0.0.1:80", "localhost:80", "[::1]:80"):
        check_address(address, False, False)
    for address in ("0.0.0.0:80", "example.org:80", "[::]:80"):
        with pytest.raises(UsageError, match="--insecure"):
            check_address(address, False, False)
        check_address(address, True, False)
        check_address(address, False, True)
    with pytest.raises(UsageError, match="HOST:PORT"):
        check_address("example.org", True, False)


def test_torch_is_not_seeded_by_a_recipe_for_private_noise() -> None:
    from lorank.federated.open_client import fresh_noise

    torch.manual_seed(0)
    one = torch.randn(3, generator=fresh_noise())
    torch.manual_seed(0)
    assert not torch.equal(one, torch.randn(3, generator=fresh_noise()))
