"""The generator of a reward: what it writes with the documents that each reply selects, compared with what is expected.

The generator does not change while the policy is trained, so that what it wrote for a selection is kept and not asked
for again.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lorank.errors import DataError
from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.question import Question
from lorank.ranking.policies.rewards import Asked, Generated
from lorank.ranking.policies.rewards.dynamicrag import selected_places
from lorank.training.policies.questions import Posed

LONGEST_ANSWER = 64
"""The most tokens of a generator's answer."""


@dataclass(frozen=True)
class Generator:
    """Answers queries from selected documents.

    Attributes:
        judge: The model that writes, and that marks what it wrote.
        opened: Opens the weights with which it writes.
        queries: The texts of the queries, by position.
        expected: The expected answers of each query.
        kept: By query and selection, what was written.
    """

    judge: CausalJudge
    opened: Callable[[], AbstractContextManager[Any]]
    queries: Sequence[str]
    expected: Sequence[tuple[str, ...]]
    kept: dict[tuple[int, tuple[str, ...]], Generated] = field(default_factory=dict)

    def answered(self, texts: Sequence[str], posed: Sequence[Posed]) -> list[Asked]:
        """Return the questions of replies, each with what the generator wrote from the documents selected.

        Args:
            texts: The replies.
            posed: Their questions.
        """
        keys: list[tuple[int, tuple[str, ...]] | None] = []
        for text, each in zip(texts, posed, strict=True):
            places = selected_places(text, each.asked.size)
            keys.append(None if places is None else (each.query, tuple(each.texts[place] for place in places)))
        self._write([key for key in dict.fromkeys(keys) if key is not None and key not in self.kept])
        return [
            each.asked if key is None else replace(each.asked, generated=self.kept[key])
            for key, each in zip(keys, posed, strict=True)
        ]

    def _write(self, keys: Sequence[tuple[int, tuple[str, ...]]]) -> None:
        """Let the generator write what is not there yet, and mark it."""
        if not keys:
            return
        prompts = [
            self.judge.prompts.text(
                self.queries[query], shown, Question("selection", tuple(range(len(shown)))), template="answer"
            )
            for query, shown in keys
        ]
        with self.opened():
            written = [text.strip() for text in self.judge.complete(prompts)]
            for (query, shown), text in zip(keys, written, strict=True):
                (reply,) = self.judge.answer(self.queries[query], [text], [Question("pointwise", (0,))])
                mark = float(torch.tensor(float(reply.value)).sigmoid())
                tokens = len(self.judge.tokenizer(text, add_special_tokens=False)["input_ids"])
                self.kept[query, shown] = Generated(text, self.expected[query], tokens, mark)
        torch.clear_autocast_cache()  # weights cast for inference cannot be trained with


def read_answers(path: str | Path, names: Sequence[str], texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the expected answers of each query, from JSON Lines of "query" (its text or id) and "answers".

    Args:
        path: The file.
        names: The ids of the queries.
        texts: Their texts.

    Raises:
        DataError: For a row that is none, and for queries without an answer.
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            query, answers = row["query"], row["answers"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(path, number, "no row of answers", 'write {"query": ..., "answers": [...]}') from error
        several = [answers] if isinstance(answers, str) else answers
        if not isinstance(several, list) or not several or not all(isinstance(each, str) for each in several):
            raise DataError(path, number, f"answers is {answers!r}", "give one or several texts")
        found[str(query)] = tuple(several)
    missing = [name for name, text in zip(names, texts, strict=True) if text not in found and name not in found]
    if missing:
        raise DataError(
            path,
            None,
            f"{len(missing)} of {len(names)} queries have no answer, {missing[0]!r} among them",
            "add a row for each, by its text or its id",
        )
    return [found.get(text) or found[name] for name, text in zip(names, texts, strict=True)]
