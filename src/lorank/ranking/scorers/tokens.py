"""Texts as tokens: each text tokenised once, then sliced, paired and batched without the tokenizer.

A ``TokenTable`` keeps the ids of many texts one after another (int32) with offsets. ``Template`` knows which
special tokens stand before, between and after, found by asking the tokenizer itself; ``Template.assemble`` then
equals ``tokenizer(query, document, truncation=...)`` without running it once a pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.scorers.batching import content_keys
from lorank.ranking.scorers.texts import checked_texts


@dataclass(frozen=True)
class TokenTable:
    """Token ids of texts, without special tokens.

    ``ids`` int32 [tokens], ``offsets`` int64 [texts + 1]; ``limit`` is the most tokens of one text that a
    model can take in, and ``truncated`` counts the texts that have more. ``prompts`` int64 [texts] are the tokens of a
    prompt at the beginning of each text that are not pooled, None where all are.
    """

    ids: np.ndarray
    offsets: np.ndarray
    limit: int
    prompts: np.ndarray | None = None
    every_part_has_prompt: ClassVar[bool] = False
    """Whether each part of a text that is read begins with the prompt; else the first alone does."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64 [texts], before any truncation."""
        return np.diff(self.offsets)

    @cached_property
    def keys(self) -> np.ndarray:
        """A checksum of each text's tokens, int64 [texts]."""
        return content_keys(self.ids[a:b] for a, b in zip(self.offsets[:-1], self.offsets[1:]))

    @property
    def truncated(self) -> int:
        """How many texts are longer than ``limit``."""
        return int((self.lengths > self.limit).sum())

    def row(self, text: int) -> np.ndarray:
        """Return the ids of one text."""
        return self.ids[self.offsets[text] : self.offsets[text + 1]]


def tokenize(tokenizer: Any, texts: Sequence[str], limit: int, prefix: str = "", what: str = "document") -> TokenTable:
    """Tokenise each text once, ``prefix`` in front, without special tokens and without cutting anything.

    Lone surrogates are read as U+FFFD.

    The Rust tokenizer's batch call is used directly where there is one; it skips the offsets and the Python
    objects that the general call makes.

    Args:
        tokenizer: The tokenizer of the model.
        texts: The texts.
        limit: The ``limit`` of the token table.
        prefix: The text in front of each text.
        what: What a text is called in the message about one that is no string.
    """
    texts = checked_texts(texts, what)
    if prefix:
        texts = [prefix + text for text in texts]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
        rows = [e.ids for e in backend.encode_batch_fast(texts, add_special_tokens=False)]
    else:
        rows = tokenizer(texts, add_special_tokens=False, truncation=False)["input_ids"] if texts else []
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    ids = np.fromiter((i for row in rows for i in row), np.int32, int(offsets[-1]))
    return TokenTable(ids, offsets, limit)


@dataclass(frozen=True)
class Ragged:
    """Token sequences of unlike lengths, one after another: what a batch is before it is padded or packed.

    ``ids`` and ``types`` int64 [tokens], ``lengths`` int64 [sequences]; the first ``skipped`` int64 [sequences] tokens
    of each are not pooled, None where all are.
    """

    ids: np.ndarray
    types: np.ndarray
    lengths: np.ndarray
    skipped: np.ndarray | None = None

    def pad(self, pad_id: int, device: torch.device, *, with_types: bool) -> dict[str, Tensor]:
        """Return the batch padded to its longest: input_ids, attention_mask and, if asked, token_type_ids."""
        inside = np.arange(self.lengths.max(initial=0)) < self.lengths[:, None]
        ids = np.full(inside.shape, pad_id, np.int64)
        ids[inside] = self.ids
        batch = {
            "input_ids": torch.from_numpy(ids).to(device),
            "attention_mask": torch.from_numpy(inside.astype(np.int64)).to(device),
        }
        if with_types:
            types = np.zeros(inside.shape, np.int64)
            types[inside] = self.types
            batch["token_type_ids"] = torch.from_numpy(types).to(device)
        return batch


@dataclass(frozen=True)
class Span:
    """Which part of which text: ``text`` [n], first token ``start`` [n] and ``length`` [n], all int64."""

    text: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, rows: np.ndarray) -> "Span":
        return Span(self.text[rows], self.start[rows], self.length[rows])


