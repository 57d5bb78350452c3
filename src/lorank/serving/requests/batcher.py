"""Continuous batching: lists of many requests, scored together by one thread, within a latency target.

While a batch is scored, others arrive and form the next. The size of a batch follows the speed that was measured, so
that it takes about a quarter of the latency target: a newcomer waits for the batch under way, is in the next, and has
half the target left.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from lorank.errors import LorankError
from lorank.serving.requests.engine import Engine, Job, NotYet, Scored, UnknownAdapter
from lorank.serving.requests.limits import Limits
from lorank.serving.requests.metrics import Metrics
from lorank.serving.requests.queue import PendingList, Queue, Slice
from lorank.serving.requests.refusal import Refusal, refuse_broken, refuse_unchecked

logger = logging.getLogger("lorank.serving")

FIRST_BATCH, LEAST_BATCH, MOST_BATCH = 512, 64, 65536
"""Estimated tokens of a batch: before the speed is known, and the bounds afterwards."""
PROBE, PROBE_S = "\0probe", 5.0
"""The tenant of the probe that an idle scorer is asked, if it has scored nothing for so many seconds."""


class Batcher:
    """Takes lists in, scores them in fair batches, and hands out slices as they are done.

    All methods belong to the event loop that called `start`; the engine is called from one thread.
    """

    def __init__(self, engine: Engine, limits: Limits, metrics: Metrics) -> None:
        self.engine, self.limits, self.metrics = engine, limits, metrics
        self.queue, self.stopping = Queue(), False
        self.speed: float | None = None
        self.began: float | None = None
        self.scored_at = float("-inf")
        self._probe: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")

    def start(self) -> None:
        """Begin to score what is submitted."""
        self._arrived = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Refuse what still waits, end the thread, close the engine."""
        self.stopping = True
        self._task.cancel()
        for request in self.queue:
            request.done.put_nowait(self._refuse_stopped())
        await asyncio.to_thread(self._thread.shutdown)
        self.engine.close()

    async def submit(self, caller: str, job: Job, costs: np.ndarray, deadline: float) -> AsyncGenerator[Slice, None]:
        """Yield the slices of a list as they are scored, in order; leaving early takes the rest out of the queue.

        Args:
            caller: The tenant whose turn the list takes.
            job: The list to score.
            costs: int64, the estimated tokens of each document.
            deadline: The time by which all must be scored, by the event loop's clock.

        Raises:
            Refusal: 404 no such adapter, 429 too much waits, 503 stopping or broken, 504 not in time.
        """
        self.admit(caller, int(costs.sum()))
        request = PendingList(caller, job, costs, deadline, added=asyncio.get_running_loop().time())
        self.queue.add(request)
        self._arrived.set()
        try:
            left = len(job.documents)
            while left:
                done = await self._next(request)
                left -= done.stop - done.start
                yield done
        finally:
            request.gone = True
            self.queue.remove(request)

    def admit(self, caller: str, cost: int) -> None:
        """Refuse a newcomer where too much of its own waits, or the server stops; where the queue is full, the tenant
        that has the most in it gives up its newest list."""
        if self.stopping:
            raise self._refuse_stopped()
        ahead = self.queue.ahead_of(caller, cost)
        seconds = ahead / self.speed if self.speed else 0.0
        if self.queue.of(caller) >= self.limits.queued_of_one:
            raise Refusal(
                429,
                "too_many_of_one",
                f"{self.limits.queued_of_one} of your requests wait already; have "
                "fewer under way at the same time, or put more documents in one",
                seconds / 2,
            )
        if seconds > self.limits.backlog_s:
            raise self._busy(f"your requests that wait take about {seconds:.0f} s", seconds / 2)
        if self.queue.count >= self.limits.queued:
            self._make_room(caller)

    def _make_room(self, caller: str) -> None:
        """Put the newest list of the heaviest tenant out of a full queue; refuse where that is the caller."""
        last = self.queue.newest_of_heaviest(caller)
        refusal = self._busy(f"{self.queue.count} requests wait already", self.limits.backlog_s / 2)
        if last is None:
            raise refusal
        self.queue.remove(last)
        last.gone = True
        last.done.put_nowait(refusal)

    def _busy(self, why: str, retry_s: float) -> Refusal:
        return Refusal(429, "busy", f"{why}; try again after Retry-After seconds", retry_s)

    async def is_ready(self) -> bool:
        """Return True where the scorer answers within its deadline: the batch under way, the last one, or a probe."""
        now = asyncio.get_running_loop().time()
        if self.stopping:
            return False
        if self.began is not None:
            return now - self.began < self.limits.ready_s
        if now - self.scored_at < PROBE_S:
            return True
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().create_task(self._score_probe())
        done, _ = await asyncio.wait({self._probe}, timeout=self.limits.ready_s)
        return bool(done) and self.scored_at >= now

    async def _score_probe(self) -> None:
        """Score one document by the base, as the queue's only entry of a tenant of its own."""
        deadline = asyncio.get_running_loop().time() + self.limits.ready_s
        request = PendingList(PROBE, Job(None, "is it ready", ["yes"]), np.array([8], np.int64), deadline)
        self.queue.add(request)
        self._arrived.set()
        try:
            await self._next(request)
        except Refusal:
            logger.warning("the scorer does not answer a probe")
        finally:
            request.gone = True
            self.queue.remove(request)

    def batch_cost(self) -> int:
        """Return the estimated tokens of a batch that takes a quarter of the latency target."""
        if self.speed is None:
            return FIRST_BATCH
        return int(min(max(self.speed * self.limits.latency_ms / 4000, LEAST_BATCH), MOST_BATCH))

    async def _next(self, request: PendingList) -> Slice:
        try:
            async with asyncio.timeout_at(request.deadline):
                done = await request.done.get()
        except TimeoutError:
            raise Refusal(
                504,
                "too_late",
                "the deadline passed before all documents were scored; send fewer, allow "
                "more time with X-Timeout-Ms, or stream the answer",
                1,
            ) from None
        if isinstance(done, Exception):
            raise done
        return done

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self.queue.count:
                self._arrived.clear()
                await self._arrived.wait()
                await asyncio.sleep(self.limits.collect_ms / 1000)
            cost = self.batch_cost()
            batch = self.queue.take(cost)
            if not batch:
                continue
            jobs = [
                replace(r.job, documents=r.job.documents[start:stop], documents_in_list=len(r.job.documents))
                for r, (start, stop) in batch.items()
            ]
            spent = sum(request.cost(*place) for request, place in batch.items())
            began, self.began = time.perf_counter(), loop.time()
            queued = [self.began - request.added for request in batch]
            answers = await loop.run_in_executor(self._thread, self._score, jobs)
            seconds, self.began = time.perf_counter() - began, None
            if any(isinstance(answer, LorankError | Scored) for answer in answers):
                self.scored_at = loop.time()  # a base that must not be asked alone is refused in words: an answer too
            self._learn_speed(spent, cost, seconds)
            self.metrics.batch(len(jobs), sum(len(job.documents) for job in jobs), seconds)
            for (request, place), answer, queue_s in zip(batch.items(), answers, queued, strict=True):
                self._deliver(request, place, answer, queue_s, seconds)

    def _learn_speed(self, spent: int, cost: int, seconds: float) -> None:
        """Follow the speed; a small batch says little of it, being mostly overhead, unless it took too long."""
        measured = spent / max(seconds, 1e-6)
        weight = 0.3 if 2 * spent > cost or 4000 * seconds > self.limits.latency_ms else 0.03
        self.speed = measured if self.speed is None else (1 - weight) * self.speed + weight * measured

    def _score(self, jobs: Sequence[Job]) -> list[Scored | Exception]:
        """Score a batch; where that fails as a whole, each job by itself, so that one harms none of the others."""
        try:
            return list(self.engine.score(jobs))
        except Exception as error:  # whatever an engine raises answers these requests
            if len(jobs) == 1:
                logger.exception("scoring failed")
                self.metrics.failures.inc()
                return [error]
        return [answer for job in jobs for answer in self._score([job])]

    def _deliver(
        self,
        request: PendingList,
        place: tuple[int, int],
        answer: Scored | Exception,
        queue_s: float,
        score_s: float,
    ) -> None:
        if request.gone:
            return
        if isinstance(answer, Exception):
            request.done.put_nowait(self._refusal(request.job, answer))
            self.queue.remove(request)
            return
        if not np.isfinite(answer.scores).all():
            request.done.put_nowait(
                Refusal(
                    503,
                    "bad_scores",
                    "this model gave scores that are not numbers; its operator must train or save it again",
                )
            )
            self.queue.remove(request)
            return
        self.metrics.tokens.inc(answer.tokens)
        self.metrics.truncated.inc(answer.truncated)
        request.done.put_nowait(
            Slice(
                *place,
                answer.scores,
                answer.probabilities,
                answer.above,
                answer.cut,
                answer.truncated,
                answer.tokens,
                queue_s,
                score_s,
            )
        )

    def _refusal(self, job: Job, error: Exception) -> Refusal:
        if isinstance(error, UnknownAdapter):
            return Refusal(404, "unknown_model", "no such model any more; GET /v1/models lists those you may call")
        if isinstance(error, NotYet):
            return refuse_unchecked(error.retry_s)
        if isinstance(error, LorankError):
            return refuse_broken(job.adapter, error)
        return Refusal(
            503,
            "scoring_failed",
            "scoring failed; try again, and give the request id to the operator if it fails again",
            1,
        )

    def _refuse_stopped(self) -> Refusal:
        return Refusal(
            503, "stopping", "this server is about to stop; send the request again, to another one or in a while", 2
        )
