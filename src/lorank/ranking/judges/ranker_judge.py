"""Any ranker as a judge: it scores each document once, and every question is answered from these scores."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lorank.ranking.judges.judge import Judge, tokens_out
from lorank.ranking.judges.oracle import Oracle
from lorank.ranking.judges.question import Question, Reply
from lorank.ranking.scorers.ranker import Ranker, TrainableRanker


class RankerJudge(Judge):
    """Answers by a ranker's scores.

    A document is scored the first time a question shows it, and its score kept for the present query, so a
    strategy with many questions costs no more model time than a pointwise one; calls are still counted.

    Args:
        ranker: The ranker that scores.
        name: What tells its answers from another ranker's in a cache on disk; by default a digest of the weights
            of a trainable ranker, and nothing for others, which then cannot be cached on disk.
        threshold: A ``selection`` names the documents that score above it.
    """

    def __init__(self, ranker: Ranker, *, name: str | None = None, threshold: float = 0.0) -> None:
        self.ranker, self.threshold = ranker, threshold
        self._name = name
        self._query: str | None = None
        self._documents: Sequence[str] = ()
        self._scores = np.zeros(0)

    @property
    def identity(self) -> str | None:
        """The name given, or a digest of the weights."""
        if self._name is None and isinstance(self.ranker, TrainableRanker):
            self._name = _weights_digest(self.ranker)
        return None if self._name is None else f"{self._name} above {self.threshold}"

    def answer(self, query: str, documents: Sequence[str], questions: Sequence[Question]) -> Iterator[Reply]:
        """Yield one reply a question."""
        self._score(query, documents, sorted({d for question in questions for d in question.documents}))
        answers = Oracle(np.nan_to_num(self._scores).tolist(), threshold=self.threshold).answer(
            query, documents, questions
        )
        for question, reply in zip(questions, answers, strict=True):
            yield Reply(reply.value, self.tokens_in(query, documents, question), tokens_out(question))

    def _score(self, query: str, documents: Sequence[str], shown: list[int]) -> None:
        if query != self._query or documents is not self._documents:
            self._query, self._documents, self._scores = query, documents, np.full(len(documents), np.nan)
        new = [d for d in shown if np.isnan(self._scores[d])]
        if new:
            pairs = np.stack([np.zeros(len(new), np.int64), np.arange(len(new))], 1)
            self._scores[new] = self.ranker.score_pairs([query], [documents[d] for d in new], pairs)


def _weights_digest(ranker: TrainableRanker) -> str:
    state = hashlib.sha256(repr((type(ranker).__name__, ranker.base, ranker.options())).encode())
    for name, weight in sorted(ranker.module.state_dict().items()):
        state.update(name.encode())
        state.update(weight.detach().cpu().contiguous().flatten().view(-1).float().numpy().tobytes())
    return state.hexdigest()


def files_digest(folder: Path) -> str:
    """Return the SHA-256 of all files of a saved ranker: the name of a judge that is loaded from there."""
    state = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        state.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()
