"""Long runs on a real process: what a schema allows for five minutes, and twenty thousand steady requests."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from words_server import words_server

pytestmark = pytest.mark.slow
CHECKS = (schemathesis.checks.not_a_server_error, schemathesis.checks.status_code_conformance)


def test_five_minutes_of_whatever_the_schema_allows_find_no_fault_and_no_leak(tmp_path):
    with words_server(tmp_path / "log.txt", limits={"documents": 20, "cache_bytes": 1 << 20}) as server:
        schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
        operations = [operation.ok() for operation in schema.get_all_operations()]
        began, grown, turn = time.monotonic(), [], 0
        while time.monotonic() - began < 300:
            operation = operations[turn % len(operations)]
            turn += 1

            @given(case=operation.as_strategy())
            @settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            def one(case):
                case.validate_response(case.call(base_url=server.address), checks=CHECKS)

            one()
            grown.append(server.megabytes("VmRSS:"))
        assert server.metric("lorank_failures_total") == 0
        assert server.metric("lorank_connections") <= 3
    assert turn >= len(operations)
    third = len(grown) // 3
    assert grown[-1] < 1.1 * max(grown[: third + 1])


def test_twenty_thousand_steady_requests_take_no_more_memory_than_two_thousand(tmp_path):
    with words_server(tmp_path / "log.txt", limits={"cache_bytes": 1 << 20}) as server:

        def send(numbers):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
            for number in numbers:
                body = {"query": f"a b c {number}", "documents": [f"a document {number} {i}" for i in range(10)]}
                connection.request("POST", "/v1/rerank", json.dumps(body), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                assert answer.status == 200
                answer.read()
            connection.close()

        def memory_after(first, last):
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(send, [range(start, last, 4) for start in range(first, first + 4)]))
            return server.megabytes("VmRSS:")

        early, late = memory_after(0, 2000), memory_after(2000, 20_000)
    assert late < 1.03 * early
