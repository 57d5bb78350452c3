"""What a request goes through, whatever its shape: model, limits, cache, queue; and what comes out of it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
from pydantic import TypeAdapter

from lorank.errors import LorankError
from lorank.serving.requests.answers import Reranked
from lorank.serving.requests.batcher import Batcher
from lorank.serving.requests.body import not_unicode, read_request
from lorank.serving.requests.correction import SECOND, Correction
from lorank.serving.requests.engine import Engine, Job, NotYet, UnknownAdapter, tokens_read
from lorank.serving.requests.keys import Caller
from lorank.serving.requests.limits import Limits, estimate_tokens, row_cost
from lorank.serving.requests.metrics import Metrics
from lorank.serving.requests.queue import Slice
from lorank.serving.requests.record import RequestRecord
from lorank.serving.requests.refusal import Refusal, quote, refuse_broken, refuse_uncertified, refuse_unchecked
from lorank.serving.requests.schemas import Asked
from lorank.serving.requests.score_cache import Known, ScoreCache, digest_documents
from lorank.serving.requests.usage import Rates, Usage

LISTED_S = 1.0
"""A listing of the adapters is used for so many seconds, by everybody who asks meanwhile."""
SMALL_BODY = 32 << 10
"""Bodies of at most so many bytes are read on the event loop: a few milliseconds at most."""


class Connections(Protocol):
    """What the metrics show of the server's connections: how many are open, and how many were not let be."""

    count: int
    refused: int
    dropped: int
    late: int


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
    above: np.ndarray | None
    truncated: int
    tokens: int

    def check(self, asked: Asked) -> None:
        """Raise Refusal where the certified threshold is asked for and the model has none."""
        if asked.certified and self.above is None:
            raise refuse_uncertified()


