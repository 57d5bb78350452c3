"""What a server takes on: how much a request may ask, how much may wait, and how long."""

from dataclasses import dataclass, fields

from lorank.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """The limits of a server; every one of them is named in the message that a refused client reads.

    Args:
        documents: Documents of one request, where the answer comes in one piece.
        streamed_documents: Documents of one request whose answer is streamed.
        document_characters: Characters of one document, or of the query.
        tokens: Estimated tokens (`estimated_tokens`) of one request.
        body_bytes: Bytes of one request's body.
        held_bytes: Bytes of all bodies that are held at the same time.
        body_s: Seconds in which a body must have arrived.
        timeout_s: Seconds in which a request is answered, or else refused; a request may ask for less.
        streamed_timeout_s: The same for a request whose answer is streamed.
        waiting: Requests that wait to be scored, of all callers.
        waiting_of_one: Requests of one caller that wait to be scored.
        backlog_s: Seconds of work ahead of a request beyond which it is refused with 429.
        latency_ms: The target: at half load, 99 of 100 ordinary requests are answered in it. A batch takes about a
            quarter of it at most.
        collect_ms: How long an idle scorer waits for further requests to join a batch.
        cache_bytes: Memory for scores already computed; 0 turns the cache off.
        drain_s: Seconds that accepted requests have to end once the server was told to stop.
    """

    documents: int = 1_000
    streamed_documents: int = 50_000
    document_characters: int = 200_000
    tokens: int = 2_000_000
    body_bytes: int = 8 << 20
    held_bytes: int = 256 << 20
    body_s: float = 15.0
    timeout_s: float = 60.0
    streamed_timeout_s: float = 600.0
    waiting: int = 512
    waiting_of_one: int = 128
    backlog_s: float = 5.0
    latency_ms: float = 500.0
    collect_ms: float = 2.0
    cache_bytes: int = 64 << 20
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 0 if field.name in ("cache_bytes", "collect_ms") else 1e-3
            if not getattr(self, field.name) >= least:
                raise UsageError(f"{field.name} must be at least {least}, got {getattr(self, field.name)}")


READ = 512
"""Tokens of a document that models read as a rule; what is beyond them is tokenised and dropped."""


def estimated_tokens(text: str) -> int:
    """Return about what a text costs, in tokens, without tokenising it: 4 bytes a token, a 16th beyond `READ`.

    >>> estimated_tokens("four"), estimated_tokens(""), estimated_tokens("x" * 4 * (512 + 1600))
    (2, 1, 612)
    """
    tokens = 1 + (len(text) if text.isascii() else len(text.encode())) // 4
    return tokens if tokens <= READ else READ + (tokens - READ) // 16
