r"""Pyramid cross-encoder: query and title below, the document's summary beside them, all together above.

    low layers 1 .. L      attention within A = [CLS] q [SEP] title [SEP] and within B = summary [SEP], apart
    upper layers L+1 .. N  attention within A B
    s(q, d) = head(first token)

With a and b tokens attention costs L (a^2 + b^2) + (N - L) (a + b)^2 products where reading all together costs
N (a + b)^2 (:func:`attention_products`). The summary is the query's own (:mod:`lorank.ranking.scorers.summary`), the
title a document's first line. With L = 0 it is the cross-encoder on q and "title [SEP] summary".

The rest of the paper: :mod:`lorank.ranking.scorers.features.calibration_tree` makes grades of what readers did after
a click, and the loss ``anchored-hinge`` keeps the scale of scores when the ranker is trained again.

Paper: L. Zou et al., Pre-trained Language Model based Ranking in Baidu Search, KDD 2021.

*Deviations*: positions run on from A to B; any BERT, RoBERTa or XLM-RoBERTa checkpoint serves, where the paper
pretrains its own; the summary's rules are those of its file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.batching import batches_by_length
from lorank.ranking.scorers.cross_encoder import FIRST_TOKEN_HEADS
from lorank.ranking.scorers.packed import Group, PackedEncoder, attention_groups, can_pack
from lorank.ranking.scorers.pairs import GridPairs, used_texts
from lorank.ranking.scorers.precision import Dtype
from lorank.ranking.scorers.pretrained import load_pretrained, longest_input
from lorank.ranking.scorers.ranker import Documents
from lorank.ranking.scorers.scoring_mode import scoring
from lorank.ranking.scorers.summary import ENDS, query_weighted_summary
from lorank.ranking.scorers.text_ranker import TextRanker, Truncation
from lorank.ranking.scorers.texts import checked_texts
from lorank.ranking.scorers.tokens import Ragged, TokenTable, share_room, tokenize


def attention_products(first: int, second: int, *, layers: int, low: int) -> int:
    """Return how many products of queries and keys attention takes for parts of ``first`` and ``second`` tokens.

    Args:
        first: The number of tokens of the first part.
        second: The number of tokens of the second part.
        layers: The number of layers.
        low: The number of layers, from 0 to ``layers``, that read the parts apart.

    >>> attention_products(10, 10, layers=4, low=0), attention_products(10, 10, layers=4, low=2)
    (1600, 1200)
    """
    return low * (first**2 + second**2) + (layers - low) * (first + second) ** 2


@dataclass(frozen=True)
class PyramidInputs:
    """Tokens of queries, of titles and of what follows them; a summary is made when a pair is read."""

    queries: TokenTable
    titles: TokenTable
    bodies: TokenTable


@dataclass(frozen=True)
class PyramidBatch:
    """Pairs as token sequences: ``whole`` has both parts one after the other, ``first`` [pairs] tokens the first."""

    whole: Ragged
    first: np.ndarray

    @property
    def second(self) -> np.ndarray:
        """Tokens of the second part, int64 [pairs]."""
        return self.whole.lengths - self.first


@catalogued("baidu-plm-ranking", area="models", title="Pre-trained Language Model based Ranking in Baidu Search")
class PyramidEncoder(TextRanker[PyramidInputs]):
    """Score by reading query and title, and a summary for the query, apart and then together; scores are logits.

    ``base`` is a packaged name, a folder, or a Hub name of a BERT, RoBERTa or XLM-RoBERTa. ``low`` layers read
    the parts apart (half of them by default), ``summary`` is the most tokens of the summary and ``decay`` what a
    covered term still counts. ``max_length`` bounds all together. For ``seed``, ``head`` and ``dtype`` see
    ``CrossEncoder``.

    Args:
        base: A packaged name, a folder, or a name on the Hub.
        low: The number of layers that read the parts apart; None stands for half of them.
        summary: The most tokens of the summary, 1 or more.
        decay: What a covered term still counts, from 0 to 1.
        max_length: The most tokens of all parts together; None takes what the model allows, at most 512.
        seed: The seed of the parameters that the checkpoint lacks.
        head: The final projection of a new classifier starts at zero (``zero``) or is drawn from ``seed`` (``random``).
        dtype: The number format of scoring; training is always in float32.
        token_budget: The most tokens in one scoring batch; None leaves the choice to the ranker.

    Raises:
        UsageError: If an option is out of its range, or the base is of another architecture.

    >>> PyramidEncoder("minilm").score("sorting", ["Lists\\nhow to sort a list"])    # doctest: +SKIP
    array([0.], dtype=float32)
    """

    kind: ClassVar[str] = "pyramid"
    score_scale: ClassVar[str] = "logit"

    def __init__(
        self,
        base: str | Path,
        *,
        low: int | None = None,
        summary: int = 128,
        decay: float = 0.5,
        max_length: int | None = None,
        seed: int = 0,
        head: Literal["zero", "random"] = "zero",
        dtype: Dtype = "float32",
        token_budget: int | None = None,
    ) -> None:
        loaded = load_pretrained(base, "classifier", seed=seed, head=head)
        if type(loaded.module).__name__ not in FIRST_TOKEN_HEADS or not can_pack(loaded.module.base_model):
            raise UsageError(
                "a pyramid is made of BERT, RoBERTa or XLM-RoBERTa, not of "
                f"{type(loaded.module).__name__}; use a cross-encoder"
            )
        layers = len(loaded.module.base_model.encoder.layer)
        self.low = layers // 2 if low is None else low
        self.seed, self.head, self.summary, self.decay = seed, head, summary, decay
        if not 0 <= self.low < layers:
            raise UsageError(f"low={low} must be from 0 to {layers - 1}: the last layer reads all together")
        self._open(
            loaded,
            max_length=max_length or min(longest_input(loaded.tokenizer, loaded.module.config, loaded.module), 512),
            dtype=dtype,
            long="truncate",
            overlap=None,
            token_budget=token_budget,
        )
        if summary < 1 or self.room < 4 or not 0 <= decay <= 1:
            raise UsageError(
                f"summary={summary} and decay={decay}: of {self.max_length} tokens the summary must leave "
                "some to query and title, and decay is from 0 to 1"
            )
        ends = self.tokenizer.convert_tokens_to_ids(list(ENDS))
        self.ends = np.array([i for i in ends if i is not None and i != self.tokenizer.unk_token_id], np.int64)

    @property
    def room(self) -> int:
        """Tokens of query and title together."""
        return self.max_length - self.summary - self.template.pair_cost - len(self.template.pair[2])

    def prepare(self, queries: Sequence[str], documents: Documents) -> PyramidInputs:
        """Tokenise queries, first lines and the rest of the documents once; a document of one line has no title."""
        cut = [
            text.partition("\n") if "\n" in text else ("", "", text) for text in checked_texts(documents, "document")
        ]
        return PyramidInputs(
            tokenize(self.tokenizer, queries, self.room, what="query"),
            tokenize(self.tokenizer, [title for title, _, _ in cut], self.room),
            tokenize(self.tokenizer, [body for _, _, body in cut], self.summary),
        )

    def assemble(self, inputs: PyramidInputs, pairs: np.ndarray) -> PyramidBatch:
        """Return the token sequences of ``pairs`` [n, 2]."""
        kept = share_room(inputs.queries.lengths[pairs[:, 0]], inputs.titles.lengths[pairs[:, 1]], self.room)
        (before, between, after), kinds = self.template.pair, self.template.types_pair
        _, of_query, of_document = self.template.text_types
        ids, types, first, lengths = [], [], [], []
        for (query, document), q, t in zip(pairs.tolist(), *(part.tolist() for part in kept)):
            summary = query_weighted_summary(
                inputs.queries.row(query), inputs.bodies.row(document), self.ends, self.summary, decay=self.decay
            )
            ids += [
                before,
                inputs.queries.row(query)[:q],
                between,
                inputs.titles.row(document)[:t],
                after,
                summary,
                after,
            ]
            types += [
                kinds[0],
                [of_query] * q,
                kinds[1],
                [of_document] * t,
                kinds[2],
                [of_document] * len(summary),
                kinds[2],
            ]
            first.append(len(before) + q + len(between) + t + len(after))
            lengths.append(first[-1] + len(summary) + len(after))
        whole = Ragged(_join(ids), _join(types), np.array(lengths, np.int64))
        return PyramidBatch(whole, np.array(first, np.int64))

    def logits(self, batch: PyramidBatch, encoder: PackedEncoder) -> Tensor:
        """Return float32 logits [pairs]."""
        hidden = encoder.embed(batch.whole, self.device)
        apart, together = _tokens_of_parts(batch)
        below = _groups_apart(batch, self.device)
        above = attention_groups(batch.whole.lengths, self.device)
        hidden = hidden.index_select(0, torch.from_numpy(apart).to(self.device))
        for layer in encoder.layers[: self.low]:
            hidden = layer(hidden, below, None)
        hidden = hidden.index_select(0, torch.from_numpy(together).to(self.device))
        for layer in encoder.layers[self.low : -1]:
            hidden = layer(hidden, above, None)
        firsts = torch.from_numpy(np.cumsum(batch.whole.lengths) - batch.whole.lengths).to(self.device)
        first = encoder.layers[-1](hidden, above, firsts).float()
        return FIRST_TOKEN_HEADS[type(self.module).__name__](self.module, first).squeeze(-1)

    def forward(self, inputs: PyramidInputs, queries: Tensor, documents: Tensor, mask: Tensor) -> Tensor:
        """Return scores [batch, list]; a pair that stands in several places is read once.

        Args:
            inputs: The texts that ``prepare`` has tokenised.
            queries: The int64 [batch] positions of the queries.
            documents: The int64 [batch, list] positions of the documents.
            mask: The bool [batch, list] grid, True where there is a document.
        """
        asked = GridPairs.of(queries, documents, mask)
        if not len(asked):
            return torch.zeros(mask.shape, device=self.device)
        batch = self.assemble(inputs, asked.pairs)
        return asked.grid(self.logits(batch, PackedEncoder(self.module.base_model)).float(), mask)

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return logits of the pairs, float32 [n]; each text is tokenised once, each pair read once.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents.
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of pairs that are read and their total.
        """
        texts, read, at = used_texts(queries, documents, pairs)
        if not len(at):
            return np.zeros(0, np.float32)
        return self.score_prepared(self.prepare(texts, read), at, on_progress)

    def score_prepared(
        self, inputs: PyramidInputs, pairs: np.ndarray, on_progress: ProgressCallback | None = None
    ) -> np.ndarray:
        """Return logits float32 [n] of ``pairs`` int64 [n, 2] of positions in what ``prepare`` has tokenised."""
        unique, back = np.unique(pairs, axis=0, return_inverse=True)
        scores, done = np.zeros(len(unique), np.float32), 0
        lengths = (
            inputs.queries.lengths[unique[:, 0]]
            + inputs.titles.lengths[unique[:, 1]]
            + np.minimum(inputs.bodies.lengths[unique[:, 1]], self.summary)
        )
        keys = (
            inputs.queries.keys[unique[:, 0]] * 31
            + inputs.titles.keys[unique[:, 1]] * 7
            + inputs.bodies.keys[unique[:, 1]]
        )
        with scoring(self.module):
            encoder = PackedEncoder(self.module.base_model, self.scoring_dtype())
            for rows in batches_by_length(lengths, self.scoring_budget(), keys):
                scores[rows] = self.logits(self.assemble(inputs, unique[rows]), encoder).cpu().numpy()
                done += len(rows)
                if on_progress is not None:
                    on_progress(done, len(unique))
        return scores[back.reshape(-1)]

    def truncation(self, queries: Sequence[str], documents: Sequence[str]) -> Truncation:
        """Count the documents of which a summary is read in place of the whole."""
        lengths = self.prepare([], documents).bodies.lengths
        return Truncation(len(lengths), int((lengths > self.summary).sum()), int(lengths.max(initial=0)), self.summary)

    def options(self) -> dict[str, Any]:
        """Return the constructor's further arguments."""
        return {
            "low": self.low,
            "summary": self.summary,
            "decay": self.decay,
            "max_length": self.max_length,
            "seed": self.seed,
            "head": self.head,
            "dtype": self.dtype,
        }

    def write_peer_files(self, folder: Path) -> None:
        """Write nothing: other libraries read query and document together from the first layer on."""


def _join(parts: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.asarray(part, np.int64) for part in parts])


def _groups_apart(batch: PyramidBatch, device: torch.device) -> list[Group]:
    """Return groups of first parts, and then of second ones: the two, of unlike lengths, are not padded together."""
    tokens, pairs = int(batch.first.sum()), len(batch.first)
    seconds = (
        replace(group, begin=group.begin + tokens, end=group.end + tokens, first=group.first + pairs)
        for group in attention_groups(batch.second, device)
    )
    return [*attention_groups(batch.first, device), *seconds]


def _tokens_of_parts(batch: PyramidBatch) -> tuple[np.ndarray, np.ndarray]:
    """Return the order in which all first parts stand before all second ones, and the way back."""
    owner = np.repeat(np.arange(len(batch.first)), batch.whole.lengths)
    begins = np.cumsum(batch.whole.lengths) - batch.whole.lengths
    second = np.arange(len(owner)) - begins[owner] >= batch.first[owner]
    apart = np.argsort(second, kind="stable")
    return apart, np.argsort(apart, kind="stable")
