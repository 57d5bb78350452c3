"""Load on a real `lorank serve` process, over loopback, from a bounded asyncio client.

    python benchmarks/load.py                  # everything; about five minutes on two cores
    python benchmarks/load.py --seconds 3 --requests 500      # a smoke run
    python benchmarks/load.py --only kill

What is shown, each with the claim that it must meet (a claim that fails makes the exit code 1):

    saturation   mixed tenants from more connections than the server can serve: no answer but 200 and 429
    half         half the rate of saturation, at random times: p99 within the latency target that the server was given
    bystanders   the half load again beside a client that streams 20,000 documents and clients that send or read
                 slowly: its p99 stays within the target
    memory       10,000 requests: the process' resident memory grows by less than 5% over the second half
    kill         kill -9 at saturation, restart: every request has its answer or an error, and answers come again

Results go to stdout as JSON lines, progress to stderr. Adapters are random LoRAs of rank 8, made in a temporary
folder, unless --adapters names one.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

WORDS = (
    "sort list dict value key file path open read write line string number loop class method module import test "
    "error raise catch thread lock queue event socket server client request answer time date zone parse print "
    "format table column row index search rank query document score learn train model weight layer"
)

HEAD = "POST {} HTTP/1.1\r\nHost: load\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


@dataclass
class Answer:
    """What came of one request: its status (0: an error on the line), and how long it took in seconds."""

    status: int
    seconds: float
    retry_s: float = 0.0


class Connection:
    """One keep-alive HTTP/1.1 connection that sends one request at a time."""

    def __init__(self, port: int, timeout_s: float = 60.0) -> None:
        self.port, self.timeout_s = port, timeout_s
        self.reader: asyncio.StreamReader | None = None

    async def post(self, path: str, body: bytes, bytes_a_second: float = 0.0) -> Answer:
        """Send a body (slowly, where a speed is given), read the answer, and say what came."""
        began, kept = time.perf_counter(), self.reader is not None
        try:
            async with asyncio.timeout(self.timeout_s):
                try:
                    status, retry = await self._exchange(path, body, bytes_a_second)
                except (ConnectionError, asyncio.IncompleteReadError) as error:
                    if not kept or getattr(error, "partial", b""):
                        raise
                    self.close()  # the server had closed the idle connection: send on a new one, as clients do
                    status, retry = await self._exchange(path, body, bytes_a_second)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            self.close()
            return Answer(0, time.perf_counter() - began)
        return Answer(status, time.perf_counter() - began, retry)

    async def _exchange(self, path: str, body: bytes, bytes_a_second: float) -> tuple[int, float]:
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        self.writer.write(HEAD.format(path, len(body)).encode())
        step = len(body) if not bytes_a_second else max(1, int(bytes_a_second / 10))
        for start in range(0, len(body), step):
            self.writer.write(body[start : start + step])
            await self.writer.drain()
            if bytes_a_second:
                await asyncio.sleep(0.1)
        status, headers = await self._head()
        if headers.get("transfer-encoding") == "chunked":
            while int(size := (await self.reader.readline()).strip() or b"0", 16):
                await self.reader.readexactly(int(size, 16) + 2)
            await self.reader.readline()
        else:
            await self.reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return status, float(headers.get("retry-after", "0"))

    async def _head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(":", 1) for line in lines[1:] if ":" in line)
        return int(lines[0].split()[1]), {name.lower(): value.strip().lower() for name, value in pairs}

    def close(self) -> None:
        """Hang up."""
        if self.reader is not None:
            self.writer.transport.abort()
            self.reader = None


@dataclass
class Server:
    """A `lorank serve` process."""

    base: str
    kind: str
    adapters: Path
    latency_ms: float
    port: int = 0
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Start it and wait until it listens."""
        command = [
            str(Path(sys.executable).with_name("lorank")),
            "serve",
            "--base",
            self.base,
            "--kind",
            self.kind,
            "--adapters",
            str(self.adapters),
            "--port",
            str(self.port),
            "--latency-ms",
            str(self.latency_ms),
            "--quiet",
        ]
        self.process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        said = (await asyncio.wait_for(self.process.stdout.readline(), 120)).decode().strip()
        if not said:
            raise SystemExit("the server did not start")
        self.port = int(said.rpartition(":")[2])

    def resident_mb(self) -> float:
        """Return the process' resident memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

    async def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(with_signal)
        return await self.process.wait()


class Bodies:
    """Requests of mixed tenants: a query and ``documents`` texts of mixed length, never twice the same."""

    def __init__(self, tenants: list[str], documents: int, words: int, seed: int) -> None:
        self.tenants, self.documents, self.words = tenants, documents, words
        self.random, self.serial = random.Random(seed), itertools.count()

    def text(self, words: int) -> str:
        """Return a new text."""
        return " ".join([str(next(self.serial)), *self.random.choices(WORDS.split(), k=words)])

    def one(self, documents: int | None = None, **more: object) -> bytes:
        """Return a request's body."""
        texts = [
            self.text(self.random.randint(self.words // 4, self.words * 7 // 4))
            for _ in range(documents or self.documents)
        ]
        return json.dumps(
            {
                "model": self.random.choice(self.tenants),
                "query": self.text(4),
                "documents": texts,
                "return_documents": False,
                **more,
            }
        ).encode()


async def closed_loop(port: int, bodies: Bodies, connections: int, until: Callable[[], bool]) -> list[Answer]:
    """Send from each connection as soon as its last answer came, until ``until`` says so; wait as 429 asks."""
    answers: list[Answer] = []

    async def send() -> None:
        connection = Connection(port)
        while not until():
            answers.append(await connection.post("/v1/rerank", bodies.one()))
            if answers[-1].status != 200:
                await asyncio.sleep(min(answers[-1].retry_s, 0.5) or 0.05)
        connection.close()

    await asyncio.gather(*(send() for _ in range(connections)))
    return answers


async def open_loop(port: int, bodies: Bodies, rate: float, seconds: float) -> list[Answer]:
    """Send at random times, ``rate`` a second on average, whether answers came or not."""
    free: list[Connection] = []

    async def send() -> Answer:
        connection = free.pop() if free else Connection(port)
        answer = await connection.post("/v1/rerank", bodies.one())
        free.append(connection)
        return answer

    sent, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        sent.append(asyncio.ensure_future(send()))
        await asyncio.sleep(bodies.random.expovariate(rate))
    answers = await asyncio.gather(*sent)
    for connection in free:
        connection.close()
    return answers


def summary(answers: list[Answer]) -> dict[str, object]:
    """Return counts by status and the median and 99th percentile of what was answered, in milliseconds."""
    good = sorted(1000 * a.seconds for a in answers if a.status == 200)
    counts = dict(sorted(Counter(str(a.status) for a in answers).items()))
    return {
        "statuses": counts,
        "p50_ms": round(statistics.median(good), 1) if good else None,
        "p99_ms": round(good[min(len(good) - 1, int(0.99 * len(good)))], 1) if good else None,
    }


@dataclass
class Bench:
    """One run: the server, what is sent, and what was found."""

    server: Server
    bodies: Bodies
    seconds: float
    requests: int
    connections: int
    rate: float = 0.0
    failed: bool = False

    def tell(self, name: str, claim: str, met: bool, **found: object) -> None:
        """Print one result."""
        self.failed |= not met
        print(json.dumps({"test": name, **found, "claim": claim, "met": met}), flush=True)

    async def saturation(self) -> None:
        """No error but 429 when more is asked than can be done."""
        answers = await self._saturate(self.seconds)
        met = {a.status for a in answers} <= {200, 429} and self.rate > 0
        self.tell(
            "saturation",
            "no answer but 200 and 429",
            met,
            connections=self.connections,
            requests_a_second=round(self.rate, 1),
            documents_a_second=round(self.rate * self.bodies.documents),
            **summary(answers),
        )

    async def half(self) -> None:
        """The latency target at half load."""
        await self._half("half", self.seconds, [])

    async def bystanders(self) -> None:
        """The same beside a huge client and slow ones."""
        port = self.server.port
        huge = Connection(port, timeout_s=900).post("/v1/rerank", self.bodies.one(20_000, stream=True))
        slow = [Connection(port).post("/v1/rerank", self.bodies.one(), bytes_a_second=20) for _ in range(8)]
        await self._half("bystanders", self.seconds, [huge, *slow, *(lazy_reader(port, self.bodies) for _ in range(8))])

    async def _half(self, name: str, seconds: float, beside: list[Awaitable[object]]) -> None:
        if not self.rate:
            await self._saturate(max(2.0, seconds / 6))
        tasks = [asyncio.ensure_future(one) for one in beside]
        await asyncio.sleep(1.0 if tasks else 0.0)
        found = summary(await open_loop(self.server.port, self.bodies, self.rate / 2, seconds))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        target = self.server.latency_ms
        self.tell(
            name,
            f"p99 within {target:g} ms, nothing refused",
            set(found["statuses"]) == {"200"} and found["p99_ms"] <= target,
            requests_a_second=round(self.rate / 2, 1),
            **found,
        )

    async def _saturate(self, seconds: float) -> list[Answer]:
        """Send from all connections for a while, and keep the rate of answers."""
        began = time.perf_counter()
        answers = await closed_loop(
            self.server.port, self.bodies, self.connections, lambda: time.perf_counter() > began + seconds
        )
        self.rate = sum(a.status == 200 for a in answers) / (time.perf_counter() - began)
        return answers

    async def memory(self) -> None:
        """Memory over many requests, small ones, so that they are many."""
        small = Bodies(self.bodies.tenants, 2, 8, seed=1)
        resident, sent = [], 0
        for share in (0.5, 0.75, 1.0):
            goal = int(self.requests * share)
            count = itertools.count(sent)
            await closed_loop(self.server.port, small, 8, lambda count=count, goal=goal: next(count) >= goal)
            sent = goal
            resident.append(round(self.server.resident_mb(), 1))
            print(f"  {sent} requests: {resident[-1]} MB", file=sys.stderr)
        self.tell(
            "memory",
            "grows by less than 5% over the second half",
            resident[-1] < 1.05 * resident[0],
            requests=self.requests,
            resident_mb=resident,
        )

    async def kill(self) -> None:
        """kill -9 at saturation: what was sent and not answered is an error at the client, nothing hangs."""
        half = max(2.0, self.seconds / 12)
        over = asyncio.Event()
        load = asyncio.ensure_future(closed_loop(self.server.port, self.bodies, self.connections, over.is_set))
        await asyncio.sleep(half)
        await self.server.stop(signal.SIGKILL)
        killed = time.perf_counter()
        await self.server.start()
        print(f"  back after {time.perf_counter() - killed:.1f} s", file=sys.stderr)
        await asyncio.sleep(half)
        over.set()
        answers = await load
        after = await Connection(self.server.port).post("/v1/rerank", self.bodies.one())
        lost = sum(a.status == 0 for a in answers)
        hung = sum(a.status == 0 and a.seconds > 50 for a in answers)
        self.tell(
            "kill",
            "every request has an answer or an error at once; answers come again",
            after.status == 200 and not hung and {a.status for a in answers} <= {0, 200, 429} and lost > 0,
            sent=len(answers),
            errors=lost,
            hung=hung,
            **summary(answers),
        )


async def lazy_reader(port: int, bodies: Bodies) -> None:
    """Ask for long answers and read none of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    with contextlib.closing(writer):
        body = bodies.one(50)
        body = body.replace(b'"return_documents": false', b'"return_documents": true')
        writer.write(HEAD.format("/v1/rerank", len(body)).encode() + body)
        await reader.read(1)
        await asyncio.sleep(3600)


TESTS = ("saturation", "half", "bystanders", "memory", "kill")


def make_adapters(base: str, kind: str, folder: Path, count: int) -> None:
    """Write random LoRA adapters of rank 8, each with a head of its own."""
    import torch

    from lorank import lowrank
    from lorank.ranking.scorers import RANKERS

    for number in range(count):
        ranker = RANKERS[kind](base)
        adapter = lowrank.attach(
            ranker.module,
            "lora",
            rank=8,
            targets="all-linear",
            seed=number,
            trained=sorted({name.rpartition(".")[0] for name, _ in ranker.head_parameters()}),
        )
        generator = torch.Generator().manual_seed(number)
        for _, parameter in adapter.named_parameters():
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
        adapter.save(folder / f"tenant{number}", base_name=base)
        print(f"  adapter {number + 1} of {count}", file=sys.stderr)


@contextlib.contextmanager
def adapter_folder(arguments: argparse.Namespace) -> Iterator[Path]:
    """Yield the adapters that were named, or new ones in a temporary folder."""
    if arguments.adapters:
        yield arguments.adapters
        return
    with tempfile.TemporaryDirectory() as folder:
        make_adapters(arguments.base, arguments.kind, Path(folder), arguments.tenants)
        yield Path(folder)


async def run(arguments: argparse.Namespace, adapters: Path) -> bool:
    """Start the server, run the tests, and return whether every claim was met."""
    server = Server(arguments.base, arguments.kind, adapters, arguments.latency_ms)
    await server.start()
    tenants = sorted(path.name for path in adapters.iterdir() if path.is_dir())
    bodies = Bodies(tenants, arguments.documents, arguments.words, arguments.seed)
    bench = Bench(server, bodies, arguments.seconds, arguments.requests, arguments.connections)
    try:
        for warm in tenants:
            await Connection(server.port).post("/v1/rerank", Bodies([warm], 2, 8, seed=2).one())
        for name in arguments.only or TESTS:
            print(name, file=sys.stderr)
            await getattr(bench, name)()
    finally:
        code = await server.stop()
        bench.tell("stop", "exit code 0 after SIGTERM", code == 0, code=code)
    return not bench.failed


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--kind", default="cross-encoder", choices=("cross-encoder", "bi-encoder"))
    parser.add_argument("--adapters", type=Path, help="a folder of adapters; default: random ones")
    parser.add_argument("--tenants", type=int, default=16, help="random adapters to make")
    parser.add_argument("--seconds", type=float, default=60.0, help="of saturation, half load and bystanders, each")
    parser.add_argument("--requests", type=int, default=10_000, help="of the memory test")
    parser.add_argument("--connections", type=int, default=64, help="of the saturation test")
    parser.add_argument("--documents", type=int, default=10, help="of one request")
    parser.add_argument("--words", type=int, default=40, help="of one document, on average")
    parser.add_argument("--latency-ms", type=float, default=1000.0, help="the target that the server is given")
    parser.add_argument("--only", nargs="*", choices=TESTS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with adapter_folder(arguments) as adapters:
        sys.exit(0 if asyncio.run(run(arguments, adapters)) else 1)


if __name__ == "__main__":
    main()
