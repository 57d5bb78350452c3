"""Judges: who answers questions about documents, and the session in which a strategy asks them.

A strategy asks pointwise, pairwise, setwise, groupwise or listwise questions through a :class:`Session`, which
batches, caches, checks and meters; the judge behind it is an oracle, a ranker, a language model or an endpoint.
"""

from lorank.ranking.judges.budget import Budget
from lorank.ranking.judges.cache import Cache
from lorank.ranking.judges.endpoint import Endpoint
from lorank.ranking.judges.judge import Judge, JudgeError
from lorank.ranking.judges.malformed import Malformed, check_malformed
from lorank.ranking.judges.oracle import Oracle
from lorank.ranking.judges.prompts import Prompts
from lorank.ranking.judges.question import KINDS, Question, Reply
from lorank.ranking.judges.session import Session
from lorank.ranking.judges.usage import Usage

__all__ = [
    "KINDS",
    "Budget",
    "Cache",
    "Endpoint",
    "Judge",
    "JudgeError",
    "Malformed",
    "Oracle",
    "Prompts",
    "Question",
    "Reply",
    "Session",
    "Usage",
    "check_malformed",
]
