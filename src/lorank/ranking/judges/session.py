"""One query's questioning of a judge: batches, cache, budget and meter in one place.

Strategies see a session and never the judge. Whatever the judge says, a session returns well-formed answers: see
:func:`lorank.ranking.judges.question.repair_answer`. Once the budget is spent it returns neutral answers, which leave
the documents in the order shown, and ``spent`` is True. An answer that a cache holds from before counts against the
budget the first time it is used, as if it were paid now: a ranking that is taken up after a crash is held to the same
budget as one that never stopped.
"""

import time
from collections.abc import Iterable, Sequence

from lorank.errors import UsageError
from lorank.ranking.judges.budget import Budget
from lorank.ranking.judges.cache import Cache, Kept
from lorank.ranking.judges.judge import Judge, JudgeError
from lorank.ranking.judges.malformed import Malformed
from lorank.ranking.judges.question import Answer, Question, Reply, neutral_answer, repair_answer
from lorank.ranking.judges.usage import Usage


class Session:
    """Questions about ``documents`` for ``query``, put to ``judge``.

    Args:
        judge: Who answers.
        query: The query.
        documents: The documents; questions name them by position.
        cache: Answers kept from before, and to keep new ones in.
        budget: The most that may be spent.
        batch_size: Questions a batch, at most; by default all that are ready together.
    """

    def __init__(
        self,
        judge: Judge,
        query: str,
        documents: Sequence[str],
        *,
        cache: Cache | None = None,
        budget: Budget | None = None,
        batch_size: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size must be 1 or above, got {batch_size}")
        if cache is not None and cache.path is not None and judge.identity is None:
            raise UsageError("this judge cannot be told from others in a cache on disk; give it a name")
        self.judge, self.query, self.documents = judge, query, documents
        self.cache, self.budget, self.batch_size = cache, budget or Budget(), batch_size
        self.usage = Usage()
        self.spent = False
        self.malformed = Malformed()
        self._charged = Usage()
        self._known: set[str] = set()

    @property
    def count(self) -> int:
        """The number of documents."""
        return len(self.documents)

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Return one well-formed answer a question; those that cannot be paid for are answered neutrally."""
        answers = self.ask_within_budget(questions)
        return [answers[p] if p in answers else neutral_answer(question) for p, question in enumerate(questions)]

    def ask_within_budget(self, questions: Sequence[Question]) -> dict[int, Answer]:
        """Return a well-formed answer to each question that the budget allows, by its place in ``questions``."""
        self._refuse_unknown(questions)
        answers: dict[int, Answer] = {}
        places: dict[str, list[int]] = {}
        for place, question in enumerate(questions):
            key = self._key(question, place)
            kept = self.cache.get(key) if self.cache is not None else None
            if kept is not None and self._covers(key, kept):
                self.usage.cache_hits += 1
                answers[place] = kept.answer
            elif kept is not None:
                self.spent = True
            else:
                places.setdefault(key, []).append(place)
        before = self.usage.calls
        for keys in self._batches(list(places), questions, places):
            self._put(keys, questions, places, answers)
        self.usage.rounds += self.usage.calls > before
        self.usage.refused += len(questions) - len(answers)
        return answers

    def points(self, documents: Iterable[int]) -> list[float]:
        """Return the pointwise score of each document."""
        return self.ask([Question("pointwise", (d,)) for d in documents])  # type: ignore[return-value]

    def duels(self, pairs: Sequence[tuple[int, int]], both_orders: bool = True) -> list[float]:
        """Return, for each pair, 1 if its first wins, 0 if its second wins and 0.5 if the judge cannot tell.

        With ``both_orders`` each pair is asked twice, once in each order, and contradicting answers are a tie.
        """
        if not both_orders:
            return self.ask([Question("pairwise", pair) for pair in pairs])  # type: ignore[return-value]
        both = [Question("pairwise", shown) for a, b in pairs for shown in ((a, b), (b, a))]
        answers: list[float] = self.ask(both)  # type: ignore[assignment]
        return [_agree(forth, 1 - back) for forth, back in zip(answers[::2], answers[1::2])]

    def bests(self, groups: Sequence[Sequence[int]]) -> list[int]:
        """Return the document that a setwise question finds most relevant, for each group; one alone is its best."""
        return self._picks("setwise", groups)

    def worsts(self, groups: Sequence[Sequence[int]]) -> list[int]:
        """Return the document that an exclude question finds least relevant, for each group."""
        return self._picks("exclude", groups)

    def orders(self, groups: Sequence[Sequence[int]], kind: str = "listwise") -> list[list[int]]:
        """Return each group best first, by a listwise or an identifiers question; groups of one cost nothing."""
        real = [tuple(group) for group in groups if len(group) > 1]
        answers = iter(self.ask([Question(kind, group) for group in real]))
        return [_arrange(kind, group, next(answers)) if len(group) > 1 else list(group) for group in groups]

    def orders_within_budget(self, groups: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return the listwise answers that the budget allows, and none for the groups left unasked.

        For groups in an order that means nothing, where a neutral answer would be taken for an opinion.
        """
        answers = self.ask_within_budget([Question("listwise", tuple(group)) for group in groups])
        return [_arrange("listwise", groups[place], answer) for place, answer in answers.items()]

    def scores(self, groups: Sequence[Sequence[int]]) -> list[tuple[float, ...]]:
        """Return a groupwise score for each document of each group."""
        return self.ask([Question("groupwise", tuple(group)) for group in groups])  # type: ignore[return-value]

    def selection(self, group: Sequence[int]) -> list[int]:
        """Return the documents of the group that are worth reading, best first."""
        (places,) = self.ask([Question("selection", tuple(group))])
        return [group[p] for p in places]  # type: ignore[union-attr]

    def _picks(self, kind: str, groups: Sequence[Sequence[int]]) -> list[int]:
        real = [tuple(group) for group in groups if len(group) > 1]
        answers = iter(self.ask([Question(kind, group) for group in real]))
        return [group[next(answers)] if len(group) > 1 else group[0] for group in groups]  # type: ignore[index]

    def _refuse_unknown(self, questions: Sequence[Question]) -> None:
        for kind in {question.kind for question in questions} - self.judge.kinds:
            known = ", ".join(sorted(self.judge.kinds))
            raise UsageError(
                f"{type(self.judge).__name__} does not answer {kind} questions, only {known}; "
                "choose a strategy that asks those, or another judge"
            )

    def _key(self, question: Question, place: int) -> str:
        return str(place) if self.cache is None else self.judge.key(self.query, self.documents, question)

    def _covers(self, key: str, kept: Kept) -> bool:
        """Charge what a kept answer cost, once; False where the budget does not hold it."""
        if key in self._known:
            return True
        if self.spent or not self.budget.allows(self._charged, 1, kept.tokens_in + kept.tokens_out):
            return False
        self._charge(key, kept)
        return True

    def _charge(self, key: str, kept: Kept) -> None:
        self._known.add(key)
        sample = kept.sample if kept.malformed else ""
        self.malformed += Malformed(int(kept.malformed), 1, sample)
        self._charged.calls += 1
        self._charged.tokens_in += kept.tokens_in
        self._charged.tokens_out += kept.tokens_out

    def _batches(
        self, keys: list[str], questions: Sequence[Question], places: dict[str, list[int]]
    ) -> Iterable[list[str]]:
        size = self.batch_size or max(len(keys), 1)
        for start in range(0, len(keys), size):
            batch = self._affordable(keys[start : start + size], questions, places)
            if batch:
                yield batch
            if self.spent:
                return

    def _affordable(self, keys: list[str], questions: Sequence[Question], places: dict[str, list[int]]) -> list[str]:
        if self.spent or (self.budget.calls is None and self.budget.tokens is None):
            return [] if self.spent else keys
        tokens = 0
        for number, key in enumerate(keys):
            if self.budget.tokens is not None:
                tokens += self.judge.tokens(self.query, self.documents, questions[places[key][0]])
            if not self.budget.allows(self._charged, number + 1, tokens):
                self.spent = True
                return keys[:number]
        return keys

    def _put(
        self, keys: list[str], questions: Sequence[Question], places: dict[str, list[int]], answers: dict[int, Answer]
    ) -> None:
        asked = [questions[places[key][0]] for key in keys]
        self.usage.batches += 1
        began = time.perf_counter()
        replies, failure = 0, None
        try:
            for key, question, reply in zip(keys, asked, self.judge.answer(self.query, self.documents, asked)):
                replies += 1
                if reply.failure is not None:
                    failure = failure or reply.failure
                    continue
                answer = self._meter(key, question, reply)
                for place in places[key]:
                    answers[place] = answer
                self.usage.cache_hits += len(places[key]) - 1
        finally:
            self.usage.wall_time_s += time.perf_counter() - began
        if failure is not None:
            raise failure
        if replies != len(asked):
            raise JudgeError(f"{type(self.judge).__name__} gave {replies} replies to {len(asked)} questions")

    def _meter(self, key: str, question: Question, reply: Reply) -> Answer:
        answer, repaired = repair_answer(question, reply.value)
        malformed = repaired or reply.malformed
        self.usage.calls += 1
        self.usage.tokens_in += reply.tokens_in
        self.usage.tokens_out += reply.tokens_out
        self.usage.malformed += malformed
        sample = f"{question.kind} question answered by {reply.describe()}" if malformed else ""
        kept = Kept(answer, malformed, reply.tokens_in, reply.tokens_out, sample)
        self._charge(key, kept)
        if self.cache is not None:
            self.cache.put(key, question.kind, kept)
        return answer


def _agree(forth: float, back: float) -> float:
    if forth > 0.5 and back > 0.5:
        return 1.0
    return 0.0 if forth < 0.5 and back < 0.5 else 0.5


def _arrange(kind: str, group: Sequence[int], answer: Answer) -> list[int]:
    if kind == "listwise":
        return [group[place] for place in answer]  # type: ignore[union-attr]
    places = sorted(range(len(group)), key=lambda place: -answer[place])  # type: ignore[index]
    return [group[place] for place in places]
