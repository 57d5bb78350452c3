"""A local causal language model as judge.

Short answers are read from the logits of the first token, so that nothing has to be parsed:

- pointwise: ``logit(yes) - logit(no)``, or with ``pointwise="expected"`` the expected score
  ``sum_s s softmax(logit(s))`` over the scores 0..10 that are one token each;
- pairwise: ``softmax(logit(A), logit(B))[A]``;
- setwise and exclude: the letter of the largest logit; identifiers (FIRST): the logits of all letters.

Groupwise, listwise and selection questions, and others that ``written`` names, are answered by generated text,
greedily, of at most ``max_tokens`` tokens (thinking included), and read by :mod:`lorank.ranking.judges.reading`. A
written score is replaced by the expected one at its place where ``pointwise="expected"``. The tokenizer's chat template
is applied where it has one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.ranking.judges.expected import expected_scores
from lorank.ranking.judges.judge import Judge, digest
from lorank.ranking.judges.prompts import LETTERS, Prompts
from lorank.ranking.judges.question import Question, Reply
from lorank.ranking.judges.reading import read_reply

GENERATED = frozenset({"groupwise", "listwise", "selection"})
LETTERED = frozenset({"pairwise", "setwise", "exclude", "identifiers"})
"""Kinds of question that a letter answers, unless they are answered by generated text."""
POINTWISE = ("yes-no", "expected")


class CausalJudge(Judge):
    """Asks a transformers causal LM.

    Args:
        model: The model, on its device.
        tokenizer: Its tokenizer.
        name: What tells its answers from another model's in a cache on disk.
        prompts: What is asked.
        pointwise: ``yes-no`` or ``expected``, as above.
        max_tokens: The most that a generated reply may take.
        batch_size: Prompts that are computed together.
        written: The kinds of question that are answered by generated text; those that a token can answer are answered
            by its logits unless they are named here.

    Raises:
        UsageError: If yes and no, or the letters, are not one token each in this tokenizer.
    """

    scheme: ClassVar[str] = "causal"
    """What the name of such a judge begins with."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        name: str | None = None,
        prompts: Prompts | None = None,
        pointwise: str = "yes-no",
        max_tokens: int = 512,
        batch_size: int = 8,
        written: Iterable[str] = GENERATED,
    ) -> None:
        if pointwise not in POINTWISE:
            raise UsageError(f"pointwise must be one of {', '.join(POINTWISE)}, got {pointwise!r}")
        if max_tokens < 1 or batch_size < 1:
            raise UsageError(f"max_tokens and batch_size must be 1 or above, got {max_tokens} and {batch_size}")
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.prompts, self.pointwise = prompts or Prompts.load(), pointwise
        self.max_tokens, self.batch_size = max_tokens, batch_size
        self.written = GENERATED | frozenset(written)
        self._chat = bool(getattr(tokenizer, "chat_template", None))

    @classmethod
    def load(cls, base: str | Path, **options: Any) -> Self:
        """Load a short name (``smollm2``), a folder, a GGUF file or a Hub name.

        Raises UsageError for a checkpoint that does not bring every weight of a causal language model, and for a chat
        model without its chat template.
        """
        from lorank.ranking.scorers.causal_pretrained import applies_chat, load_causal

        loaded = load_causal(base, "lm")
        applies_chat(loaded.tokenizer, "auto", loaded.source)
        return cls(loaded.module, loaded.tokenizer, **{"name": str(base), **options})

    @property
    def identity(self) -> str | None:
        """A digest of the name, the prompts and what else decides an answer; None without a name."""
        if self.name is None:
            return None
        templates = {kind: template.template for kind, template in self.prompts.templates.items()}
        more = sorted(self.written - GENERATED)
        return digest(self.scheme, self.name, templates, self.prompts.words, self.pointwise, self.max_tokens, *more)

    def most_shown(self, kind: str) -> int | None:
        """Return the number of letters, where a letter answers the question."""
        return len(LETTERS) if kind in LETTERED and kind not in self.written else None

    def tokens_in(self, query: str, documents: Sequence[str], question: Question) -> int:
        """Return the tokens of the prompt."""
        return len(self.encode(self.prompt(query, documents, question)))

    def tokens(self, query: str, documents: Sequence[str], question: Question) -> int:
        """Return the tokens of the prompt and of the longest reply."""
        longest = self.max_tokens if question.kind in self.written else 1
        return self.tokens_in(query, documents, question) + longest

    def prompt(self, query: str, documents: Sequence[str], question: Question) -> str:
        """Return what the model reads, chat template applied."""
        written = question.kind in self.written
        yes_no = question.kind == "pointwise" and self.pointwise == "yes-no" and not written
        letters = question.kind in ("pairwise", "setwise", "exclude", "identifiers") and not written
        if letters and len(question.documents) > len(LETTERS):
            raise UsageError(
                f"a {question.kind} question of {len(question.documents)} documents has no letters for "
                f"all; show {len(LETTERS)} at most, or use a strategy with listwise questions"
            )
        text = self.prompts.text(query, documents, question, template="yes-no" if yes_no else None, letters=letters)
        return self.frame(text)

    def frame(self, text: str) -> str:
        """Return a question's text as the model reads it, up to where its answer begins."""
        return self._as_chat(text) if self._chat else f"{text}\n\nAnswer:"

    def _as_chat(self, text: str) -> str:
        turn = [{"role": "user", "content": text}]
        return str(self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))

    def answer(self, query: str, documents: Sequence[str], questions: Sequence[Question]) -> Iterator[Reply]:
        """Yield one reply a question, ``batch_size`` of a sort at a time."""
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            prompts = [self.encode(self.prompt(query, documents, question)) for question in batch]
            replies: dict[int, Reply] = {}
            for generated, reply_to in ((False, self._by_logits), (True, self._by_text)):
                places = [p for p, question in enumerate(batch) if (question.kind in self.written) == generated]
                if places:
                    replies.update(zip(places, reply_to([batch[p] for p in places], [prompts[p] for p in places])))
            yield from (replies[place] for place in range(len(batch)))

    def candidates(self, question: Question) -> tuple[list[int], list[float]]:
        """Return the tokens whose logits answer a question, and what each stands for."""
        if question.kind == "pointwise" and self.pointwise == "yes-no":
            return self.yes_no(), [1.0, 0.0]
        if question.kind == "pointwise":
            single = [(score, found) for score in range(11) if (found := self._single_token((str(score),))) is not None]
            return [token for _, token in single], [float(score) for score, _ in single]
        size = len(question.documents)
        return self._single_tokens([(letter,) for letter in LETTERS[:size]]), list(map(float, range(size)))

    def yes_no(self) -> list[int]:
        """Return the tokens of yes and no; raise UsageError where they are not one token each."""
        return self._single_tokens([("Yes", "yes"), ("No", "no")])

    def encode(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt that `prompt` wrote."""
        return list(self.tokenizer(prompt, add_special_tokens=not self._chat)["input_ids"])

    def _single_token(self, spellings: Sequence[str]) -> int | None:
        spaces = ("", " ") if self._chat else (" ", "")
        for spelling in (space + word for space in spaces for word in spellings):
            ids = self.tokenizer.encode(spelling, add_special_tokens=False)
            if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id:
                return int(ids[0])
        return None

    def _single_tokens(self, words: Sequence[Sequence[str]]) -> list[int]:
        found = [self._single_token(spellings) for spellings in words]
        if None in found or len(set(found)) != len(found):
            raise UsageError(
                f"this tokenizer has no token of its own for each of "
                f"{', '.join(spellings[0] for spellings in words)}; use a strategy with listwise "
                "questions"
            )
        return [token for token in found if token is not None]

    def _pad(self, prompts: Sequence[list[int]]) -> dict[str, Tensor]:
        longest = max(map(len, prompts))
        device = next(self.model.parameters()).device
        ids = [[self._pad_token] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}

    @property
    def _pad_token(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def next_logits(self, prompts: Sequence[list[int]]) -> Tensor:
        """Return the logits of the first token of each answer, float32 [prompts, vocabulary]."""
        inputs = self._pad(prompts)
        positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        logits: Tensor = self.model(**inputs, position_ids=positions).logits
        return logits[:, -1].float()

    def write(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """Return the tokens of each answer, greedily, to the end token, which is included."""
        inputs = self._pad(prompts)
        model: Any = self.model
        found = model.generate(**inputs, max_new_tokens=self.max_tokens, do_sample=False, pad_token_id=self._pad_token)
        return [self._to_end(ids) for ids in found[:, inputs["input_ids"].shape[1] :].tolist()]

    def _to_end(self, ids: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        return ids[: ids.index(end) + 1] if end in ids else ids

    @torch.inference_mode()
    def _by_logits(self, questions: list[Question], prompts: list[list[int]]) -> list[Reply]:
        replies = []
        for question, prompt, row in zip(questions, prompts, self.next_logits(prompts)):
            tokens, meanings = self.candidates(question)
            replies.append(Reply(self._read(question, row[tokens], meanings), len(prompt), 1))
        return replies

    def _read(self, question: Question, logits: Tensor, meanings: list[float]) -> Any:
        name = f"{question.kind} {self.pointwise}" if question.kind == "pointwise" else question.kind
        return _READ_LOGITS[name](logits, torch.tensor(meanings, device=logits.device))

    @torch.inference_mode()
    def complete(self, prompts: Sequence[str]) -> list[str]:
        """Return what the model writes after each prompt, greedily, chat template applied where there is one."""
        written: list[str] = []
        for start in range(0, len(prompts), self.batch_size):
            texts = [self._as_chat(text) if self._chat else text for text in prompts[start : start + self.batch_size]]
            found = self.write([self.encode(text) for text in texts])
            written += [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in found]
        return written

    @torch.inference_mode()
    def _by_text(self, questions: list[Question], prompts: list[list[int]]) -> list[Reply]:
        replies, written = [], self.write(prompts)
        for question, prompt, ids in zip(questions, prompts, written):
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            replies.append(Reply(read_reply(question, text), len(prompt), len(ids), text=text))
        return self._expect(questions, prompts, written, replies) if self.pointwise == "expected" else replies

    def _expect(
        self, questions: Sequence[Question], prompts: list[list[int]], written: list[list[int]], replies: list[Reply]
    ) -> list[Reply]:
        """Return the replies, each readable score of a pointwise question replaced by the expected one."""
        rows = [
            row
            for row, (question, reply) in enumerate(zip(questions, replies, strict=True))
            if question.kind == "pointwise" and reply.value is not None
        ]
        scores = expected_scores(
            self.next_logits, self.tokenizer, [prompts[row] for row in rows], [written[row] for row in rows]
        )
        for row, score in zip(rows, scores, strict=True):
            if score is not None:
                replies[row] = replies[row]._replace(value=score)
        return replies


_READ_LOGITS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "pointwise yes-no": lambda logits, meanings: (logits[0] - logits[1]).item(),
    "pointwise expected": lambda logits, meanings: (logits.softmax(0) * meanings).sum().item(),
    "pairwise": lambda logits, meanings: logits.softmax(0)[0].item(),
    "setwise": lambda logits, meanings: int(logits.argmax()),
    "exclude": lambda logits, meanings: int(logits.argmax()),
    "identifiers": lambda logits, meanings: logits.tolist(),
}
