"""The application: the routes of the rerank API, in the shapes of Jina, Cohere and TEI."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request, Response, Security
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, TypeAdapter
from starlette.exceptions import HTTPException

from lorank import __version__
from lorank.serving.http.middleware import ClientGone, RequestMiddleware, fault, unless_gone
from lorank.serving.http.openapi import add_schemas, body_of
from lorank.serving.http.peers import Peers
from lorank.serving.http.state import MetricsPage, add_state
from lorank.serving.http.tracing import Tracer
from lorank.serving.requests import answers
from lorank.serving.requests.engine import Engine
from lorank.serving.requests.keys import Keys, NoKeys
from lorank.serving.requests.limits import Limits
from lorank.serving.requests.metrics import Metrics
from lorank.serving.requests.refusal import Refusal
from lorank.serving.requests.schemas import COHERE, EITHER, JINA, Asked, CohereRequest, JinaRequest, TeiRequest
from lorank.serving.requests.service import Part, Service


class Problem(BaseModel):
    """What a refused client reads: what is wrong and what to change."""

    error: str
    error_type: str
    message: str
    detail: str
    request_id: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 401, 404, 408, 413, 415, 429, 503, 504)
}
Request_ = TypeVar("Request_", bound=BaseModel)
NDJSON = "application/x-ndjson"
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {NDJSON: {"schema": {"type": "string"}}}}}
ROUTES = "POST /v1/rerank, /v2/rerank, /rerank and GET /v1/models, /v1/usage, /health, /health/ready, /metrics"


def make_app(
    engine: Engine,
    keys: Keys | NoKeys | None = None,
    limits: Limits | None = None,
    *,
    aliases: Mapping[str, str] | None = None,
    names_in_metrics: bool = False,
    tracer: Tracer | None = None,
    share: float = 1.0,
    peers: Peers | None = None,
) -> RequestMiddleware:
    """Return the ASGI application that serves ``engine``; it starts and stops with its lifespan.

    Args:
        engine: What scores.
        keys: Who may call what; None lets everybody call everything.
        limits: What the server takes on; None takes the defaults.
        aliases: Further names of models, see `Service`.
        names_in_metrics: Whether /metrics may name keys and adapters.
        tracer: Takes note of every request.
        share: The part of the keys' rates that this process gives, where several serve together.
        peers: What the others of these count.
    """
    service = Service(engine, limits or Limits(), Metrics(), aliases, share)

    page = MetricsPage(service, names_in_metrics, peers)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        publishing = asyncio.get_running_loop().create_task(page.publish())
        yield
        publishing.cancel()
        await service.stop()
        if tracer is not None:
            tracer.close()

    app = FastAPI(
        title="lorank",
        version=__version__,
        lifespan=lifespan,
        responses=PROBLEMS,
        redoc_url=None,
        description="Rerank with one base model and many low-rank adapters.",
        docs_url=None,
    )
    _add_reranking(app, service)
    add_state(app, service, page)
    add_schemas(app, JinaRequest, CohereRequest, TeiRequest)
    _add_refusals(app, service.metrics)
    routes = frozenset(str(getattr(route, "path", "")) for route in app.routes)
    return RequestMiddleware(app, service, keys or NoKeys(), routes, tracer)


def _add_reranking(app: FastAPI, service: Service) -> None:
    bearer = [Security(HTTPBearer(auto_error=False))]

    @app.post(
        "/v1/rerank",
        response_model=answers.JinaAnswer,
        responses=STREAMED,
        dependencies=bearer,
        openapi_extra=body_of(JinaRequest),
    )
    async def jina(request: Request) -> Response:
        """Rerank, in the shape of Jina and vLLM; with `stream` the answer is JSON lines."""
        body = await _body(service, JINA, request)
        return await _jina(service, body.to_asked(), request)

    @app.post(
        "/rerank",
        response_model=answers.JinaAnswer | list[answers.TeiResult],
        responses=STREAMED,
        dependencies=bearer,
        openapi_extra=body_of(JinaRequest, TeiRequest),
    )
    async def either(request: Request) -> Response:
        """Rerank, in the shape of Jina or, where the body has `texts`, of text-embeddings-inference."""
        body = await _body(service, EITHER, request)
        asked = body.to_asked()
        if not isinstance(body, TeiRequest):
            return await _jina(service, asked, request)
        reranked, headers, _ = await _whole(service, asked, request)
        return JSONResponse(answers.tei(asked, reranked), headers=headers)

    @app.post(
        "/v2/rerank", response_model=answers.CohereAnswer, dependencies=bearer, openapi_extra=body_of(CohereRequest)
    )
    async def cohere(request: Request) -> Response:
        """Rerank, in the shape of Cohere's version 2."""
        body = await _body(service, COHERE, request)
        asked = body.to_asked()
        reranked, headers, model = await _whole(service, asked, request)
        warnings = (
            []
            if not reranked.truncated
            else [
                f"{reranked.truncated} of {len(asked.documents)} documents are longer than {model} reads and were cut"
            ]
        )
        if body.max_tokens_per_doc is not None:
            warnings.append("max_tokens_per_doc is not used; documents are cut where the model's own limit lies")
        return JSONResponse(answers.cohere(asked, reranked, model, request.state.request_id, warnings), headers=headers)


