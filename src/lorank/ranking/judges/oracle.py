"""A judge that knows the labels, with as much noise, position bias and nonsense as asked for.

To each document i at place p of m shown, a question gives the utility

    u_i = label_i + noise * e_i + position_bias * (m - 1 - p) / (m - 1),      e_i ~ N(0, 1),

and every kind of question is answered by these utilities (Thurstone's model of comparison). The draws are a
function of the seed and the question, so that the same question always gets the same answer, in whatever batch.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.judges.judge import Judge, digest, tokens_out
from lorank.ranking.judges.question import KINDS, Question, Reply, repair_answer

_STREAM = {
    kind: i
    for i, kind in enumerate(
        ("pointwise", "pairwise", "setwise", "exclude", "groupwise", "listwise", "identifiers", "selection")
    )
}


class Oracle(Judge):
    """A judge for tests and planning.

    Args:
        labels: The relevance of each document, by position in the list that is ranked.
        noise: Standard deviation of the normal noise on each utility, in units of the labels.
        position_bias: What the first place gains over the last, in units of the labels; below 0 the last gains.
        malformed: Probability that an answer is nonsense.
        threshold: A ``selection`` names the documents whose utility is above it.
        seed: Draws differ between seeds and are the same for the same question.
        kinds: The kinds of question that it answers, to stand for a judge that does not answer all.

    >>> from lorank.ranking import rerank
    >>> rerank("q", ["a", "b", "c"], Oracle([0, 2, 1]), strategy="pointwise").order
    (1, 2, 0)
    """

    def __init__(
        self,
        labels: Sequence[float],
        noise: float = 0.0,
        *,
        position_bias: float = 0.0,
        malformed: float = 0.0,
        threshold: float = 0.0,
        seed: int = 0,
        kinds: Iterable[str] = KINDS,
    ) -> None:
        if noise < 0:
            raise UsageError(f"noise must be 0 or above, got {noise}")
        if not 0 <= malformed <= 1:
            raise UsageError(f"malformed must be a probability from 0 to 1, got {malformed}")
        self.labels = np.asarray(labels, dtype=np.float64)
        if self.labels.ndim != 1 or not np.isfinite(self.labels).all():
            raise UsageError("labels must be one finite number a document")
        self.noise, self.position_bias, self.malformed = noise, position_bias, malformed
        self.threshold, self.seed = threshold, seed
        self.kinds = frozenset(kinds)
        for kind in self.kinds - KINDS:
            raise unknown_name("kind of question", kind, KINDS)

    @property
    def identity(self) -> str:
        """A digest of the labels and of every setting."""
        return digest(
            "oracle", self.labels.tolist(), self.noise, self.position_bias, self.malformed, self.threshold, self.seed
        )

    def key(self, query: str, documents: Sequence[str], question: Question) -> str:
        """Return a digest that goes by position, since labels belong to positions and not to texts."""
        return digest(self.identity, question.kind, query, question.documents)

    def answer(self, query: str, documents: Sequence[str], questions: Sequence[Question]) -> Iterator[Reply]:
        """Yield one reply a question."""
        if len(self.labels) != len(documents):
            raise UsageError(f"the oracle holds {len(self.labels)} labels for {len(documents)} documents")
        for question in questions:
            yield Reply(self._value(question), self.tokens_in(query, documents, question), tokens_out(question))

    def _value(self, question: Question) -> Any:
        size = len(question.documents)
        utility = self.labels[list(question.documents)]
        if self.position_bias and size > 1:
            utility = utility + self.position_bias * np.linspace(1.0, 0.0, size)
        if self.noise or self.malformed:
            rng = np.random.default_rng([self.seed, _STREAM[question.kind], *question.documents])
            if rng.random() < self.malformed:
                return _nonsense(question, int(rng.integers(len(_NONSENSE))))
            utility = utility + self.noise * rng.standard_normal(size)
        return _said(question.kind, utility, self.threshold)


def _nonsense(question: Question, first: int) -> Any:
    """Return a value that is no answer to this kind of question, the first from ``first`` on."""
    candidates = (make(len(question.documents)) for make in (*_NONSENSE[first:], *_NONSENSE))
    return next(value for value in candidates if repair_answer(question, value)[1])


def _said(kind: str, utility: np.ndarray, threshold: float) -> Any:
    if kind == "pointwise":
        return float(utility[0])
    if kind == "pairwise":
        return (float(np.sign(utility[0] - utility[1])) + 1) / 2
    if kind in ("groupwise", "identifiers"):
        return utility.tolist()
    order = np.argsort(-utility, kind="stable").tolist()
    if kind == "selection":
        return [place for place in order if utility[place] > threshold]
    return {"setwise": order[:1], "exclude": order[-1:], "listwise": [order]}[kind][0]


_NONSENSE: tuple[Callable[[int], Any], ...] = (
    lambda size: None,
    lambda size: "I cannot rank these.",
    lambda size: math.nan,
    lambda size: size + 7,
    lambda size: -1,
    lambda size: [size + 7, size + 7, -1],
    lambda size: [size - 1] * (size + 1),
    lambda size: [math.nan] * size,
    lambda size: [],
)