class Service:
    """Reranks for callers; knows nothing of HTTP but its refusals.

    Args:
        engine: What scores.
        limits: What the server takes on.
        metrics: The counters that requests and batches are added to.
        aliases: Further names of models, by which clients that know no others may ask: the name of an adapter, or ""
            for what a request without a model gets.
        share: The part of the keys' rates that this process gives, where several serve together.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        metrics: Metrics,
        aliases: Mapping[str, str] | None = None,
        share: float = 1.0,
    ) -> None:
        self.engine, self.limits, self.metrics = engine, limits, metrics
        self.aliases = dict(aliases or {})
        self.cache = ScoreCache(limits.cache_bytes)
        self.batcher = Batcher(engine, limits, metrics)
        self.connections: Connections | None = None
        self.usage, self.rates = Usage(), Rates(share)
        self.readers = ThreadPoolExecutor(2, thread_name_prefix="bodies")
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._admitting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._listing: asyncio.Future[list[str]] | None = None
        self._listed_at = 0.0

    async def stop(self) -> None:
        """Stop scoring and give up the threads."""
        await self.batcher.stop()
        self.readers.shutdown(wait=False, cancel_futures=True)

    async def read(self, schema: TypeAdapter[Any], body: bytes, tenant: str) -> Any:
        """Return the request that a body holds; large ones are read by threads, one of each tenant at a time."""
        if len(body) <= SMALL_BODY:
            return read_request(schema, body, self.limits)
        lock = self._reading.setdefault(tenant, asyncio.Lock())
        async with lock:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.readers, read_request, schema, body, self.limits)

    def adapter_of(self, model: str | None, caller: Caller) -> str | None:
        """Return the adapter that ``base``, ``base:adapter`` or ``adapter`` names; None is the base.

        A request that names no model gets the only adapter of its key, or else the base. Another's adapter and one
        that does not exist are refused alike, so that nobody learns who else is served.
        """
        if model in self.aliases:
            model = self.aliases[model]
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
        base = self.engine.base_name
        return base if adapter in (None, SECOND) else f"{base}:{adapter}"

    def correction_of(self, adapter: str | None) -> Correction | None:
        """Return how a cascade's second ranker corrects what ``adapter`` has scored; None where nothing does."""
        return getattr(self.engine, "correction", None) if adapter is None else None

    async def adapters(self, caller: Caller) -> list[str]:
        """Return the adapters that a caller may call and see, as the store was within the last second."""
        return [adapter for adapter in await self.list_adapters() if caller.may(adapter)]

    async def list_adapters(self, within_s: float = LISTED_S) -> list[str]:
        """Return all adapters as the store was within so many seconds; those who ask at once share one look."""
        now = time.monotonic()
        if self._listing is None or (self._listing.done() and now - self._listed_at > within_s):
            self._listing, self._listed_at = asyncio.ensure_future(asyncio.to_thread(self.engine.adapters)), now
        return await asyncio.shield(self._listing)

    async def prepare(self, asked: Asked, adapter: str | None, caller: Caller, deadline: float) -> Prepared:
        """Return `look_up`'s answer, after an adapter whose files are new has been checked; no thread waits for that.

        One adapter of each caller's is checked at a time, so that many that are slow to check are its own trouble.

        Args:
            asked: The request.
            adapter: The adapter that it names; None for the base.
            caller: The key that asks.
            deadline: The time by which it must be answered, by the event loop's clock.
        """
        for _ in range(3):
            try:
                return await asyncio.to_thread(self.look_up, asked, adapter, caller)
            except NotYet as error:
                start, retry_s = error.start, error.retry_s
            if start is None:
                raise refuse_unchecked(retry_s)
            lock = self._admitting.setdefault(caller.name or adapter or "", asyncio.Lock())
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline), lock:
                    await asyncio.shield(asyncio.wrap_future(start()))
        raise refuse_unchecked()

    async def rerank(self, asked: Asked, caller: Caller, deadline: float, record: RequestRecord) -> Reranked:
        """Return all the scores, those of a cascade corrected by its second ranker.

        Args:
            asked: The request.
            caller: The key that asks.
            deadline: The time by which it must be answered, by the event loop's clock.
            record: What is noted of the request on its way.
        """
        adapter = self.adapter_of(asked.model, caller)
        correction = self.correction_of(adapter)
        if correction is None:
            reranked = await self._scores_of(asked, adapter, caller, deadline, record)
        else:
            reranked = await self._corrected(correction, asked, caller, deadline, record)
        if asked.whole_only and reranked.truncated:
            raise Refusal(
                413,
                "too_long",
                f"{reranked.truncated} of the texts are longer than the model reads; split "
                'them, or send "truncate": true',
            )
        return reranked

    async def _corrected(
        self, correction: Correction, asked: Asked, caller: Caller, deadline: float, record: RequestRecord
    ) -> Reranked:
        """Return a cascade's scores: all documents by its first ranker, then the best of them by its second."""
        if asked.certified and not correction.certifies:
            raise refuse_uncertified()
        whole = np.arange(len(asked.documents))
        first = await self._scores_of(correction.question(asked, whole), None, caller, deadline, record)
        if not len(whole):
            return first
        cached, best = record.cached, correction.best(first)
        second = await self._scores_of(correction.question(asked, best), SECOND, caller, deadline, record)
        record.rows, record.cached = len(whole), cached
        return correction.apply(first, best, second)

    async def _scores_of(
        self, asked: Asked, adapter: str | None, caller: Caller, deadline: float, record: RequestRecord
    ) -> Reranked:
        """Return one ranker's scores; a list in whose middle the adapter's files changed is scored again."""
        for _ in range(2):
            prepared = await self.prepare(asked, adapter, caller, deadline)
            async with aclosing(self.parts(asked, adapter, caller, prepared, deadline, record)) as parts:
                reranked = gather_parts([part async for part in parts], len(asked.documents))
            if await asyncio.to_thread(self._version_now, adapter, asked.model) == prepared.version:
                break
        return reranked

    async def streamed(
        self,
        asked: Asked,
        adapter: str | None,
        caller: Caller,
        prepared: Prepared,
        deadline: float,
        record: RequestRecord,
    ) -> AsyncGenerator[Part, None]:
        """Yield the scores in parts as `parts` does; a cascade's are one part, as its last documents may come first.

        Args:
            asked: The request.
            adapter: The adapter that it names; None for the base.
            caller: The key that asks.
            prepared: The request as `prepare` returned it.
            deadline: The time by which it must be answered, by the event loop's clock.
            record: What is noted of the request on its way.
        """
        correction = self.correction_of(adapter)
        if correction is None:
            async with aclosing(self.parts(asked, adapter, caller, prepared, deadline, record)) as parts:
                async for part in parts:
                    yield part
        elif asked.documents:
            done = await self._corrected(correction, asked, caller, deadline, record)
            places = np.arange(len(asked.documents))
            yield Part(places, done.scores, done.probabilities, done.above, done.truncated, done.tokens)

    async def parts(
        self,
        asked: Asked,
        adapter: str | None,
        caller: Caller,
        prepared: Prepared,
        deadline: float,
        record: RequestRecord,
    ) -> AsyncGenerator[Part, None]:
        """Yield the scores in parts: first what the cache knows, then each slice as it is done.

        Args:
            asked: The request.
            adapter: The adapter that it names; None for the base.
            caller: The key that asks.
            prepared: The request as `prepare` returned it.
            deadline: The time by which it must be answered, by the event loop's clock.
            record: What is noted of the request on its way.
        """
        record.model, record.rows = self.model_name(adapter), len(asked.documents)
        hits = np.array([i for i, known in enumerate(prepared.known) if known is not None], np.int64)
        record.cached = len(hits)
        if len(hits):
            part = part_of(hits, [prepared.known[i] for i in hits])
            part.check(asked)
            yield part
        misses = np.array([i for i, known in enumerate(prepared.known) if known is None], np.int64)
        if not len(misses):
            return
        job = Job(adapter, asked.query, [asked.documents[i] for i in misses])
        self.rates.take_tokens(caller, int(prepared.costs[misses].sum()))
        record.queued = time.time()
        whose = caller.name or adapter or ""
        async with aclosing(self.batcher.submit(whose, job, prepared.costs[misses], deadline)) as slices:
            async for done in slices:
                assert done.scores is not None
                record.note_slice(done.queue_s, done.score_s, done.tokens)
                place = misses[done.start : done.stop]
                part = Part(place, done.scores, done.probabilities, done.above, done.truncated, done.tokens)
                await self._keep(part, done, adapter, prepared)
                part.check(asked)
                yield part

    async def _keep(self, part: Part, done: Slice, adapter: str | None, prepared: Prepared) -> None:
        """Keep a slice's scores in the cache, if it is known which were cut and the adapter is the same still."""
        cut = done.cut
        if cut is None and done.truncated in (0, len(part.positions)):
            cut = np.full(len(part.positions), bool(done.truncated))
        if cut is None or not self.cache.most:
            return
        if await asyncio.to_thread(self._version_now, adapter, None) == prepared.version:
            self.cache.keep([prepared.keys[i] for i in part.positions], known_of(part, cut))

    def look_up(self, asked: Asked, adapter: str | None, caller: Caller) -> Prepared:
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
            query, reads = estimate_tokens(asked.query), tokens_read(self.engine)
            costs = np.array([row_cost(query, estimate_tokens(text), reads) for text in asked.documents], np.int64)
        except UnicodeEncodeError:
            raise not_unicode() from None
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
        owner = caller.name if adapter in (None, SECOND) else ""
        keys = digest_documents(owner, adapter, version, asked.query, asked.documents)
        return Prepared(version, keys, self.cache.find(keys), costs)

    def _version(self, adapter: str | None, model: str | None) -> str:
        try:
            return self.engine.version(adapter)
        except UnknownAdapter:
            raise self._unknown(model or adapter or "") from None
        except NotYet:
            raise
        except LorankError as error:
            raise refuse_broken(adapter, error) from None

    def _version_now(self, adapter: str | None, model: str | None) -> str:
        """Return the version that is served now; "" where the files are new and not checked yet."""
        asked = getattr(self.engine, "current_version", self.engine.version)
        try:
            return asked(adapter)
        except UnknownAdapter:
            raise self._unknown(model or adapter or "") from None
        except NotYet:
            return ""
        except LorankError as error:
            raise refuse_broken(adapter, error) from None

    def _unknown(self, model: str) -> Refusal:
        return Refusal(
            404, "unknown_model", f"no model {quote(model)} that you may call; GET /v1/models lists those you may"
        )