async def _body(service: Service, schema: TypeAdapter[Request_], request: Request) -> Request_:
    """Return what the body holds, read where it harms nobody."""
    body: Request_ = await service.read(schema, await request.body(), request.state.tenant)
    return body


async def _jina(service: Service, asked: Asked, request: Request) -> Response:
    if asked.stream:
        return await _streamed(service, asked, request)
    reranked, headers, model = await _whole(service, asked, request)
    return JSONResponse(answers.jina(asked, reranked, model, request.state.request_id), headers=headers)


async def _whole(service: Service, asked: Asked, request: Request) -> tuple[answers.Reranked, dict[str, str], str]:
    """Return the scores, the headers that speak of them, and the model's name."""
    deadline = _deadline(request, service.limits.timeout_s)
    adapter = service.adapter_of(asked.model, request.state.caller)
    state = request.state
    reranked = await unless_gone(request.receive, service.rerank(asked, state.caller, deadline, state.record))
    service.metrics.documents.inc(len(asked.documents))
    headers = {"X-Score-Scale": reranked.scale(asked), "X-Truncated-Documents": str(reranked.truncated)}
    if (asked.certified or asked.threshold is not None) and not reranked.order(asked):
        headers["X-Abstained"] = "true"
    return reranked, headers, service.model_name(adapter)


async def _streamed(service: Service, asked: Asked, request: Request) -> Response:
    """Return JSON lines in the order in which slices are scored; a refusal before the first is an ordinary one."""
    caller, deadline = request.state.caller, _deadline(request, service.limits.streamed_timeout_s)
    adapter = service.adapter_of(asked.model, caller)
    prepared = await service.prepare(asked, adapter, caller, deadline)
    parts = service.streamed(asked, adapter, caller, prepared, deadline, request.state.record)
    try:
        first = [await unless_gone(request.receive, anext(parts))] if asked.documents else []
    except BaseException:
        await parts.aclose()
        raise

    async def lines() -> AsyncIterator[bytes]:
        tokens, truncated = 0, 0
        async with aclosing(parts):
            try:
                async for part in _chained(first, parts):
                    tokens, truncated = tokens + part.tokens, truncated + part.truncated
                    yield _lines_of(asked, part)
            except Refusal as refusal:
                yield answers.line(refusal.body(request.state.request_id))
                return
        service.metrics.documents.inc(len(asked.documents))
        yield answers.line(
            {
                "id": request.state.request_id,
                "model": service.model_name(adapter),
                "documents": len(asked.documents),
                "truncated_documents": truncated,
                "usage": {"total_tokens": tokens, "prompt_tokens": tokens},
            }
        )

    scale = "probability" if first and first[0].probabilities is not None and not asked.raw else "raw"
    return StreamingResponse(lines(), media_type=NDJSON, headers={"X-Score-Scale": scale})


async def _chained(first: Sequence[Part], others: AsyncIterator[Part]) -> AsyncIterator[Part]:
    for part in first:
        yield part
    async for part in others:
        yield part


def _lines_of(asked: Asked, part: Part) -> bytes:
    shown = part.scores if asked.raw or part.probabilities is None else part.probabilities
    kept = np.ones(len(shown), bool) if part.above is None or not asked.certified else part.above
    if asked.threshold is not None:
        kept = kept & (shown.astype(np.float64) >= asked.threshold)
    return b"".join(answers.line(answers.result(asked, int(part.positions[i]), shown[i])) for i in np.flatnonzero(kept))


def _deadline(request: Request, most_s: float) -> float:
    """Return when the request must be answered, by the event loop's clock: X-Timeout-Ms, at most the server's own."""
    given = request.headers.get("x-timeout-ms")
    if given is not None and not re.fullmatch(r"[0-9]{1,9}", given):
        raise Refusal(400, "timeout", "X-Timeout-Ms must be whole milliseconds, such as 2000")
    seconds = most_s if given is None else min(int(given) / 1000, most_s)
    return asyncio.get_running_loop().time() + seconds


def _add_refusals(app: FastAPI, metrics: Metrics) -> None:
    def answer(request: Request, refusal: Refusal) -> Response:
        metrics.refusals.labels(refusal.code).inc()
        request.state.record.refusal = refusal
        return refusal.response(request.state.request_id)

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        return answer(request, refusal)

    @app.exception_handler(HTTPException)
    async def unroutable(request: Request, error: HTTPException) -> Response:
        response = answer(request, Refusal(error.status_code, "no_such_route", f"{error.detail}; there are {ROUTES}"))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(ClientGone)
    async def gone(request: Request, error: ClientGone) -> Response:
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return answer(request, fault())
