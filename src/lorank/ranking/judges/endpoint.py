"""A language model behind an OpenAI-compatible endpoint as judge.

Questions go to ``URL/chat/completions``, several at a time. Too many requests, server errors, time-outs and broken
connections are tried again, after the time that the server asks for or twice as long as the time before; what still
fails is a :class:`JudgeError`. The key is read from the environment, sent in the Authorization header, and occurs in no
message, representation or cache.
"""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from email.message import Message
from functools import partial
from typing import Any

from lorank.errors import UsageError
from lorank.ranking.judges.judge import Judge, JudgeError, digest
from lorank.ranking.judges.prompts import Asking, Prompts
from lorank.ranking.judges.question import KINDS, Question, Reply
from lorank.ranking.judges.reading import read_reply

_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class Endpoint(Judge):
    """Asks a chat model at ``url`` (such as ``https://api.example.org/v1``).

    Args:
        url: Where ``/chat/completions`` is found.
        model: The model's name there; by default the only one that ``/models`` lists.
        key: Name of the environment variable that holds the key; no key is sent where it is not set.
        prompts: What is asked.
        max_tokens: The most that a reply may take, thinking included; None leaves it to the server.
        timeout_s: Seconds without an answer after which a request is tried again.
        retries: How often a request is tried again.
        wait_s: Seconds before the first of these.
        workers: Requests under way at the same time.
    """

    kinds = KINDS - {"identifiers"}

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        key: str = "OPENAI_API_KEY",
        prompts: Prompts | None = None,
        max_tokens: int | None = None,
        timeout_s: float = 120.0,
        retries: int = 4,
        wait_s: float = 1.0,
        workers: int = 8,
    ) -> None:
        if not re.match(r"https?://[^/]", url):
            raise UsageError(f"the URL of an endpoint begins with http:// or https://, got {url!r}")
        if retries < 0 or workers < 1 or timeout_s <= 0:
            raise UsageError("retries must be 0 or above, workers 1 or above, and timeout_s above 0")
        self.url, self._key = url.rstrip("/"), key
        self.prompts, self.max_tokens = prompts or Prompts.load(), max_tokens
        self.timeout_s, self.retries, self.wait_s, self.workers = timeout_s, retries, wait_s, workers
        self.model = model or self._only_model()

    @property
    def identity(self) -> str:
        """A digest of the endpoint, the model, the prompts and the length of replies."""
        templates = {kind: template.template for kind, template in self.prompts.templates.items()}
        return digest("endpoint", self.url, self.model, templates, self.prompts.words, self.max_tokens)

    def answer(self, query: str, documents: Sequence[str], questions: Sequence[Question]) -> Iterator[Reply]:
        """Yield one reply a question, in order, asking ``workers`` of them at a time."""
        with ThreadPoolExecutor(min(self.workers, max(len(questions), 1))) as pool:
            asked = [pool.submit(partial(self._reply, query, documents), question) for question in questions]
            try:
                yield from _in_order(asked)
            finally:
                for future in asked:
                    future.cancel()

    def tokens_in(self, query: str, documents: Sequence[str], question: Question) -> int:
        """Return an estimate of the prompt's tokens, one for each three characters; the server counts them."""
        return len(self.prompts.text(query, documents, question)) // 3 + 16

    def tokens(self, query: str, documents: Sequence[str], question: Question) -> int:
        """Return the estimate for the prompt and the longest reply allowed, 8 tokens a document if none is set."""
        longest = self.max_tokens if self.max_tokens is not None else 8 * (len(question.documents) + 1)
        return self.tokens_in(query, documents, question) + longest

    def complete(self, prompts: Sequence[str]) -> list[str]:
        """Return what the model writes to each prompt, asking ``workers`` of them at a time.

        Raises JudgeError for an answer that is none.
        """

        def one(prompt: str) -> str:
            body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": prompt}]}
            answered = self._send(
                "/chat/completions", body | ({"max_tokens": self.max_tokens} if self.max_tokens else {})
            )
            try:
                return answered["choices"][0]["message"]["content"] or ""
            except (KeyError, IndexError, TypeError) as error:
                raise JudgeError(f"{self.url} answered without a text: {json.dumps(answered)[:200]}") from error

        with ThreadPoolExecutor(min(self.workers, max(len(prompts), 1))) as pool:
            return list(pool.map(one, prompts))

    def _reply(self, query: str, documents: Sequence[str], question: Question) -> Reply:
        body: dict[str, Any] = {
            "model": self.model,
            "temperature": 0,
            "messages": [{"role": "user", "content": self.prompts.text(query, documents, question)}],
        }
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        answered = self._send("/chat/completions", body)
        try:
            text = answered["choices"][0]["message"]["content"] or ""
            usage = answered.get("usage") or {}
            spent = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            return Reply(None, malformed=True, text=json.dumps(answered)[:1000])
        return Reply(read_reply(question, text), *spent, text=text)

    def _only_model(self) -> str:
        listed = self._send("/models", None)
        try:
            names = [entry["id"] for entry in listed["data"]]
        except (KeyError, TypeError):
            raise JudgeError(f"{self.url}/models does not list models; name one: openai:{self.url}#MODEL") from None
        if len(names) != 1:
            raise UsageError(
                f"{self.url} has {len(names)} models; name one: openai:{self.url}#MODEL, MODEL being "
                f"one of {', '.join(map(str, names[:20]))}"
            )
        return str(names[0])

    def _send(self, path: str, body: dict[str, Any] | None) -> Any:
        wait = self.wait_s
        for attempt in range(self.retries + 1):
            try:
                return self._once(path, body)
            except _TryAgain as failure:
                if attempt == self.retries:
                    raise JudgeError(f"{self.url}{path} failed {attempt + 1} times, lastly: {failure}") from None
                time.sleep(failure.after if failure.after is not None else wait)
                wait *= 2
        raise AssertionError("unreachable")

    def _once(self, path: str, body: dict[str, Any] | None) -> Any:
        secret = os.environ.get(self._key, "")
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {secret}"} if secret else {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with _OPENER.open(request, timeout=self.timeout_s) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            said = _without(secret, error.read(2000).decode(errors="replace").strip())
            message = f"status {error.code}: {said[:500]}"
            if error.code in _TRY_AGAIN:
                raise _TryAgain(message, _read_wait(error.headers)) from None
            hint = f"; is {self._key} set to a valid key?" if error.code in (401, 403) else ""
            raise JudgeError(f"{self.url}{path} refused, {message}{hint}") from None
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise _TryAgain(_without(secret, str(getattr(error, "reason", error)) or type(error).__name__)) from None
        except ValueError:
            raise _TryAgain("the answer is not JSON") from None


def _in_order(asked: list[Future[Reply]]) -> Iterator[Reply]:
    failure: JudgeError | None = None
    for place, future in enumerate(asked):
        if future.cancelled():
            yield Reply(None, failure=failure)
            continue
        try:
            yield future.result()
        except JudgeError as error:
            failure = failure or error
            for later in asked[place + 1 :]:
                later.cancel()
            yield Reply(None, failure=failure)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to another place."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class _TryAgain(Exception):
    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def _read_wait(headers: Message) -> float | None:
    text = headers.get("Retry-After", "")
    return min(float(text), 60.0) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _without(secret: str, text: str) -> str:
    return text.replace(secret, "[key]") if secret else text


def open_endpoint(place: str, asking: Asking | None = None) -> Endpoint:
    """Return the endpoint of ``URL`` or ``URL#MODEL``."""
    url, _, model = place.partition("#")
    asking = asking or Asking()
    return Endpoint(
        url,
        model or None,
        prompts=asking.prompts,
        max_tokens=asking.max_tokens,
        timeout_s=asking.timeout_s,
        retries=asking.retries,
    )
