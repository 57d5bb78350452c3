"""Windows of tokens and what is masked in them: a function of seed, epoch and window, so a resumed run masks alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorank.errors import DataError
from lorank.training.pretraining.settings import MaskingSettings

IGNORED = -100
"""The label of a token that is not predicted."""


@dataclass(frozen=True)
class MaskedBatch:
    """Tokens [batch, length] with masks in them, where tokens are, and the tokens to predict (else ``IGNORED``)."""

    tokens: Tensor
    attention: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "MaskedBatch":
        """Return the batch on a device."""
        return MaskedBatch(*(part.to(device) for part in (self.tokens, self.attention, self.labels)))


Place = tuple[int, int]
"""(epoch, window)."""


@dataclass(frozen=True)
class Windows:
    """The windows of one part of the corpus, in the form in which the training loop takes lists.

    Attributes:
        rows: Token numbers of each window, special tokens included.
        special: The numbers of tokens that are never predicted.
        mask: The number of the mask token.
        pad: The number of the padding token.
        size: The number of tokens of the vocabulary.
        share: The share of tokens that is predicted.
        seed: The seed of order and masks.
        fixed: Whether every epoch has the masks and the order of the first.
    """

    rows: Sequence[np.ndarray]
    special: frozenset[int]
    mask: int
    pad: int
    size: int
    share: float
    seed: int
    fixed: bool = False

    def epoch(self, epoch: int) -> Sequence[Place]:
        """Return the windows of an epoch in the order in which they are seen."""
        if self.fixed:
            return [(0, i) for i in range(len(self.rows))]
        order = np.random.default_rng((self.seed, 1, epoch)).permutation(len(self.rows))
        return [(epoch, int(i)) for i in order]

    def collate(self, places: Sequence[Place]) -> MaskedBatch:
        """Return the windows at ``places`` with their masks, padded to the longest."""
        length = max(len(self.rows[i]) for _, i in places)
        tokens = np.full((len(places), length), self.pad, np.int64)
        labels = np.full((len(places), length), IGNORED, np.int64)
        attention = np.zeros((len(places), length), np.int64)
        for row, (epoch, i) in enumerate(places):
            width = len(self.rows[i])
            tokens[row, :width], labels[row, :width] = self._mask(epoch, i)
            attention[row, :width] = 1
        return MaskedBatch(*map(torch.from_numpy, (tokens, attention, labels)))

    def _mask(self, epoch: int, i: int) -> tuple[np.ndarray, np.ndarray]:
        rng, row = np.random.default_rng((self.seed, 2, epoch, i)), self.rows[i].astype(np.int64)
        free = np.flatnonzero(~np.isin(row, list(self.special)))
        chosen = rng.permutation(free)[: max(1, round(self.share * len(free)))]
        labels = np.full(len(row), IGNORED, np.int64)
        labels[chosen] = row[chosen]
        fate = rng.random(len(chosen))
        masked = row.copy()
        masked[chosen[fate < 0.8]] = self.mask
        other = chosen[(fate >= 0.8) & (fate < 0.9)]
        masked[other] = rng.integers(0, self.size, len(other))
        return masked, labels


def cut_windows(
    texts: Sequence[str], tokenizer: Any, masking: MaskingSettings, longest: int, seed: int
) -> tuple[Windows, Windows]:
    """Return the windows to learn from and those that are held out, which share no document.

    Args:
        texts: The documents.
        tokenizer: The tokenizer, with a mask token.
        masking: What is read and masked.
        longest: The most tokens that the model takes.
        seed: It draws which documents are held out, orders and masks.

    Raises:
        DataError: Where the corpus is too small to hold anything out.
    """
    length = min(masking.max_length, longest)
    extra = sum(map(len, special_frame(tokenizer)))
    tokens = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    order = np.random.default_rng((seed, 0)).permutation(len(texts))
    count = min(max(1, round(masking.held_out * len(texts))), len(texts) - 1)
    parts = (order[count:], order[:count]) if len(texts) > 1 else (order, order)
    cut = [[window for i in np.sort(part) for window in _windows(tokens[i], length - extra)] for part in parts]
    if len(texts) == 1:
        count = max(1, round(masking.held_out * len(cut[0])))
        cut = [cut[0][count:], cut[0][:count]]
    if not all(cut):
        raise DataError(
            "the corpus",
            None,
            f"{len(texts)} documents of {sum(map(len, tokens))} tokens are too few to hold some out",
            "give more text, at least two documents of a few words",
        )
    special = frozenset(tokenizer.all_special_ids)
    before, behind = special_frame(tokenizer)

    def windows(rows: list[list[int]], fixed: bool) -> Windows:
        whole = [np.asarray([*before, *row, *behind], np.int32) for row in rows]
        return Windows(
            whole, special, tokenizer.mask_token_id, tokenizer.pad_token_id, len(tokenizer), masking.share, seed, fixed
        )

    return windows(cut[0], False), windows(cut[1], True)


def special_frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer puts before a text and behind it."""
    own = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a")["input_ids"])
    for start in range(len(whole) - len(own) + 1):
        if whole[start : start + len(own)] == own:
            return whole[:start], whole[start + len(own) :]
    return [], []


def _windows(tokens: list[int], length: int) -> list[list[int]]:
    """Return the tokens in pieces of at most ``length``; a last piece of fewer than 4 tokens is left out."""
    pieces = [tokens[i : i + length] for i in range(0, len(tokens), length)]
    return [piece for piece in pieces if len(piece) >= 4] or [piece for piece in pieces[:1] if len(piece) > 1]
