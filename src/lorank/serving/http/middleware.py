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
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lorank.serving.requests.keys import ANYBODY, Keys, NoKeys
from lorank.serving.requests.refusal import Refusal, shown
from lorank.serving.requests.service import Service

logger = logging.getLogger("lorank.serving")

OPEN_PATHS = frozenset({"/health", "/metrics", "/openapi.json"})
"""Paths that ask for no key; none of them names a caller or an adapter."""
OWN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
DISCARD_S = 2.0
"""A client that sends too much is listened to so long, since many read no answer before they have sent all."""


class RequestMiddleware:
    """The layer around ``app``; metrics name the paths in ``routes``, and others together.

    ``active`` is the number of requests that are not answered yet, ``held`` the bytes of their bodies.
    """

    def __init__(self, app: ASGIApp, service: Service, keys: Keys | NoKeys, routes: frozenset[str]) -> None:
        self.app, self.service, self.keys, self.routes = app, service, keys, routes
        self.limits, self.metrics = service.limits, service.metrics
        self.active = self.held = 0

    @property
    def stopping(self) -> bool:
        """True where the server is about to stop."""
        return self.service.batcher.stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, began, sent = Headers(scope=scope), time.perf_counter(), {"status": 0}
        given = headers.get("x-request-id", "")
        scope["state"]["request_id"] = request_id = given if OWN_ID.fullmatch(given) else uuid.uuid4().hex
        scope["state"]["caller"] = ANYBODY

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent["status"] = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
                if self.stopping:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        self.active += 1
        try:
            await self._admitted(scope, headers, receive, send_with_id)
        except Refusal as refusal:
            self.metrics.refusals.labels(refusal.code).inc()
            response = refusal.response(request_id)
            response.headers["Connection"] = "close"  # there may be more of the body to come, which nobody reads
            await response(scope, receive, send_with_id)
        except ClientGone:
            sent["status"] = 499
        except Exception:
            self.metrics.failures.inc()
            logger.exception("request %s failed", request_id)
            if not sent["status"]:
                await fault().response(request_id)(scope, receive, send_with_id)
        finally:
            self.active -= 1
            self._note(scope, sent["status"], time.perf_counter() - began)

    async def _admitted(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        if scope["path"] not in OPEN_PATHS:
            scope["state"]["caller"] = self.keys.caller(headers.get("authorization"))
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        if self.stopping:
            raise Refusal(
                503, "stopping", "this server is about to stop; send the request again, to another one or in a while", 2
            )
        check_type(headers)
        body = bytearray()
        try:
            await self._read(headers, receive, body)
            await self.app(scope, replayed(bytes(body), receive), send)
        finally:
            self.held -= len(body)

    async def _read(self, headers: Headers, receive: Receive, body: bytearray) -> None:
        most = self.limits.body_bytes
        try:
            async with asyncio.timeout(self.limits.body_s):
                told = headers.get("content-length", "")
                if told.isdigit() and int(told) > most:
                    raise TooLarge
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk = message.get("body", b"")
                    if len(body) + len(chunk) > most:
                        raise TooLarge
                    if self.held + len(chunk) > self.limits.held_bytes:
                        raise Refusal(
                            429,
                            "memory",
                            "the server holds too many large requests; try again after Retry-After seconds",
                            2,
                        )
                    body += chunk
                    self.held += len(chunk)
                    if not message.get("more_body"):
                        return
        except TimeoutError:
            raise Refusal(
                408,
                "body_too_slow",
                f"the body did not arrive within {self.limits.body_s:g} s; send fewer documents at a time",
            ) from None
        except TooLarge:
            await discard(receive, 4 * most)
            raise Refusal(
                413, "body_too_large", f"the body has more than {most} bytes; send fewer documents at a time"
            ) from None

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope["path"] if scope["path"] in self.routes else "other"
        self.metrics.requests.labels(route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        state = scope["state"]
        logger.info(
            "%s %s %d %.1f ms caller=%s id=%s",
            scope["method"][:16],
            shown(scope["path"]),
            status,
            1000 * seconds,
            state["caller"].name or "-",
            state["request_id"],
        )


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


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives the body once and afterwards listens for the client's end."""
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
