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
        tokens: Estimated tokens (`estimate_tokens`) of one request.
        body_bytes: Bytes of one request's body.
        elements: Values of one body, those of lists and objects counted: more are refused before any is looked at.
        depth: Lists and objects inside each other in one body.
        held_bytes: Bytes of all bodies and answers that are held at the same time; a tenant may hold as much as is
            free for others.
        headers_s: Seconds in which the headers of a request must have arrived, counted from its first byte or, for the
            first of a connection, from the beginning.
        idle_s: Seconds that a connection may stay open between requests.
        write_s: Seconds in which a client must have read some of an answer that is sent.
        connections: Connections at the same time; fewer where the process may open fewer files.
        connections_of_one: Connections at the same time from one address.
        body_s: Seconds in which a body must have arrived.
        timeout_s: Seconds in which a request is answered, or else refused; a request may ask for less.
        streamed_timeout_s: The same for a request whose answer is streamed.
        queued: Requests that wait to be scored, of all callers.
        queued_of_one: Requests of one caller that wait to be scored.
        backlog_s: Seconds of work of its own caller, fair shares of others included, that may be ahead of a request;
            beyond them it is refused with 429.
        latency_ms: The target: at half load, 99 of 100 ordinary requests are answered in it. A batch takes about a
            quarter of it at most.
        collect_ms: How long an idle scorer waits for further requests to join a batch.
        cache_bytes: Memory for scores already computed; 0 turns the cache off.
        ready_s: Seconds in which a batch must be scored; beyond them `/health/ready` answers 503.
        drain_s: Seconds that accepted requests have to end once the server was asked to stop.
    """

    documents: int = 1_000
    streamed_documents: int = 50_000
    document_characters: int = 200_000
    tokens: int = 2_000_000
    body_bytes: int = 8 << 20
    elements: int = 400_000
    depth: int = 32
    held_bytes: int = 256 << 20
    headers_s: float = 10.0
    idle_s: float = 30.0
    write_s: float = 20.0
    connections: int = 1024
    connections_of_one: int = 256
    body_s: float = 15.0
    timeout_s: float = 60.0
    streamed_timeout_s: float = 600.0
    queued: int = 512
    queued_of_one: int = 128
    backlog_s: float = 5.0
    latency_ms: float = 500.0
    collect_ms: float = 2.0
    cache_bytes: int = 64 << 20
    ready_s: float = 20.0
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 0 if field.name in ("cache_bytes", "collect_ms") else 1e-3
            if not getattr(self, field.name) >= least:
                raise UsageError(f"{field.name} must be at least {least}, got {getattr(self, field.name)}")


READ = 512
"""Tokens of a document that models read as a rule; what is beyond them is tokenised and dropped."""
DROPPED = 32
"""Tokens that are only tokenised and dropped cost this many times less than those that the model reads."""
CHARACTERS_A_TOKEN = 64
"""No more characters than so many for each token that the model reads are tokenised at all."""


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has, without tokenising it: 4 bytes a token.

    >>> estimate_tokens("four"), estimate_tokens(""), estimate_tokens("x" * 4000)
    (2, 1, 1001)
    """
    return 1 + (len(text) if text.isascii() else len(text.encode())) // 4


def cut_text(text: str, reads: int | None) -> str:
    """Return the beginning of a text that a model which reads ``reads`` tokens can see; None reads all.

    >>> len(cut_text("x" * 10_000, 16)), len(cut_text("x" * 10_000, None))
    (1024, 10000)
    """
    return text if reads is None else text[: reads * CHARACTERS_A_TOKEN]


def row_cost(query: int, document: int, reads: int | None) -> int:
    """Return about what a document costs: the tokens that the model reads of it and the query together.

    What is tokenised and dropped counts a 32nd. ``reads`` is the most tokens of a row; None where the model reads a
    long document in passages, the query with each, so that all of it counts.

    >>> row_cost(10, 100, 512), row_cost(10, 3702, 512), row_cost(10, 5130, None)
    (110, 612, 5240)
    """
    if reads is None:
        passages = -(-document // READ)
        return query * max(passages, 1) + document
    whole = min(query + document, reads * CHARACTERS_A_TOKEN // 4)
    return whole if whole <= reads else reads + (whole - reads) // DROPPED
