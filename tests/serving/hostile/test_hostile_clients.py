"""Slow, silent and crowding clients on a server that may open few files: they are sent away, and others are served."""

import contextlib
import socket
import time

import pytest
import requests

from lorank.serving.http.connections import Connections, Stage
from tiny_store import wait_until
from word_engine import bearer
from words_server import words_server

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"GET /hea"
LIMITS = {"headers_s": 1.0, "idle_s": 3.0, "body_s": 2.0, "write_s": 1.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with words_server(tmp_path_factory.mktemp("clients") / "log.txt", files=128, limits=LIMITS) as running:
        yield running
        assert running.log.stat().st_size < 200_000  # nothing that clients do fills the log


BOUND = 120.0
"""Seconds in which each connection has ended, on however busy a machine; without an end they would stay for ever."""


def wait_for_end(client):
    """Read what the server still sends until it closes a connection; an error where it does not."""
    client.settimeout(BOUND)
    with contextlib.suppress(ConnectionError):
        while client.recv(65536):
            pass


def send(client, data):
    """Send data to a server that may have closed the connection meanwhile."""
    with contextlib.suppress(ConnectionError):
        client.sendall(data)


def read_answer(client):
    """Read one answer of /health."""
    got = b""
    while not got.endswith(b"}"):
        got += (more := client.recv(4096))
        assert more, got


def test_half_a_request_is_given_up_on_any_request_of_a_connection(server):
    first, second, piped = server.connect(HALF), server.connect(GET), server.connect(GET + HALF)
    read_answer(second)
    send(second, HALF)
    read_answer(piped)
    for client in (first, second, piped):
        wait_for_end(client)
        client.close()


def is_closed_while_trickling(client):
    """Send a byte now and then; return whether the server put an end to that."""

    def send_fails():
        try:
            client.sendall(b"X")
        except OSError:
            return True
        time.sleep(0.1)
        return False

    return wait_until(send_fails, BOUND)


@pytest.mark.parametrize("before", [b"", GET])
def test_a_trickle_of_bytes_moves_no_deadline(server, before):
    client = server.connect(before)
    if before:
        read_answer(client)
    assert is_closed_while_trickling(client)
    client.close()


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE"])
def test_a_body_that_nobody_reads_has_an_end_too(server, method):
    client = server.connect(method + b" /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    assert is_closed_while_trickling(client)
    client.close()


def test_a_slow_body_is_408_on_a_kept_connection_too(server):
    client = server.connect(GET)
    read_answer(client)
    client.sendall(
        b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    assert b" 408 " in client.recv(4096)
    wait_for_end(client)


def test_an_idle_connection_is_closed(server):
    began = time.monotonic()
    client = server.connect(GET)
    read_answer(client)
    wait_for_end(client)
    assert time.monotonic() - began > 0.9 * LIMITS["idle_s"]  # not at once


def test_a_client_that_reads_nothing_of_its_answer_is_let_go(server):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    body = b'{"query":"q","documents":["' + b"x" * 190_000 + b'"' + (b',"' + b"y" * 190_000 + b'"') * 40 + b"]}"
    head = b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    client.sendall(head % len(body) + body)
    assert wait_until(lambda: server.metric("lorank_connections") <= 1)  # the one that asks
    client.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HALF,
        GET + HALF,
        b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nContent-Type: application/json\r\n\r\n{",
    ],
)
def test_a_crowd_that_holds_every_connection_keeps_nobody_out(server, sent):
    crowd = []
    for _ in range(140):
        try:
            crowd.append(server.connect(sent))
        except OSError:
            continue
    for number in range(5):
        assert server.rerank([f"a {number}"]).ok
    for client in crowd:
        client.close()


def test_a_silent_crowd_leaves_those_that_are_being_answered_alone(tmp_path):
    with words_server(
        tmp_path / "log.txt", files=96, second_a_document=0.01, limits={**LIMITS, "idle_s": 20.0}
    ) as server:
        busy = server.connect()
        body = b'{"query":"q","documents":[' + b",".join(b'"%d"' % i for i in range(500)) + b"]}"
        head = b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        busy.sendall(head % len(body) + body)
        assert wait_until(lambda: server.metric("lorank_waiting_requests"))  # it is being answered
        crowd = [server.connect() for _ in range(80)]
        assert b" 200 " in busy.recv(4096)
        for client in crowd:
            client.close()


def test_connections_of_one_address_are_capped_and_the_idlest_make_room():
    class One:
        def __init__(self, address, stage=Stage.SILENT):
            self.address, self.stage, self.dropped = address, stage, False

        def drop(self):
            self.dropped = True

    caps = Connections(6, 4)
    served = [One("a", Stage.SERVED) for _ in range(3)]
    silent = One("a")
    for one in (served[0], silent, *served[1:]):
        assert caps.add(one)
    sending, last, b = One("a", Stage.SENDING), One("a"), One("b")
    assert caps.add(sending)
    assert silent.dropped
    assert caps.add(last)
    assert sending.dropped
    last.stage = Stage.SERVED
    assert not caps.add(One("a"))
    assert caps.add(b)
    assert caps.add(One("c"))
    assert caps.add(One("d"))  # six in all: the heaviest address has none to give, so another's silent one goes
    assert b.dropped
    for one in [*caps.by_address["a"]]:
        caps.remove(one)
        caps.remove(one)
    assert caps.count == 2


LINES = {
    "not HTTP": b"\x00\xff\r\n\r\n",
    "an upgrade": b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "no key": b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long path": b"GET /" + b"%0a%1b" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "no such method": b"A" * 1000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
}


def test_no_client_without_a_key_fills_the_log(tmp_path):
    log = tmp_path / "log.txt"
    with words_server(log, keyed=True) as server:
        for sent in LINES.values():
            for _ in range(250):
                with server.connect(sent) as client:
                    client.recv(4096)
        assert requests.get(f"{server.address}/v1/models", headers=bearer("acme"), timeout=120).ok
        assert wait_until(lambda: "caller=acme" in log.read_text())
        size, lines = log.stat().st_size, log.read_text().splitlines()
    assert size < 250_000
    assert len(lines) < 1000
    assert all(line[:2] == "20" or line.startswith("    | ") for line in lines)
    assert "caller=acme" in lines[-1]
