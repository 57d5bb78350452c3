"""Questions of a step: some documents of each training list, shuffled, as a prompt that the policy answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.question import Question
from lorank.ranking.policies.rewards import Asked
from lorank.training.lists.batches import ListBatch


@dataclass(frozen=True)
class Posed:
    """A question as it is put.

    Attributes:
        query: The position of the query, alike at every epoch.
        prompt: The tokens of the prompt.
        asked: Its kind, and the labels of the documents in the order shown.
        texts: The texts of the documents, in the order shown.
    """

    query: int
    prompt: list[int]
    asked: Asked
    texts: tuple[str, ...] = ()


EMPTY_SHARE = 0.25
"""The share of selection questions that show no relevant document, where selecting none can be right."""


@dataclass(frozen=True)
class Questioner:
    """Makes questions of lists.

    Attributes:
        judge: It writes the prompts, and later answers them.
        kind: The kind of question.
        size: The most documents of a question.
        queries: The texts of the queries, by position.
        documents: The texts of the documents, by position.
        highest: The highest grade of the collection.
        empty_share: The share of questions that show no relevant document.
    """

    judge: CausalJudge
    kind: str
    size: int
    queries: Sequence[str]
    documents: Sequence[str]
    highest: float = 0.0
    empty_share: float = 0.0

    def pose(self, batch: ListBatch, seed: int) -> list[Posed]:
        """Return a question for each list of the batch whose documents differ in relevance, or of each document shown.

        A question shows one of the most relevant documents of its list and others drawn at random, in random order; a
        share of them, which is 0 unless selecting nothing can be right, shows documents of grade 0 alone.

        Args:
            batch: The lists.
            seed: The seed of what is shown, and of its order.
        """
        rng, posed = np.random.default_rng(seed), []
        for row in range(len(batch)):
            there = batch.mask[row].nonzero().flatten().tolist()
            labels = batch.labels[row].tolist()
            if len({labels[place] for place in there}) < 2:
                continue
            mixed = [there[i] for i in rng.permutation(len(there))]
            best = max(mixed, key=lambda place: labels[place])
            shown = [best, *(place for place in mixed if place != best)][: self.size]
            if self.empty_share and rng.random() < self.empty_share:
                shown = [place for place in mixed if labels[place] <= 0][: self.size] or shown
            shown = [shown[i] for i in rng.permutation(len(shown))]
            texts = [self.documents[int(batch.documents[row, place])] for place in shown]
            query = int(batch.queries[row])
            grades = tuple(labels[place] for place in shown)
            for places, asked in self._questions(row, grades):
                prompt = self.judge.prompt(self.queries[query], texts, Question(self.kind, places))
                posed.append(Posed(query, self.judge.encode(prompt), asked, tuple(texts[i] for i in places)))
        return posed

    def _questions(self, row: int, grades: tuple[float, ...]) -> list[tuple[tuple[int, ...], Asked]]:
        """Return the places that each question about a list shows: one by one for pointwise questions, else all."""
        if self.kind == "pointwise":
            return [
                ((i,), Asked(self.kind, (grade,), of=(row, i), highest=self.highest)) for i, grade in enumerate(grades)
            ]
        return [(tuple(range(len(grades))), Asked(self.kind, grades, highest=self.highest))]
