"""A slot: where a text stands in a prompt, tokenised as one string with the words around it, once a text.

A tokenizer may join the end of a text with what follows: "why?" and a line break become "why", "?\\n". Tokenised apart
they would be other tokens than those that a model was trained on. A slot therefore tokenises left + text + right, finds
the tokens that are the same whatever the text is (head and tail, which a prompt holds once), and keeps the rest:
the text's own tokens, and the last few, its end, which may be joined with what follows and stay when a text is cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Self

import numpy as np

from lorank.ranking.scorers.texts import checked_texts
from lorank.ranking.scorers.tokens import TokenTable

Encode = Callable[[Sequence[str]], list[list[int]]]

PROBES = ("word", "", "why?", "\n", " ", "1", "a\n", "b ", "(c)", '"d".', "\n\ne", "  f", "é", "中文", "\u0301")
"""Texts that a tokenizer may join with what stands beside them."""


def encoder(tokenizer: Any) -> Encode:
    """Return texts -> their token ids, without special tokens and without cutting."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return lambda texts: [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]

    def encode(texts: Sequence[str]) -> list[list[int]]:
        backend.no_truncation()
        backend.no_padding()
        return [row.ids for row in backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    return encode


@dataclass(frozen=True)
class Slot:
    """A place for a text between ``left`` and ``right``: constant tokens ``head`` and ``tail``, and how many tokens
    (``spill``) of ``right`` are not constant. ``strip`` takes white space off a text, as some templates do."""

    left: str
    right: str
    head: tuple[int, ...]
    tail: tuple[int, ...]
    spill: tuple[int, ...]
    strip: bool = False

    @classmethod
    def of(cls, encode: Encode, left: str, right: str, strip: bool = False) -> Self:
        """Find the constant tokens around a text by tokenising several.

        Args:
            encode: It tokenises texts without special tokens.
            left: The constant text before the slot.
            right: The constant text after the slot.
            strip: True if the text in the slot loses its outer white space.
        """
        rows = encode([f"{left}{probe.strip() if strip else probe}{right}" for probe in PROBES])
        head = shared_start(rows)
        tail = shared_start([row[len(head) :][::-1] for row in rows])[::-1]
        alone = encode([right])[0] if right else []
        spill = alone[: max(0, len(alone) - len(tail))]
        return cls(left, right, tuple(head), tuple(tail), tuple(spill), strip)

    def tokenize(self, encode: Encode, texts: Sequence[str], limit: int, what: str) -> tuple[TokenTable, TokenTable]:
        """Return the texts' own tokens, and the last of each, which stay when it is cut.

        Args:
            encode: It tokenises texts without special tokens.
            texts: The texts that go into the slot.
            limit: The ``limit`` of both token tables.
            what: What a text is called in the message about one that is no string.
        """
        texts = [text.strip() if self.strip else text for text in checked_texts(texts, what)]
        if not self.left and not self.right:
            rows = encode(texts)
            return table(rows, limit), table([[]] * len(rows), limit)
        rows = [self.middle(row) for row in encode([f"{self.left}{text}{self.right}" for text in texts])]
        for place, row in enumerate(rows):
            if row is None:
                rows[place] = [*encode([texts[place]])[0], *self.spill]
        at = [max(0, len(row) - len(self.spill)) for row in rows]
        return table([row[:a] for row, a in zip(rows, at)], limit), table([row[a:] for row, a in zip(rows, at)], limit)

    def middle(self, row: list[int]) -> list[int] | None:
        """Return the tokens between head and tail, None where a text changed those."""
        start, stop = len(self.head), len(row) - len(self.tail)
        if stop < start or tuple(row[:start]) != self.head or tuple(row[stop:]) != self.tail:
            return None
        return row[start:stop]


def table(rows: Sequence[Sequence[int]], limit: int) -> TokenTable:
    """Return rows of token ids as one table."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return TokenTable(np.fromiter((i for row in rows for i in row), np.int32, int(offsets[-1])), offsets, limit)


def shared_start(rows: Sequence[Sequence[int]]) -> list[int]:
    """Return the longest beginning that all rows share.

    >>> shared_start([[1, 2, 3], [1, 2], [1, 2, 4]])
    [1, 2]
    """
    shortest = min(rows, key=len)
    for place, token in enumerate(shortest):
        if any(row[place] != token for row in rows):
            return list(shortest[:place])
    return list(shortest)


def place_to_cut(encode: Encode, left: str, between: str, right: str) -> int:
    """Return where ``between`` is cut so that its halves can be tokenised apart, whatever stands left and right of it.

    Of the places at which the tokens of the halves are the tokens of the whole, for all pairs of probes, that before a
    space at its end comes first. Where no place is so, tokens at the cut may be others than those of the whole.

    Args:
        encode: It tokenises texts without special tokens.
        left: The constant text before the first slot.
        between: The constant text between the two slots, which is cut.
        right: The constant text after the second slot.

    Returns:
        A position in ``between``, from 0 to its length.
    """
    wholes = encode([f"{left}{a}{between}{b}{right}" for a, b in product(PROBES, PROBES)])
    spaced = len(between.rstrip(" "))
    for place in dict.fromkeys([spaced, len(between), *range(len(between) - 1, -1, -1)]):
        first = encode([f"{left}{a}{between[:place]}" for a in PROBES])
        second = encode([f"{between[place:]}{b}{right}" for b in PROBES])
        if all(whole == [*a, *b] for whole, (a, b) in zip(wholes, product(first, second))):
            return place
    return spaced
