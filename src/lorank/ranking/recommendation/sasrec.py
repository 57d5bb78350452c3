r"""SASRec: a causal transformer over the items that a user chose; the vector at the last one finds the next.

    h = transformer(E[i_1] + P_1, ..., E[i_n] + P_n),   each place sees those before it
    s(j | i_1..i_n) = h_n^T E[j]
    loss: at each place the next item against ``negatives`` drawn items, by any loss of lists

Paper: W.-C. Kang, J. McAuley 2018, *Self-Attentive Sequential Recommendation*, arXiv:1808.09781.

*Deviations*: the loss is ``softmax`` over the drawn items, where the paper has the binary one with one negative;
``--loss bce --option negatives=1`` is that. Sequences are padded at the end, so that padding has no part in attention.
The weights that serve the held-out last-but-one items best are kept (`lorank.training.recommendation`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lorank.errors import UsageError, unknown_name
from lorank.layers import FactoredEmbedding
from lorank.ranking.losses import Loss
from lorank.ranking.recommendation.recommender import best_of, on_device_of, padded

SCHEDULES = ("linear", "cosine", "none")
"""How the rate of learning may fall."""


@dataclass(frozen=True)
class SequenceSettings:
    """How a recommender of sequences is built and learns.

    ``dim``, ``layers``, ``heads``, ``length`` (the most items that are read) and ``rank`` (of the table of items, 0 for
    a whole one) build it; ``negatives`` are drawn per step, and all items are taken where there are no more.
    The rate rises over the share ``warmup`` of the steps and then stays (``schedule`` none) or falls to 0 (``linear``,
    ``cosine``). Training looks ``evaluations`` times at the held-out items, and writes a checkpoint then and after
    every ``checkpoint_seconds``. ``rounds``, ``adapter_steps`` and ``decay`` are of Ada-Retrieval alone.
    """

    dim: int = 32
    layers: int = 2
    heads: int = 2
    length: int = 50
    dropout: float = 0.2
    steps: int = 1000
    batch_size: int = 128
    lr: float = 3e-3
    negatives: int = 256
    rounds: int = 5
    adapter_steps: int = 500
    decay: float = 0.3
    top: int = 20
    rank: int = 0
    warmup: float = 0.0
    schedule: str = "none"
    evaluations: int = 10
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        whole = ("dim", "layers", "heads", "length", "batch_size", "negatives", "rounds", "top", "evaluations")
        for name in whole:
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)}: give 1 or more")
        if min(self.steps, self.adapter_steps) < 0 or not self.lr > 0 or self.dim % self.heads:
            raise UsageError(
                f"steps={self.steps}, adapter_steps={self.adapter_steps}, lr={self.lr}, dim={self.dim}, heads="
                f"{self.heads}: give steps from 0, a rate above 0, and a dim that is a multiple of heads"
            )
        if not 0 <= self.rank <= self.dim:
            raise UsageError(f"rank={self.rank}: give the rank of the table of items, 1 to dim={self.dim}, or 0")
        if not 0 <= self.dropout < 1 or not 0 < self.decay <= 1:
            raise UsageError(f"dropout={self.dropout}, decay={self.decay}: give them in [0, 1) and (0, 1]")
        if not 0 <= self.warmup <= 1 or self.checkpoint_seconds < 0:
            raise UsageError(
                f"warmup={self.warmup}, checkpoint_seconds={self.checkpoint_seconds}: give a share from 0 to 1, and "
                "seconds from 0"
            )
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)


class SequenceReader(nn.Module):
    """The causal transformer: from the vectors of items, in their order, to what stands at each place.

    Args:
        settings: Its sizes.
    """

    def __init__(self, settings: SequenceSettings) -> None:
        super().__init__()
        dim = settings.dim
        self.places = nn.Embedding(settings.length, dim)
        nn.init.normal_(self.places.weight, std=dim**-0.5)
        more: dict[str, Any] = {"activation": "gelu", "batch_first": True, "norm_first": True}
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, settings.heads, 4 * dim, settings.dropout, **more)
            for _ in range(settings.layers)
        )
        self.dropout, self.norm = nn.Dropout(settings.dropout), nn.LayerNorm(dim)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return what stands at each place, float [users, length, dim], from the items' vectors of that shape."""
        count = vectors.shape[1]
        hidden = self.dropout(vectors + self.places.weight[:count])
        later = torch.ones(count, count, dtype=torch.bool, device=vectors.device).triu(1)
        for layer in self.layers:
            hidden = layer(hidden, src_mask=later)
        return torch.as_tensor(self.norm(hidden))