def gather_parts(parts: Sequence[Part], count: int) -> Reranked:
    """Return the scores of all parts in the order of the request."""
    scores, probabilities = np.zeros(count, np.float32), np.zeros(count, np.float32)
    above = np.zeros(count, bool)
    for part in parts:
        scores[part.positions] = part.scores
        if part.above is not None:
            above[part.positions] = part.above
        if part.probabilities is not None:
            probabilities[part.positions] = part.probabilities
    calibrated = bool(parts) and all(part.probabilities is not None for part in parts)
    return Reranked(
        scores,
        probabilities if calibrated else None,
        sum(part.tokens for part in parts),
        sum(part.truncated for part in parts),
        above if parts and all(part.above is not None for part in parts) else None,
    )


def part_of(positions: np.ndarray, known: Sequence[Known]) -> Part:
    """Return what the cache knew as a part; no token was read for it."""
    calibrated = all(entry.probability is not None for entry in known)
    probabilities = np.array([entry.probability for entry in known], np.float32) if calibrated else None
    certified = all(entry.above is not None for entry in known)
    return Part(
        positions,
        np.array([entry.score for entry in known], np.float32),
        probabilities,
        np.array([entry.above for entry in known], bool) if certified else None,
        sum(entry.cut for entry in known),
        0,
    )


def known_of(part: Part, cut: np.ndarray) -> list[Known]:
    """Return what the cache keeps of a part."""
    probabilities = [None] * len(part.scores) if part.probabilities is None else part.probabilities.tolist()
    above = [None] * len(part.scores) if part.above is None else part.above.tolist()
    return [Known(*row) for row in zip(part.scores.tolist(), probabilities, cut.tolist(), above, strict=True)]
