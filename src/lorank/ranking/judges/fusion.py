"""ListT5's judge: a Fusion-in-Decoder T5 orders a few passages, each read by the encoder alone.

Passage i of a question is encoded as

    Query: {query}, Index: {i}, Context: {passage}

and the decoder, which attends to all encodings at once, writes the indices in the order of rising relevance, such as
"3 1 4 2 5": the last is the most relevant. What the encoder makes of a passage does not depend on the others, and the
decoder knows no order among them but their indices, so the order in which they are laid out does not change the answer.

Paper: Yoon et al., ListT5: Listwise Reranking with Fusion-in-Decoder Improves Zero-shot Retrieval, 2024; Izacard and
Grave, Leveraging Passage Retrieval with Generative Models for Open Domain Question Answering, 2021.

*Deviations*: a question with fewer passages than the model was trained on (``size``) shows them again in turn, and
the last place of each counts, as the published code does where the whole list is that short; elsewhere that code fills
up with other candidates. Only as much is decoded as an order takes.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from lorank.errors import UsageError
from lorank.ranking.judges.judge import Judge, digest
from lorank.ranking.judges.question import Question, Reply
from lorank.ranking.scorers.seq2seq_pretrained import load_encoder_decoder
from lorank.ranking.scorers.texts import replace_surrogates

TEMPLATE = "Query: {query}, Index: {index}, Context: {passage}"
"""What the encoder reads of each passage, as published."""


class FusionJudge(Judge):
    """Asks a Fusion-in-Decoder encoder-decoder for the order of a few passages.

    Args:
        model: The encoder-decoder, on its device.
        tokenizer: Its tokenizer.
        name: What tells its answers from another model's in a cache on disk.
        size: The passages that the model was trained on; fewer are shown again in turn.
        words: The most words of a passage that are shown; None shows all.
        max_length: The most tokens of one passage with its query, 8 or more.
        batch_size: The questions that are computed together.
    """

    kinds = frozenset({"listwise"})

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        name: str | None = None,
        size: int = 5,
        words: int | None = None,
        max_length: int = 512,
        batch_size: int = 8,
    ) -> None:
        if size < 2 or max_length < 8 or batch_size < 1:
            raise UsageError(
                f"size must be 2 or above, max_length 8 or above and batch_size 1 or above, got {size}, {max_length} "
                f"and {batch_size}"
            )
        self.model: Any = model.eval()
        self.tokenizer, self.name = tokenizer, name
        self.size, self.words, self.max_length, self.batch_size = size, words, max_length, batch_size

    @classmethod
    def load(cls, base: str | Path, **options: Any) -> Self:
        """Load a folder or a Hub name; raise UsageError for a base that is no encoder-decoder or lacks weights."""
        loaded = load_encoder_decoder(base)
        return cls(loaded.module, loaded.tokenizer, **{"name": str(base), **options})

    @property
    def identity(self) -> str | None:
        """A digest of the name and of what else decides an answer; None without a name."""
        return None if self.name is None else digest("fusion", self.name, self.size, self.words, self.max_length)

    def shown(self, question: Question) -> list[int]:
        """Return the places of a question in the order shown: each once, and again in turn up to ``size``.

        >>> FusionJudge(nn.Identity(), None).shown(Question("listwise", (7, 3, 9)))
        [0, 1, 2, 0, 1]
        """
        count = len(question.documents)
        return [i % count for i in range(max(count, self.size))]

    def texts(self, query: str, documents: Sequence[str], question: Question) -> list[str]:
        """Return what the encoder reads, one text for each passage that is shown."""
        return [
            TEMPLATE.format(
                query=_line(query), index=i, passage=_line(documents[question.documents[place]], self.words)
            )
            for i, place in enumerate(self.shown(question), 1)
        ]

    def tokens_in(self, query: str, documents: Sequence[str], question: Question) -> int:
        """Return the tokens of all texts that the encoder reads."""
        return sum(map(len, self._encode(self.texts(query, documents, question))))

    def tokens(self, query: str, documents: Sequence[str], question: Question) -> int:
        """Return the tokens of the texts and of the longest order."""
        return self.tokens_in(query, documents, question) + _longest_order(len(self.shown(question)))

    def answer(self, query: str, documents: Sequence[str], questions: Sequence[Question]) -> Iterator[Reply]:
        """Yield one reply a question; those of one size are computed together, ``batch_size`` at a time."""
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            replies: dict[int, Reply] = {}
            for size in sorted({len(self.shown(question)) for question in batch}):
                places = [p for p, question in enumerate(batch) if len(self.shown(question)) == size]
                rows = [self._encode(self.texts(query, documents, batch[p])) for p in places]
                for p, row, ids in zip(places, rows, self.write(rows)):
                    text = self.tokenizer.decode(ids, skip_special_tokens=True)
                    replies[p] = Reply(self.read(batch[p], text), sum(map(len, row)), len(ids), text=text)
            yield from (replies[p] for p in range(len(batch)))

    @torch.inference_mode()
    def write(self, rows: Sequence[Sequence[list[int]]]) -> list[list[int]]:
        """Return the tokens that are decoded greedily for each question, its end token included.

        Args:
            rows: The tokens of each passage of each question, all questions with as many passages.
        """
        ids, mask = self._grid(rows)
        questions, passages, width = ids.shape
        hidden = self.model.get_encoder()(
            input_ids=ids.view(-1, width), attention_mask=mask.view(-1, width)
        ).last_hidden_state
        fused = BaseModelOutput(last_hidden_state=hidden.reshape(questions, passages * width, -1))
        found = self.model.generate(
            encoder_outputs=fused,
            attention_mask=mask.view(questions, -1),
            max_new_tokens=_longest_order(passages),
            do_sample=False,
        )
        end = self.tokenizer.eos_token_id
        return [row[: row.index(end) + 1] if end in row else row for row in found[:, 1:].tolist()]

    def read(self, question: Question, text: str) -> list[int] | None:
        """Return the places of a reply, the most relevant first; None where it names none.

        >>> FusionJudge(nn.Identity(), None).read(Question("listwise", (7, 3, 9, 4, 5)), "3 1 4 2 5")
        [4, 1, 3, 0, 2]
        """
        shown = self.shown(question)
        named = [int(number) - 1 for number in reversed(re.findall(r"\d{1,6}", text))]
        places = [shown[i] if 0 <= i < len(shown) else -1 for i in named]
        again = len(shown) > len(question.documents)
        return (list(dict.fromkeys(places)) if again else places) or None

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        read = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)
        return [list(ids) for ids in read["input_ids"]]

    def _grid(self, rows: Sequence[Sequence[list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(ids) for row in rows for ids in row)
        device, pad = next(self.model.parameters()).device, self.tokenizer.pad_token_id
        ids = [[[*tokens, *[pad] * (width - len(tokens))] for tokens in row] for row in rows]
        mask = [[[1] * len(tokens) + [0] * (width - len(tokens)) for tokens in row] for row in rows]
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _line(text: str, words: int | None = None) -> str:
    return " ".join(replace_surrogates(text).split()[:words])


def _longest_order(count: int) -> int:
    """Return the tokens that an order of so many indices takes at most: those of each number, a space, and the end."""
    return count * (len(str(count)) + 1) + 1