class SASRec(nn.Module):
    """The recommender.

    Args:
        items: The number of items; place 0 is none of them.
        settings: Its sizes.
        seed: The seed of the first weights; the caller's generator is left as it is.
        vectors: The vectors of the items, float32 [items, dim], which then stay as they are; None learns them.

    Raises:
        UsageError: For vectors of another number or width.
    """

    def __init__(self, items: int, settings: SequenceSettings, *, seed: int = 0, vectors: Tensor | None = None) -> None:
        super().__init__()
        self.length = settings.length
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.items = item_table(items + 1, settings.dim, 0 if vectors is not None else settings.rank)
            self.reader = SequenceReader(settings)
        if vectors is not None:
            if vectors.shape != (items, settings.dim):
                raise UsageError(f"vectors {tuple(vectors.shape)} do not fit {items} items of dim {settings.dim}")
            with torch.no_grad():
                self.items.weight[1:] = vectors
                self.items.weight[0] = 0
            self.items.requires_grad_(False)

    def users(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        """Return the users' vectors, float [users, dim]."""
        return last_of(self.reader(self.items(sequences)), lengths)

    def scores(self, users: Tensor) -> Tensor:
        """Return the scores of all items and of none, float [users, items + 1]."""
        return users @ self.items.weight.T

    def retrieve(self, sequences: Tensor, lengths: Tensor, left_out: Tensor, top: int) -> tuple[Tensor, Tensor]:
        """Return the best ``top`` items and their scores, [users, top]."""
        return best_of(self.scores(self.users(sequences, lengths)), left_out, top)


def item_table(rows: int, dim: int, rank: int) -> nn.Embedding | FactoredEmbedding:
    """Return the table of items [rows, dim] from the global generator: whole, or [rows, rank] times [rank, dim]."""
    if rank:
        first, second = torch.randn(rows, rank) * rank**-0.5, torch.randn(dim, rank) * dim**-0.5
        return FactoredEmbedding.of(first, second, torch.zeros(dim), padding_idx=0)
    table = nn.Embedding(rows, dim, padding_idx=0)
    nn.init.normal_(table.weight, std=dim**-0.5)
    return table


def last_of(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Return what stands at the last of ``lengths`` int64 [users] places, float [users, dim]."""
    return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]


def next_item_loss(
    users: Tensor,
    following: Tensor,
    table: Tensor,
    negatives: int,
    loss: Loss,
    generator: torch.Generator,
    left_out: Tensor | None = None,
) -> Tensor:
    """Return the loss of the items that came next against drawn ones.

    Args:
        users: The vectors, float [n, dim].
        following: The items that came next, int64 [n].
        table: The vectors of all items, float [items + 1, dim].
        negatives: How many items are drawn, the same for all; all are taken where there are no more.
        loss: A loss of lists.
        generator: The source of the draws.
        left_out: What is no negative, bool [n, items + 1]; None leaves only the item itself out.
    """
    every = len(table) - 1
    drawn = torch.arange(1, every + 1)
    if every > negatives:
        drawn = torch.randint(1, every + 1, (negatives,), generator=generator)
    drawn = drawn.to(users.device)
    own = (users * table[following]).sum(1, keepdim=True)
    scores = torch.cat([own, users @ table[drawn].T], 1)
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    mask = torch.cat([torch.ones_like(following).bool().unsqueeze(1), drawn != following.unsqueeze(1)], 1)
    if left_out is not None:
        mask[:, 1:] &= ~left_out[:, drawn]
    return loss(scores, labels, mask)


def sequence_loss(
    model: SASRec, rows: Sequence[np.ndarray], settings: SequenceSettings, loss: Loss, generator: torch.Generator
) -> Tensor:
    """Return the loss of a batch of users: at each place the next item against drawn ones.

    Args:
        model: The recommender, in training mode.
        rows: What each user chose, places from 1, two items or more.
        settings: How many negatives are drawn.
        loss: A loss of lists.
        generator: The source of the negatives.
    """
    whole, lengths = on_device_of(model, *padded(rows, model.length + 1))
    there = torch.arange(whole.shape[1] - 1, device=whole.device) < (lengths - 1).unsqueeze(1)
    hidden = model.reader(model.items(whole[:, :-1]))
    return next_item_loss(hidden[there], whole[:, 1:][there], model.items.weight, settings.negatives, loss, generator)