@dataclass(frozen=True)
class Template:
    """The special tokens around one or two texts, and the token types of each part.

    ``single`` is (before, after) and ``pair`` is (before, between, after), each a tuple of ids; ``types_single``
    and ``types_pair`` hold the types in the same order, texts included. ``from_left`` cuts at the beginning; ``spill``
    more tokens of a pair are the ends of its texts, which stay when those are cut.
    """

    single: tuple[tuple[int, ...], ...]
    types_single: tuple[tuple[int, ...], ...]
    pair: tuple[tuple[int, ...], ...]
    types_pair: tuple[tuple[int, ...], ...]
    text_types: tuple[int, int, int]
    from_left: bool
    spill: int = 0

    @classmethod
    def of(cls, tokenizer: Any, *, with_types: bool = True) -> Self:
        """Find the template by tokenising two different texts alone and together; without types all are 0."""
        first, second = probe_texts(tokenizer)
        a = list(tokenizer(first, add_special_tokens=False)["input_ids"])
        b = list(tokenizer(second, add_special_tokens=False)["input_ids"])
        alone = tokenizer(first, return_token_type_ids=True)
        both = tokenizer(first, second, return_token_type_ids=True)
        ids, types = list(alone["input_ids"]), list(alone["token_type_ids"])
        at = find(ids, a, 0)
        cuts = (slice(0, at), slice(at + len(a), None))
        pair_ids, pair_types = list(both["input_ids"]), list(both["token_type_ids"])
        if not with_types:
            types, pair_types = [0] * len(types), [0] * len(pair_types)
        at_a = find(pair_ids, a, 0)
        at_b = find(pair_ids, b, at_a + len(a))
        pair_cuts = (slice(0, at_a), slice(at_a + len(a), at_b), slice(at_b + len(b), None))
        return cls(
            tuple(tuple(ids[c]) for c in cuts),
            tuple(tuple(types[c]) for c in cuts),
            tuple(tuple(pair_ids[c]) for c in pair_cuts),
            tuple(tuple(pair_types[c]) for c in pair_cuts),
            (types[at], pair_types[at_a], pair_types[at_b]),
            getattr(tokenizer, "truncation_side", "right") == "left",
        )

    @property
    def single_cost(self) -> int:
        """Special tokens around one text."""
        return sum(map(len, self.single))

    @property
    def pair_cost(self) -> int:
        """Special tokens around two texts."""
        return sum(map(len, self.pair)) + self.spill

    def around(self, prompt: Any) -> Self:
        """Return the template with the constant tokens of a prompt around the texts of a pair, cut at their ends."""
        pieces = (prompt.before, prompt.between, prompt.after)
        types = tuple((0,) * len(piece) for piece in pieces)
        return replace(self, pair=pieces, types_pair=types, from_left=False, spill=prompt.spill)

    def cut(self, lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (start, length) int64 of what is kept of texts of ``lengths`` tokens in ``room`` tokens."""
        kept = np.minimum(lengths, room)
        return (lengths - kept if self.from_left else np.zeros_like(kept)), kept

    def assemble_single(self, table: TokenTable, span: Span) -> Ragged:
        """Return each text span between its special tokens."""
        parts = [
            (self.single[0], self.types_single[0]),
            (table, span, self.text_types[0]),
            (self.single[1], self.types_single[1]),
        ]
        made = interleave(parts, len(span))
        if table.prompts is None:
            return made
        own = table.prompts[span.text]
        with_prompt = (own > 0) & (table.every_part_has_prompt | (span.start == 0))
        return replace(made, skipped=np.where(with_prompt, own + len(self.single[0]), 0))

    def assemble_pair(self, first: TokenTable, a: Span, second: TokenTable, b: Span) -> Ragged:
        """Return each pair of text spans between its special tokens.

        Args:
            first: The tokens of the first texts.
            a: The spans of the first texts, one per pair.
            second: The tokens of the second texts.
            b: The spans of the second texts, one per pair.
        """
        parts = [
            (self.pair[0], self.types_pair[0]),
            (first, a, self.text_types[1]),
            (self.pair[1], self.types_pair[1]),
            (second, b, self.text_types[2]),
            (self.pair[2], self.types_pair[2]),
        ]
        return interleave(parts, len(a))


def share_room(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how many tokens of each text of a pair are kept so that both fit in ``room``.

    The rule is the tokenizers' ``longest_first``: the longer text gives way. For a first text of at most half
    the room that is ``only_second``: the query stays whole and the document is cut.

    >>> share_room(np.array([3, 9, 2]), np.array([20, 20, 4]), room=10)
    (array([3, 5, 2]), array([7, 5, 4]))
    """
    short, long = np.minimum(first, second), np.maximum(first, second)
    kept_short = np.where(short + long <= room, short, np.minimum(short, room // 2))
    kept_long = np.where(short + long <= room, long, np.minimum(long, room - kept_short))
    swapped = first > second
    return np.where(swapped, kept_long, kept_short), np.where(swapped, kept_short, kept_long)


def windows(
    lengths: np.ndarray, room: np.ndarray, overlap: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split texts of ``lengths`` [n] into windows of ``room`` [n] tokens; return owner, start, length [windows].

    Neighbouring windows share ``overlap`` tokens, one number or [n]; the last is moved back to end with the text, so
    that each window of a long text is full. A text that fits is one window.

    >>> [part.tolist() for part in windows(np.array([5, 10]), np.array([6, 6]), overlap=2)]
    [[0, 1, 1], [0, 0, 4], [5, 6, 6]]
    """
    step = np.maximum(1, room - overlap)
    count = np.where(lengths <= room, 1, 1 + -(-(lengths - room) // step))
    owner = np.repeat(np.arange(len(lengths)), count)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    start = np.minimum(rank * step[owner], np.maximum(0, lengths - room)[owner])
    return owner, start, np.minimum(lengths, room)[owner]


def passages(text: str, tokenizer: Any, *, tokens: int = 200, overlap: int = 50) -> list[str]:
    """Split a text into passages of at most ``tokens`` tokens, neighbours sharing ``overlap``.

    Cuts fall on token boundaries and are mapped back to characters, so each passage is a verbatim piece of the
    text. An empty text is one empty passage.

    Args:
        text: The text, which may be empty.
        tokenizer: A tokenizer that gives the offsets of its tokens.
        tokens: The most tokens of a passage, 1 or more.
        overlap: The number of tokens that neighbours share, from 0 to ``tokens`` - 1.

    Raises:
        UsageError: If ``overlap`` is out of its range.
    """
    if not 0 <= overlap < tokens:
        raise UsageError(f"overlap={overlap} must be from 0 to tokens - 1 = {tokens - 1}")
    tokenized = tokenizer(text, add_special_tokens=False, truncation=False, return_offsets_mapping=True)
    places = tokenized["offset_mapping"]
    if len(places) <= tokens:
        return [text]
    _, starts, lengths = windows(np.array([len(places)]), np.array([tokens]), overlap)
    return [text[places[a][0] : places[a + n - 1][1]] for a, n in zip(starts, lengths)]


def interleave(parts: Sequence[tuple[Any, ...]], count: int) -> Ragged:
    """Concatenate, for each of ``count`` sequences, constant parts (ids, types) and parts (table, span, type)."""
    sizes = np.stack([np.full(count, len(p[0]), np.int64) if len(p) == 2 else p[1].length for p in parts], 1)
    lengths = sizes.sum(1) if count else np.zeros(0, np.int64)
    ends = np.cumsum(sizes.reshape(-1)).reshape(sizes.shape) if count else sizes
    begins = ends - sizes
    total = int(lengths.sum())
    ids, types = np.empty(total, np.int64), np.empty(total, np.int64)
    for column, part in enumerate(parts):
        if len(part) == 2:
            for offset, (token, kind) in enumerate(zip(*part)):
                ids[begins[:, column] + offset] = token
                types[begins[:, column] + offset] = kind
        else:
            table, span, kind = part
            inner = np.arange(int(span.length.sum())) - np.repeat(np.cumsum(span.length) - span.length, span.length)
            target = np.repeat(begins[:, column], span.length) + inner
            ids[target] = table.ids[np.repeat(table.offsets[span.text] + span.start, span.length) + inner]
            types[target] = kind
    return Ragged(ids, types, lengths)


def probe_texts(tokenizer: Any) -> tuple[str, str]:
    """Return two texts with different, non-empty tokens, none of them special."""
    special = set(tokenizer.all_special_ids)
    seen: list[str] = []
    for text in ("the", "a", "of", "x", "1", "z", "e", "o", "word", "b", "c", "d"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if (
            ids
            and not special & set(ids)
            and all(ids != tokenizer(other, add_special_tokens=False)["input_ids"] for other in seen)
        ):
            seen.append(text)
        if len(seen) == 2:
            return seen[0], seen[1]
    raise UsageError("the tokenizer turns common English words into unknown tokens; is it the model's own?")


def find(row: list[int], part: list[int], start: int) -> int:
    for at in range(start, len(row) - len(part) + 1):
        if row[at : at + len(part)] == part:
            return at
    raise UsageError("the tokenizer does not keep a text's tokens together when it adds special tokens")
