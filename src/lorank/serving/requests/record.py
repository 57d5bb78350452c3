"""What is noted of one request for the log, the traces and the usage of its key."""

import time
from dataclasses import dataclass, field

from lorank.serving.requests.refusal import Refusal


@dataclass
class RequestRecord:
    """Filled on the way: which model, how many documents, what was read, and where the time went.

    ``queue_s`` is the time until its first batch began, ``score_s`` that of the batches that it was part of. ``began``
    and ``queued`` are wall clock times in seconds; ``refusal`` is why there is no answer, None where there is one.
    """

    began: float = field(default_factory=time.time)
    model: str = ""
    rows: int = 0
    cached: int = 0
    tokens: int = 0
    queued: float | None = None
    queue_s: float = 0.0
    score_s: float = 0.0
    refusal: Refusal | None = None

    def note_slice(self, queue_s: float, score_s: float, tokens: int) -> None:
        """Add one slice that was scored."""
        if not self.score_s:
            self.queue_s = queue_s
        self.score_s += score_s
        self.tokens += tokens
