"""The rerank API on a Ray cluster: the same application on several machines, tenants routed to where their adapter is.

    pip install 'lorank[serve,minilm,cluster]' 'ray[serve]'
    LORANK_BASE=minilm LORANK_ADAPTERS=s3://bucket/adapters serve run ray_serve:app        # from this folder

A front takes requests and passes each on, whole, to a replica that it chooses by the tenant: by rendezvous hashing of
the key (or of the model that is asked, where there is no key), so that the same replica sees a tenant's requests, holds
its adapter and its known scores, and shares fairly between tenants. Where replicas come or go, only their own tenants
move. Every replica is the application of `lorank serve`, with its checks of keys and bodies and its limits.
"""

import asyncio
import hashlib
import json
import os
from typing import Any

from ray import serve
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

REPLICAS = int(os.environ.get("LORANK_REPLICAS", "2"))
MOST_BYTES = int(os.environ.get("LORANK_MAX_BODY_BYTES", str(8 << 20)))


def place(tenant: str, replicas: int) -> int:
    """Return the number of the replica for a tenant: the one with the largest hash of both (rendezvous hashing).

    >>> [place("acme", 3) == place("acme", 3), {place(f"t{i}", 4) for i in range(100)} == {0, 1, 2, 3}]
    [True, True]
    """
    return max(range(replicas), key=lambda one: hashlib.blake2b(f"{one} {tenant}".encode(), digest_size=8).digest())


def tenant_of(authorization: str | None, body: bytes) -> str:
    """Return what a request is routed by: its key, else the model that it names."""
    if authorization:
        return hashlib.sha256(authorization.encode()).hexdigest()
    try:
        return str(json.loads(body).get("model", ""))
    except (ValueError, AttributeError, RecursionError):
        return ""


@serve.deployment(ray_actor_options={"num_cpus": 1})
class Replica:
    """One process with the base and the adapters of its tenants."""

    def __init__(self, base: str, adapters: str | None, keys: str | None, options: dict[str, Any]) -> None:
        from lorank.serving.http.app import make_app
        from lorank.serving.requests.keys import open_keys
        from lorank.serving.start import open_engine

        self.application = make_app(open_engine(base, adapters, **{"isolated": True, **options}), open_keys(keys))
        self.started = False

    async def answer(self, scope: dict[str, Any], body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Return the status, headers and body of the application's answer."""
        if not self.started:
            self.started = True
            self.application.service.batcher.start()
        status, headers, parts, given = 500, [], [], False

        async def receive() -> dict[str, Any]:
            nonlocal given
            if given:
                await asyncio.Event().wait()  # the client stays until it has its answer
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message["headers"])
            parts.append(message.get("body", b""))

        await self.application({"type": "http", "state": {}, **scope}, receive, send)
        return status, headers, b"".join(parts)

    async def check_health(self) -> None:
        """Raise where the scorer does not answer within its deadline: Ray then replaces this replica."""
        if self.started and not await self.application.service.batcher.is_ready():
            raise RuntimeError("the scorer is late")


@serve.deployment
class Front:
    """Reads requests and passes them on by tenant."""

    def __init__(self, *replicas: Any) -> None:
        self.replicas = replicas

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    message = f"the body has more than {MOST_BYTES} bytes; send fewer documents at a time"
                    return JSONResponse({"error": message, "message": message, "detail": message}, 413)
        except ClientDisconnect:
            return Response(status_code=499)
        scope = {
            "method": request.method,
            "path": request.url.path,
            "raw_path": request.url.path.encode(),
            "query_string": request.url.query.encode(),
            "headers": list(request.headers.raw),
            "http_version": "1.1",
            "scheme": "http",
            "server": None,
            "root_path": "",
            "client": tuple(request.client) if request.client else None,
        }
        tenant = tenant_of(request.headers.get("authorization"), bytes(body))
        chosen = self.replicas[place(tenant, len(self.replicas))]
        status, headers, answer = await chosen.answer.remote(scope, bytes(body))
        response = Response(answer, status)
        response.raw_headers = headers
        return response


def build(
    base: str,
    adapters: str | None = None,
    keys: str | None = None,
    replicas: int = REPLICAS,
    **options: Any,
) -> serve.Application:
    """Return the application; ``options`` are those of `lorank.serving.start.open_engine`."""
    own = [Replica.options(name=f"replica-{n}").bind(base, adapters, keys, options) for n in range(replicas)]
    return Front.bind(*own)


if "LORANK_BASE" in os.environ:
    app = build(os.environ["LORANK_BASE"], os.environ.get("LORANK_ADAPTERS"), os.environ.get("LORANK_KEYS"))
