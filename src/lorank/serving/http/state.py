"""The routes that say how the server is: models, health, metrics, usage."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, Request, Response, Security
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer

from lorank import __version__
from lorank.serving.http.peers import EVERY_S, Peers
from lorank.serving.requests.keys import Caller
from lorank.serving.requests.metrics import Value
from lorank.serving.requests.service import Service

PAGE_S = 0.25
"""The metrics page is made at most once in so many seconds, however many ask for it."""
COUNTED_S = 10.0
"""The store's adapters are counted for the page at most once in so many seconds."""


def add_state(app: FastAPI, service: Service, page: "MetricsPage") -> None:
    """Add the routes."""

    @app.get("/v1/models", dependencies=[Security(HTTPBearer(auto_error=False))])
    async def models(request: Request) -> dict[str, Any]:
        """List the base and the adapters that the caller may call, and the further names of those."""
        caller, base = request.state.caller, service.engine.base_name
        names = [None, *await service.adapters(caller)]
        rows = [model_row(service.model_name(name), base, None if name is None else base) for name in names]
        about = getattr(service.engine, "about", None)
        if about is not None:
            for row, name in zip(rows[1:], names[1:], strict=True):
                row["lorank"] = about(name)
        known = {base, *(name for name in names if name)}
        rows += [
            model_row(alias, base, base)
            for alias, model in sorted(service.aliases.items())
            if not model or model.removeprefix(f"{base}:") in known
        ]
        return {"object": "list", "data": rows}

    @app.get("/v1/usage", dependencies=[Security(HTTPBearer(auto_error=False))])
    async def usage(request: Request) -> dict[str, Any]:
        """Tell what the caller's key has used since the server started; a key that opens everything sees all keys."""
        return {"object": "usage", "data": page.usage(request.state.caller)}

    @app.get("/health")
    async def health() -> JSONResponse:
        """Tell whether requests are taken: 200, or 503 where the server is about to stop."""
        stopping = service.batcher.stopping
        return JSONResponse({"status": "stopping" if stopping else "ok"}, 503 if stopping else 200)

    @app.get("/health/live")
    async def live() -> JSONResponse:
        """Tell that the process answers at all; 200 also while it stops."""
        return JSONResponse({"status": "ok"})

    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        """Tell whether the scorer answers within its deadline: 200, or 503 where it does not, or the server stops."""
        if await service.batcher.is_ready():
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "stopping" if service.batcher.stopping else "scorer late"}, 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Give the counters in Prometheus' text format; no caller or adapter is named unless the operator allows it."""
        return Response(await page.text(), media_type="text/plain; version=0.0.4")


def model_row(name: str, base: str, parent: str | None) -> dict[str, Any]:
    """Return one model as OpenAI's clients list it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "lorank", "root": base, "parent": parent}


class MetricsPage:
    """The page of /metrics, made once for all who ask at the same time; ``names`` lets it name keys and adapters."""

    def __init__(self, service: Service, names: bool = False, peers: Peers | None = None) -> None:
        self.service, self.names, self.peers = service, names, peers
        self.made: bytes = b""
        self.made_at = float("-inf")
        self.adapters = 0
        service.metrics.gather(self.values, {"version": __version__, "base": service.engine.base_name})

    async def text(self) -> bytes:
        """Return the page, at most `PAGE_S` old."""
        self.adapters = len(await self.service.list_adapters(COUNTED_S))
        if time.monotonic() - self.made_at > PAGE_S:
            own = self.service.metrics.text()
            self.made = own if self.peers is None else await asyncio.to_thread(self.peers.page, own)
            self.made_at = time.monotonic()
        return self.made

    async def publish(self) -> None:
        """Lay down this process' counts for the others every second; end at once where there are none."""
        while self.peers is not None:
            counts = self.service.usage.counts()
            await asyncio.to_thread(self.peers.publish, self.service.metrics.text(), counts)
            await asyncio.sleep(EVERY_S)

    def usage(self, caller: Caller) -> dict[str, dict[str, float]]:
        """Return what a caller may see of all processes' usage: its own; everybody's if it may call everything."""
        counts = self.service.usage.counts()
        counts = counts if self.peers is None else self.peers.usage(counts)
        return {name: used for name, used in sorted(counts.items()) if caller.adapters is None or name == caller.name}

    def values(self) -> Iterator[Value]:
        """Return what others count."""
        service, queue, cache = self.service, self.service.batcher.queue, self.service.cache
        yield Value("cache_hits", "Documents whose score was known.", cache.hits, counts=True)
        yield Value("cache_misses", "Documents whose score was not known.", cache.misses, counts=True)
        yield Value("cache_entries", "Scores in the cache.", len(cache))
        yield Value("waiting_requests", "Requests that wait to be scored.", queue.count)
        yield Value("waiting_tenants", "Tenants whose requests wait.", len(queue.tenants))
        counts = {tenant.name: float(tenant.count) for tenant in queue.tenants.values()}
        yield Value("waiting_requests_of_one", "The most that wait of one tenant.", max(counts.values(), default=0))
        yield Value("speed", "Estimated tokens scored a second, lately.", service.batcher.speed or 0.0)
        yield Value("adapters", "Adapters that can be asked for.", self.adapters)
        if service.connections is not None:
            open_ones = service.connections
            yield Value("connections", "Open connections.", open_ones.count)
            closed = {"refused": open_ones.refused, "crowded": open_ones.dropped, "late": open_ones.late}
            yield Value("connections_closed", "Connections that were not let be, and why.", closed, "why", counts=True)
        for name, (what, value) in occupancy(service.engine).items():
            yield Value(name, what, value, counts=name in ("adapter_loads", "adapter_evictions"))
        if self.names:
            yield Value("tenant_waiting_requests", "Requests that wait, by tenant.", counts, "tenant")
            used = service.usage.by_name
            for field, what in (("requests", "Requests"), ("documents", "Documents"), ("tokens", "Tokens read")):
                parts = {name: float(getattr(one, field)) for name, one in used.items()}
                yield Value(f"key_{field}", f"{what} by key.", parts, "key", counts=True)


def occupancy(engine: object) -> dict[str, tuple[str, float]]:
    """Return what an engine says of its memory, by the metric's name; nothing where it keeps no adapters."""
    count = getattr(engine, "occupancy", None)
    if count is None:
        return {}
    found = count()
    return {
        "adapters_resident": ("Adapters in memory.", found["loaded"]),
        "adapter_bytes": ("Memory of adapters in bytes.", found["memory_bytes"]),
        "adapter_bytes_limit": ("Memory that adapters may take in bytes.", found["memory_limit_bytes"]),
        "adapter_loads": ("Adapters that were read.", found["loads"]),
        "adapter_evictions": ("Adapters that left memory for others.", found["evictions"]),
    }
