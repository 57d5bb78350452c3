"""What a request goes through, whatever its shape: model, limits, cache, queue; and what comes out of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from lorank.errors import LorankError
from lorank.serving.requests.answers import Reranked
from lorank.serving.requests.batcher import Batcher
from lorank.serving.requests.engine import Engine, Job, UnknownAdapter, tokens_read
from lorank.serving.requests.keys import Caller
from lorank.serving.requests.limits import Limits, estimated_tokens, row_cost
from lorank.serving.requests.metrics import Metrics
from lorank.serving.requests.queue import Slice
from lorank.serving.requests.refusal import Refusal, broken, shown
from lorank.serving.requests.schemas import Asked
from lorank.serving.requests.score_cache import Known, ScoreCache, keys_of


@dataclass(frozen=True)
class Prepared:
    """A request as it goes to the queue: what the cache knows, and what it does not."""

    version: str
    keys: Sequence[bytes]
    known: Sequence[Known | None]
    costs: np.ndarray


@dataclass(frozen=True)
class Part:
    """Some of the scores: their positions in the request, in the order of the arrays."""

    positions: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray | None
    truncated: int
    tokens: int


class Service:
    """Reranks for callers; knows nothing of HTTP but its refusals."""

    def __init__(self, engine: Engine, limits: Limits, metrics: Metrics) -> None:
        self.engine, self.limits, self.metrics = engine, limits, metrics
        self.cache = ScoreCache(limits.cache_bytes)
        self.batcher = Batcher(engine, limits, metrics)

    def adapter_of(self, model: str | None, caller: Caller) -> str | None:
        """Return the adapter that ``base``, ``base:adapter`` or ``adapter`` names; None is the base.

        A request that names no model gets the only adapter of its key, or else the base. Another's adapter and one
        that does not exist are refused alike, so that nobody learns who else is served.
        """
        if not model:
            return next(iter(caller.adapters)) if caller.adapters and len(caller.adapters) == 1 else None
        if not model.isprintable():
            raise self._unknown(model)
        base = self.engine.base_name
        adapter = None if model == base else model.removeprefix(f"{base}:")
        if not caller.may(adapter):
            raise self._unknown(model)
        return adapter

    def model_name(self, adapter: str | None) -> str:
        """Return what a model is called in answers: ``base`` or ``base:adapter``."""
        return self.engine.base_name if adapter is None else f"{self.engine.base_name}:{adapter}"

    def adapters(self, caller: Caller) -> list[str]:
        """Return the adapters that a caller may call and see."""
        return [adapter for adapter in self.engine.adapters() if caller.may(adapter)]

    async def rerank(self, asked: Asked, caller: Caller, deadline: float) -> Reranked:
        """Return all the scores; a list in whose middle the adapter's files changed is scored again."""
        adapter = self.adapter_of(asked.model, caller)
        for _ in range(2):
            prepared = await asyncio.to_thread(self.prepare, asked, adapter, caller)
            async with aclosing(self.parts(asked, adapter, caller, prepared, deadline)) as parts:
                reranked = gathered([part async for part in parts], len(asked.documents))
            if await asyncio.to_thread(self._version, adapter, asked.model) == prepared.version:
                break
        if asked.whole_only and reranked.truncated:
            raise Refusal(
                413,
                "too_long",
                f"{reranked.truncated} of the texts are longer than the model reads; split "
                'them, or send "truncate": true',
            )
        return reranked

    async def parts(
        self, asked: Asked, adapter: str | None, caller: Caller, prepared: Prepared, deadline: float
    ) -> AsyncIterator[Part]:
        """Yield the scores in parts: first what the cache knows, then each slice as it is done."""
        hits = np.array([i for i, known in enumerate(prepared.known) if known is not None], np.int64)
        if len(hits):
            yield part_of(hits, [prepared.known[i] for i in hits])
        misses = np.array([i for i, known in enumerate(prepared.known) if known is None], np.int64)
        if not len(misses):
            return
        job = Job(adapter, asked.query, [asked.documents[i] for i in misses])
        whose = caller.name or adapter or ""
        async with aclosing(self.batcher.submit(whose, job, prepared.costs[misses], deadline)) as slices:
            async for done in slices:
                part = Part(
                    misses[done.start : done.stop], done.scores, done.probabilities, done.truncated, done.tokens
                )
                await self._keep(part, done, adapter, prepared)
                yield part

    async def _keep(self, part: Part, done: Slice, adapter: str | None, prepared: Prepared) -> None:
        """Keep a slice's scores in the cache, if it is known which were cut and the adapter is the same still."""
        cut = done.cut
        if cut is None and done.truncated in (0, len(part.positions)):
            cut = np.full(len(part.positions), bool(done.truncated))
        if cut is None or not self.cache.most:
            return
        if await asyncio.to_thread(self._version, adapter, None) == prepared.version:
            self.cache.keep([prepared.keys[i] for i in part.positions], known_of(part, cut))

    def prepare(self, asked: Asked, adapter: str | None, caller: Caller) -> Prepared:
        """Check a request against the limits and look its documents up; belongs off the event loop."""
        count, limits = len(asked.documents), self.limits
        most = limits.streamed_documents if asked.stream else limits.documents
        if count > most:
            hint = "" if asked.stream else f', or up to {limits.streamed_documents} in one with "stream": true'
            raise Refusal(
                413,
                "too_many_documents",
                f"{count} documents; at most {most} are scored in one request: send several requests{hint}",
            )
        longest = max(map(len, (asked.query, *asked.documents)))
        if longest > limits.document_characters:
            raise Refusal(
                413,
                "document_too_long",
                f"a text of {longest} characters; at most "
                f"{limits.document_characters} are taken: split it into passages",
            )
        try:
            query, reads = estimated_tokens(asked.query), tokens_read(self.engine)
            costs = np.array([row_cost(query, estimated_tokens(text), reads) for text in asked.documents], np.int64)
        except UnicodeEncodeError:
            raise Refusal(
                400,
                "not_unicode",
                "a text holds half of a surrogate pair (\\ud800 to \\udfff alone), which is no character; take it out",
            ) from None
        if costs.sum() > limits.tokens:
            raise Refusal(
                413,
                "too_many_tokens",
                f"about {costs.sum()} tokens, the query counted with every document; "
                f"at most {limits.tokens} are scored in one request: send fewer documents at a time",
            )
        version = self._version(adapter, asked.model)
        if not self.cache.most:
            return Prepared(version, [], [None] * count, costs)
        owner = caller.name if adapter is None else ""
        keys = keys_of(owner, adapter, version, asked.query, asked.documents)
        return Prepared(version, keys, self.cache.find(keys), costs)

    def _version(self, adapter: str | None, model: str | None) -> str:
        try:
            return self.engine.version(adapter)
        except UnknownAdapter:
            raise self._unknown(model or adapter or "") from None
        except LorankError as error:
            raise broken(adapter, error) from None

    def _unknown(self, model: str) -> Refusal:
        return Refusal(
            404, "unknown_model", f"no model {shown(model)} that you may call; GET /v1/models lists those you may"
        )


def gathered(parts: Sequence[Part], count: int) -> Reranked:
    """Return the scores of all parts in the order of the request."""
    scores, probabilities = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for part in parts:
        scores[part.positions] = part.scores
        if part.probabilities is not None:
            probabilities[part.positions] = part.probabilities
    calibrated = bool(parts) and all(part.probabilities is not None for part in parts)
    return Reranked(
        scores,
        probabilities if calibrated else None,
        sum(part.tokens for part in parts),
        sum(part.truncated for part in parts),
    )


def part_of(positions: np.ndarray, known: Sequence[Known]) -> Part:
    """Return what the cache knew as a part; no token was read for it."""
    calibrated = all(entry.probability is not None for entry in known)
    probabilities = np.array([entry.probability for entry in known], np.float32) if calibrated else None
    return Part(
        positions,
        np.array([entry.score for entry in known], np.float32),
        probabilities,
        sum(entry.cut for entry in known),
        0,
    )


def known_of(part: Part, cut: np.ndarray) -> list[Known]:
    """Return what the cache keeps of a part."""
    probabilities = [None] * len(part.scores) if part.probabilities is None else part.probabilities.tolist()
    return [Known(*row) for row in zip(part.scores.tolist(), probabilities, cut.tolist(), strict=True)]
