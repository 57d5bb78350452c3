"""deploy/ray_serve.py on a local Ray: the same answers as one process, each tenant at one replica."""

import importlib.util
import socket
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import requests

from lorank.serving.requests.keys import hash_key
from tiny_encoders import DOCUMENTS, QUERY
from tiny_store import TENANTS, make_store

pytest.importorskip("ray.serve")

SOURCE = Path(__file__).resolve().parents[2] / "deploy" / "ray_serve.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("ray_serve", SOURCE)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_tenants_stay_where_they_are_when_a_replica_is_added(module):
    before = {f"t{i}": module.place(f"t{i}", 4) for i in range(1000)}
    after = {tenant: module.place(tenant, 5) for tenant in before}
    moved = [tenant for tenant in before if before[tenant] != after[tenant]]
    assert all(after[tenant] == 4 for tenant in moved)
    assert 120 < len(moved) < 280
    assert min(Counter(before.values()).values()) > 180
    assert module.tenant_of("Bearer a", b"") != module.tenant_of("Bearer b", b"")
    assert module.tenant_of(None, b'{"model": "acme"}') == "acme"
    assert module.tenant_of(None, b"[1]") == module.tenant_of(None, b"{") == ""


@pytest.mark.slow
def test_answers_are_those_of_the_rankers(module, tiny_folders, tmp_path):
    import ray
    from ray import serve

    base = tiny_folders["bert"]
    rankers = make_store(base, tmp_path / "store")
    keys = tmp_path / "keys.txt"
    keys.write_text("".join(f"{name} {hash_key('lr-' + name)} {name}\n" for name in TENANTS))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray.init(num_cpus=4, include_dashboard=False)
    try:
        options = {"kind": "cross-encoder", "max_length": 32, "memory_bytes": 1 << 22}
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(module.build(str(base), str(tmp_path / "store"), str(keys), 2, **options))
        address = f"http://127.0.0.1:{port}/v1/rerank"
        body = {"query": QUERY, "documents": DOCUMENTS, "raw_scores": True}
        for tenant in TENANTS:
            headers = {"Authorization": f"Bearer lr-{tenant}"}
            answer = requests.post(address, json={**body, "model": tenant}, headers=headers, timeout=120)
            assert answer.ok, answer.text
            found = {row["index"]: row["relevance_score"] for row in answer.json()["results"]}
            scores = rankers[tenant].score(QUERY, DOCUMENTS)
            np.testing.assert_allclose([found[i] for i in range(len(DOCUMENTS))], scores, atol=1e-5)
            assert (
                requests.post(address, json={**body, "model": "nobody"}, headers=headers, timeout=120).status_code
                == 404
            )
        assert requests.post(address, json=body, timeout=120).status_code == 401
        assert requests.post(address, data=b"[" * 9_000_000, headers=headers, timeout=120).status_code == 413
    finally:
        serve.shutdown()
        ray.shutdown()
