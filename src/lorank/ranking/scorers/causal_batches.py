"""Batches of prompts for a causal model: those of one list go on from its beginning, which is computed once.

Whether a batch is padded whole or goes on from a cache is the model's matter alone; whoever reads its last columns
sees the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lorank.ranking.scorers.batching import batches_by_length
from lorank.ranking.scorers.causal_prompt import Prompt
from lorank.ranking.scorers.pair_inputs import PairInputs, PairSpans, pair_parts
from lorank.ranking.scorers.shared_prefix import ATTENDED, WORTH, Prefixes, beginnings, common_tokens
from lorank.ranking.scorers.tokens import Ragged, interleave

HELD = 2048
"""Tokens of beginnings whose keys and values are held at the same time; a longer one is held alone."""
BLOCK = 256
"""Prompts that are put together at the same time while their beginning is looked for."""

Given = dict[str, Any]
"""The arguments of a model."""


@dataclass(frozen=True)
class Prompts:
    """Pairs as prompts in tokens.

    Args:
        template: What stands around query and document.
        inputs: The tokens of the texts.
        spans: What is read of each pair.
        rest: The int64 [pairs] tokens at the end of each prompt that are computed for it alone, 1 or more.
        pad_id: The token of padding.
        device: Where the model is.
    """

    template: Prompt
    inputs: PairInputs
    spans: PairSpans
    rest: np.ndarray
    pad_id: int
    device: torch.device

    @property
    def lengths(self) -> np.ndarray:
        """The tokens of each prompt, at most, int64 [pairs]."""
        return np.asarray(self.spans.query.length + self.spans.document.length + self.template.cost)

    @property
    def keys(self) -> np.ndarray:
        """A checksum of each pair's tokens, int64 [pairs]."""
        query, document = self.spans.query.text, self.spans.document.text
        keys = self.inputs.queries.keys[query] * 31 + self.inputs.documents.keys[document] * 7
        return np.asarray(keys + self.spans.document.start)

    def assemble(self, rows: np.ndarray) -> Ragged:
        """Return the token sequences of ``rows``."""
        spans = self.spans[rows]
        return interleave(pair_parts(self.template, self.inputs, spans), len(spans))

    def padded(self, batch: Ragged) -> dict[str, Tensor]:
        """Return sequences padded in front."""
        return pad_left(batch, self.pad_id, self.device)

    def common(self, rows: np.ndarray) -> np.ndarray:
        """Return the tokens that the prompts of a list begin with in common, int64; at least one is left of each."""
        blocks = (rows[at : at + BLOCK] for at in range(0, len(rows), BLOCK))
        return common_tokens((self.assemble(block), self.rest[block]) for block in blocks)

    def before_document(self, row: int) -> int:
        """Return how many tokens stand before the document in the prompt ``row``."""
        ends, query = self.inputs.query_ends, self.spans.query
        end = 0 if ends is None else int(ends.lengths[query.text[row]])
        return len(self.template.before) + int(query.length[row]) + end + len(self.template.between)


def whole_batches(prompts: Prompts, rows: np.ndarray, budget: int) -> Iterator[tuple[np.ndarray, Given]]:
    """Yield batches of ``rows`` and the model's arguments, every prompt computed whole."""
    for at in batches_by_length(prompts.lengths[rows], budget, prompts.keys[rows]):
        yield rows[at], prompts.padded(prompts.assemble(rows[at]))


def list_batches(prompts: Prompts, body: nn.Module, budget: int) -> Iterator[tuple[np.ndarray, Given]]:
    """Yield batches of all prompts and the model's arguments, the beginning of each list computed once.

    Args:
        prompts: The prompts; those with the same query are a list.
        body: The model below its head.
        budget: The tokens of a batch.
    """
    texts, owner, counts = np.unique(prompts.spans.query.text, return_inverse=True, return_counts=True)
    owner = owner.reshape(-1)
    yield from whole_batches(prompts, np.flatnonzero(counts[owner] == 1), budget)
    longest = np.zeros(len(texts), np.int64)
    np.maximum.at(longest, owner, prompts.spans.query.length + prompts.template.cost)
    several = np.flatnonzero(counts > 1)
    held = max(HELD, budget // 8)
    for lists in batches_by_length(longest[several], held, prompts.inputs.queries.keys[texts[several]]):
        yield from continued_batches(prompts, body, budget, owner, several[lists])


def continued_batches(
    prompts: Prompts, body: nn.Module, budget: int, owner: np.ndarray, lists: np.ndarray
) -> Iterator[tuple[np.ndarray, Given]]:
    """Yield the batches of some lists, whose beginnings are held until they are done.

    Args:
        prompts: All prompts.
        body: The model below its head.
        budget: The tokens of a batch.
        owner: The int64 [pairs] list of each prompt.
        lists: The int64 numbers of the lists.
    """
    rows = np.flatnonzero(np.isin(owner, lists))
    lists, place = np.unique(owner[rows], return_inverse=True)
    place = place.reshape(-1)
    members = [rows[place == one] for one in range(len(lists))]
    common = np.array([len(prompts.common(own)) for own in members], np.int64)
    shared = np.where(common * (np.bincount(place) - 1) >= WORTH, common, 0)
    begun = beginnings(prompts.assemble(np.array([own[0] for own in members])), shared)
    prefixes = Prefixes.of(body, prompts.padded(begun), shared) if len(begun.lengths) else Prefixes(shared, ())
    costs = prompts.lengths[rows] - shared[place] + shared[place] // ATTENDED
    for at in batches_by_length(costs, budget, prompts.keys[rows]):
        batch = prompts.assemble(rows[at])
        yield rows[at], prefixes.continued(prompts.padded(batch), batch.lengths, place[at])


def pad_left(batch: Ragged, pad_id: int, device: torch.device) -> dict[str, Tensor]:
    """Return the sequences padded in front, so that all end together: input_ids, attention_mask, position_ids."""
    width = int(batch.lengths.max(initial=0))
    inside = np.arange(width) >= width - batch.lengths[:, None]
    ids = np.full(inside.shape, pad_id, np.int64)
    ids[inside] = batch.ids
    places = np.maximum(inside.cumsum(1) - 1, 0)
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "position_ids": torch.from_numpy(places).to(device),
        "attention_mask": torch.from_numpy(inside.astype(np.int64)).to(device),
    }
