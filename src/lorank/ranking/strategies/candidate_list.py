"""One query's candidates, as a strategy gets them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CandidateList:
    """One query's candidates, best first: its id, its text, and the ids and texts of the documents."""

    query_id: str
    query: str
    ids: Sequence[str]
    texts: Sequence[str]
