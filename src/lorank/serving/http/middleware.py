"""What every request passes first: an id, a key, a bounded body; and what every response takes along.

An ASGI layer around the application. Keys are checked before a byte of the body is read, bodies are read with a bound
on their size and time, and nothing that happens further in leaves as a 500.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lorank.serving.http.tracing import Tracer
from lorank.serving.requests.keys import ANYBODY, Keys, NoKeys
from lorank.serving.requests.overload import HOLD_S, Overloads
from lorank.serving.requests.record import RequestRecord
from lorank.serving.requests.refusal import Refusal, quote
from lorank.serving.requests.service import Service

logger = logging.getLogger("lorank.serving")

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"})
"""Paths that ask for no key; none of them names a caller or an adapter."""
OWN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
PIECE = 64 << 10
"""Bytes of an answer that are handed to the connection at a time."""
DISCARD_S = 2.0
"""Seconds to keep discarding an oversized body, so that the client can read the error."""


class RequestMiddleware:
    """The layer around ``app``; metrics name the paths in ``routes``, and others together.

    ``active`` is the number of requests that are not answered yet, ``held`` the bytes of their bodies and answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        keys: Keys | NoKeys,
        routes: frozenset[str],
        tracer: Tracer | None = None,
    ) -> None:
        self.app, self.service, self.keys, self.routes, self.tracer = app, service, keys, routes, tracer
        self.limits, self.metrics = service.limits, service.metrics
        self.active = 0
        self.memory, self.overloads = Shares(self.limits.held_bytes), Overloads()

    @property
    def stopping(self) -> bool:
        """True where the server is about to stop."""
        return self.service.batcher.stopping

    @property
    def held(self) -> int:
        """Bytes of all bodies and answers that are held now."""
        return self.memory.held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self)
        self.active += 1
        try:
            await self._admitted(exchange)
        except Refusal as refusal:
            self.metrics.refusals.labels(refusal.code).inc()
            exchange.record.refusal = refusal
            response = refusal.response(exchange.request_id)
            response.headers["Connection"] = "close"  # there may be more of the body to come, which nobody reads
            await response(scope, receive, exchange.send)
        except ClientGone:
            exchange.status = 499
        except Exception:
            self.metrics.failures.inc()
            logger.exception("request %s failed", exchange.request_id)
            if not exchange.status:
                await fault().response(exchange.request_id)(scope, receive, exchange.send)
        finally:
            self.active -= 1
            self.memory.give(exchange.tenant, exchange.held)
            self._note(exchange)

    async def _admitted(self, exchange: "Exchange") -> None:
        scope, headers = exchange.scope, exchange.headers
        if scope["path"] not in OPEN_PATHS:
            caller = scope["state"]["caller"] = self.keys.caller(headers.get("authorization"))
            exchange.tenant = caller.name or exchange.tenant
            exchange.known = not isinstance(self.keys, NoKeys)
            self.service.rates.take_request(caller)
        scope["state"]["tenant"] = exchange.tenant
        if scope["method"] != "POST":
            await self.app(scope, exchange.receive, exchange.send)
            return
        if self.stopping:
            raise Refusal(
                503, "stopping", "this server is about to stop; send the request again, to another one or in a while", 2
            )
        check_type(headers)
        await self._refuse_early(exchange)
        body = await self._read(exchange)
        await self.app(scope, replay(body, exchange.receive), exchange.send)
        refusal = exchange.record.refusal  # the application has answered with it
        if refusal is not None and exchange.known:
            self.overloads.note(exchange.tenant, len(body), refusal)

    async def _refuse_early(self, exchange: "Exchange") -> None:
        """Refuse, unread, what comes before the Retry-After of its key's last refusal has passed.

        A body that does not say how long it is may be as long as any.
        """
        length = exchange.headers.get("content-length", "")
        size = int(length[:20]) if length.isdigit() else self.limits.body_bytes
        refusal = self.overloads.of(exchange.tenant, size)
        if refusal is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_gone(exchange.receive), HOLD_S)
            raise refusal

    async def _read(self, exchange: "Exchange") -> bytes:
        most, body = self.limits.body_bytes, bytearray()
        try:
            async with asyncio.timeout(self.limits.body_s):
                length = exchange.headers.get("content-length", "")
                if length.isdigit() and int(length[:20]) > most:
                    raise TooLarge
                while True:
                    message = await exchange.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk = message.get("body", b"")
                    if len(body) + len(chunk) > most:
                        raise TooLarge
                    exchange.hold(len(chunk))
                    body += chunk
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise Refusal(
                408,
                "body_too_slow",
                f"the body did not arrive within {self.limits.body_s:g} s; send fewer documents at a time",
            ) from None
        except TooLarge:
            await discard(exchange.receive, 4 * most)
            raise Refusal(
                413, "body_too_large", f"the body has more than {most} bytes; send fewer documents at a time"
            ) from None

    def _note(self, exchange: "Exchange") -> None:
        scope, record, status = exchange.scope, exchange.record, exchange.status
        route = scope["path"] if scope["path"] in self.routes else "other"
        method = scope["method"] if scope["method"] in METHODS else "other"
        seconds = time.perf_counter() - exchange.began
        caller = scope["state"]["caller"]
        self.metrics.requests.labels(route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        if record.queued is not None:
            self.metrics.queue_seconds.observe(record.queue_s)
        if route not in OPEN_PATHS and route != "other":
            self.service.usage.count(caller, record, status)
        fields = {
            "request_id": exchange.request_id,
            "tenant": caller.name or None,
            "method": method,
            "route": route,
            "status": status,
            "model": record.model or None,
            "rows": record.rows,
            "cached": record.cached,
            "tokens": record.tokens,
            "total_ms": round(1000 * seconds, 1),
            "queue_ms": round(1000 * record.queue_s, 1),
            "score_ms": round(1000 * record.score_s, 1),
            "refused": None if record.refusal is None else record.refusal.code,
        }
        logger.info(
            "%s %s %d %.1f ms caller=%s id=%s",
            method,
            quote(scope["path"]),
            status,
            1000 * seconds,
            caller.name or "-",
            exchange.request_id,
            extra={"fields": fields, "bucket": ("requests", caller.name), "keyed": exchange.known},
        )
        if self.tracer is not None:
            self.tracer.record(exchange.headers, fields, record, seconds)


class Exchange:
    """One request and its answer on their way through: what is known of them, and the bytes that they hold."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, owner: RequestMiddleware) -> None:
        self.scope, self.receive, self._send, self.owner = scope, receive, send, owner
        self.headers, self.began, self.status = Headers(scope=scope), time.perf_counter(), 0
        self.record = RequestRecord()
        self.held, self.known = 0, False
        self.tenant = str((scope.get("client") or ("",))[0])
        given = self.headers.get("x-request-id", "")
        self.request_id = given if OWN_ID.fullmatch(given) else uuid.uuid4().hex
        scope["state"].update(request_id=self.request_id, caller=ANYBODY, record=self.record, tenant=self.tenant)

    def hold(self, count: int) -> None:
        """Count bytes that this request holds; Refusal where its tenant has its share of the memory already."""
        if not self.owner.memory.take(self.tenant, count):
            raise Refusal(
                429,
                "memory",
                "the server holds too many large requests of yours; try again after Retry-After seconds",
                2,
            )
        self.held += count

    async def send(self, message: Message) -> None:
        """Send on; large bodies in pieces: what a client does not read stays here, is counted, and has an end."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            if self.owner.stopping:
                headers["Connection"] = "close"
        body = message.get("body", b"")
        if len(body) <= PIECE:
            await self._send(message)
            return
        self.owner.memory.add(self.tenant, len(body))
        self.held += len(body)
        for start in range(0, len(body), PIECE):
            more = start + PIECE < len(body) or message.get("more_body", False)
            await self._send({**message, "body": body[start : start + PIECE], "more_body": more})


class Shares:
    """Memory that tenants share: each may hold as much as is free for the others (Choudhury and Hahne 1998).

    So one tenant gets half at most, two a third each, and a newcomer always finds some.

    >>> memory = Shares(100)
    >>> [memory.take("a", 40), memory.take("a", 20), memory.take("b", 25), memory.held]
    [True, False, True, 65]
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0
        self.by_tenant: dict[str, int] = {}

    def take(self, tenant: str, count: int) -> bool:
        """Hold ``count`` more bytes for a tenant, if they are within its share; return whether they are."""
        if count and self.by_tenant.get(tenant, 0) + count > self.most - self.held - count:
            return False
        self.add(tenant, count)
        return True

    def add(self, tenant: str, count: int) -> None:
        """Hold ``count`` more bytes for a tenant, whatever its share."""
        self.held += count
        self.by_tenant[tenant] = self.by_tenant.get(tenant, 0) + count

    def give(self, tenant: str, count: int) -> None:
        """Give bytes back."""
        self.held -= count
        left = self.by_tenant.get(tenant, 0) - count
        if left > 0:
            self.by_tenant[tenant] = left
        else:
            self.by_tenant.pop(tenant, None)


class ClientGone(Exception):
    """The client hung up before its answer."""


class TooLarge(Exception):
    """The body has more bytes than the limit."""


def check_type(headers: Headers) -> None:
    """Refuse bodies that are not plain JSON."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Refusal(415, "not_json", "send the body as JSON, with the header Content-Type: application/json")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "encoded", "send the body as it is, without Content-Encoding")


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives the body once and afterwards waits for the client's end."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def discard(receive: Receive, most: int) -> None:
    """Read on for a while and drop what comes."""
    dropped = 0
    try:
        async with asyncio.timeout(DISCARD_S):
            while dropped < most:
                message = await receive()
                dropped += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return


def fault() -> Refusal:
    """Return the refusal that stands for a fault of the server."""
    return Refusal(
        503,
        "fault",
        "the server failed on this request; try again, and give the request id to its operator if it fails again",
        1,
    )


async def unless_gone(receive: Callable[[], Any], work: Any) -> Any:
    """Return what ``work`` gives, or end it when the client hangs up."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.wait({task})


async def _gone(receive: Callable[[], Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
