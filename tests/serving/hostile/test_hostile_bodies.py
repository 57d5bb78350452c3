"""Bodies that cost more than they look: refused in words, while the server goes on answering others."""

import contextlib
import json
import threading

import pytest
import requests

from lorank.serving.requests.body import check_counts, outside_strings, read_request
from lorank.serving.requests.limits import Limits
from lorank.serving.requests.refusal import Refusal
from lorank.serving.requests.schemas import EITHER
from words_server import words_server

MIB = 1 << 20
LIST = b'{"query":"q","documents":['
BODIES = {
    "numbers": LIST + b"1," * (4 * MIB - 100) + b"1]}",
    "numbers within the cap": LIST + b"1," * 390_000 + b"1]}",
    "objects": LIST + b"{}," * (2 * MIB) + b"{}]}",
    "objects within the cap": LIST + b"{}," * 190_000 + b"{}]}",
    "empty strings": LIST + b'"",' * (2 * MIB) + b'""]}',
    "lists": LIST + b"[]," * (2 * MIB) + b"[]]}",
    "depth": b"[" * (8 * MIB - 1),
    "depth in a field": b'{"query":"q","documents":["a"],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a long number": LIST + b'"a"],"top_n":' + b"9" * (8 * MIB - 100) + b"}",
    "a long fraction": LIST + b'"a"],"top_n":1.' + b"9" * 100_000 + b"}",
    "unknown fields": b"{" + b",".join(b'"k%d":0' % i for i in range(500_000)) + b"}",
    "one unknown list": LIST + b'"a"],"more":[' + b"0," * (3 * MIB) + b"0]}",
    "texts": b'{"query":"q","texts":[' + b"1," * (3 * MIB) + b"1]}",
    "backslashes": LIST + b'"' + b"\\\\" * (4 * MIB - 100) + b'"]}',
    "half a string": LIST + b'"' + b"x" * (8 * MIB - 100),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with words_server(tmp_path_factory.mktemp("bodies") / "log.txt") as running:
        yield running


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
@pytest.mark.parametrize("name", BODIES)
def test_costly_bodies_are_refused_while_others_are_answered(server, name, path):
    if path != "/rerank" and name not in ("numbers", "objects within the cap"):
        pytest.skip("one path is enough for the others")
    answers = []

    def send():
        headers = {"Content-Type": "application/json"}
        answers.append(requests.post(server.address + path, data=BODIES[name], headers=headers, timeout=120))

    usual = max(server.health() for _ in range(5))
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    slowest = 0.0
    while sender.is_alive():
        slowest = max(slowest, server.health())
        sender.join(0.02)
    assert answers[0].status_code in (400, 413), answers[0].text
    assert 0 < len(answers[0].json()["message"]) < 500
    assert slowest < max(20, 200 * usual)  # it was 48 s, where 5 ms were usual


CHUNKED = b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(body, size):
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_a_body_of_a_million_tiny_chunks_is_refused_at_once_while_others_are_answered(server):
    answers, slowest = [], 0.0

    def send():
        client = server.connect(CHUNKED)
        with contextlib.suppress(OSError):  # closed by the server
            for _ in range(200):
                client.sendall(b"1\r\n \r\n" * 5000)
        with contextlib.suppress(OSError):
            answers.append(client.recv(1 << 16))
        client.close()

    usual = max(server.health() for _ in range(5))
    senders = [threading.Thread(target=send, daemon=True) for _ in range(4)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        slowest = max(slowest, server.health())
    assert slowest < usual + 3.0
    assert all(b"tiny_chunks" in answer for answer in answers if answer)


@pytest.mark.parametrize(("documents", "size"), [(3, 1), (40, 16), (900, 200)])
def test_a_body_in_chunks_of_any_ordinary_size_is_read(server, documents, size):
    body = json.dumps({"query": "a b", "documents": [f"word {i} a" for i in range(documents)]}).encode()
    client = server.connect(CHUNKED.replace(b"Host: x", b"Host: x\r\nConnection: close") + chunked(body, size))
    answer = b""
    while piece := client.recv(1 << 16):
        answer += piece
    assert answer.startswith(b"HTTP/1.1 200"), answer[:200]


def test_many_costly_bodies_at_once_take_bounded_memory(server):
    names = ["numbers within the cap", "objects within the cap", "unknown fields", "empty strings"] * 4

    def send(name):
        headers = {"Content-Type": "application/json"}
        assert (
            requests.post(server.address + "/rerank", data=BODIES[name], headers=headers, timeout=120).status_code
            >= 400
        )

    senders = [threading.Thread(target=send, args=(name,), daemon=True) for name in names]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(120)
        assert not sender.is_alive()
    server.health()
    assert server.megabytes() < 1000  # it was 1,400 for one of them, of a mebibyte


@pytest.mark.parametrize(
    "text",
    ['{"a": "b"}', '{"a\\"[": ["\\\\", "x, {"]}', '["\\\\\\"", 1]', '"\\u005b["', "[]", "", '{"\\\\": 1, "é{": ","}'],
)
def test_counts_are_those_of_the_parsed_text(text):
    def count(value):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return [*inner, *(one for part in inner for one in count(part))]

    plain = outside_strings(text.encode())
    if not text:
        assert plain == b""
        return
    value = json.loads(text)
    assert plain.count(b",") + plain.count(b"[") + plain.count(b"{") >= len(count(value))
    assert plain.count(b"[") == plain.count(b"]")
    assert plain.count(b"{") == plain.count(b"}")


def test_counting_stops_before_anything_is_built():
    limits = Limits(elements=10, depth=3)
    check_counts(b'{"query":"a,b,c,d,e,f,g,h,i,j,k,l[[[[[","documents":["a","b"]}', limits)
    for body, code in (
        (b"[" + b"1," * 10 + b"1]", "too_many_elements"),
        (b"[[[[1]]]]", "too_deep"),
        (b'{"top_n":' + b"1" * 101 + b"}", "long_number"),
    ):
        with pytest.raises(Refusal) as refused:
            read_request(EITHER, body, limits)
        assert refused.value.code == code


def test_the_first_wrong_element_ends_the_validation():
    with pytest.raises(Refusal) as refused:
        read_request(EITHER, LIST + b'"good",' * 1000 + b"1," * 1000 + b"1]}", Limits())
    assert refused.value.message.count("documents.") <= 2
    assert "documents.1000" in refused.value.message


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_encoding_of_json_is_read(encoding):
    body = json.dumps({"query": "é", "documents": ["中"]}, ensure_ascii=False).encode(encoding)
    assert read_request(EITHER, body, Limits()).documents == ["中"]
