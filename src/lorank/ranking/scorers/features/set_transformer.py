r"""Context-aware scoring: a transformer over the documents of a list, without positions.

    h = x W_in;   per block  h <- h + Attention(LN(h)),  h <- h + W_2 \phi(W_1 LN(h));   s_i = w \cdot LN(h_i)

Attention runs over the list's own documents only, so scores are permutation-equivariant, and padding has no
influence. A document's score depends on the others of its list: score whole lists, never parts.

Paper: P. Pobrotyn, T. Bartczak, M. Synowiec, R. Białobrzeski, J. Bojar, Context-Aware Learning to Rank with
Self-Attention, SIGIR eCom 2020; J. Lee et al., Set Transformer, ICML 2019.

*Deviations*: normalisation before each sublayer (the published code: after the residual, as in the first
transformer, is an option there); the last layer starts at zero.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorank.errors import UsageError
from lorank.ranking.scorers.features.mlp import check_dropout, seeded_linear, zero_linear
from lorank.ranking.scorers.features.networks import register_network


class Block(nn.Module):
    """Apply self-attention over the list and a two-layer perceptron, each with a residual.

    Args:
        width: The size of the hidden state, a multiple of ``heads``.
        heads: The number of attention heads.
        wide: The number of hidden units of the perceptron.
        dropout: The probability of dropout, from 0 up to but not including 1.
        generator: The source of the first weights.
    """

    def __init__(self, width: int, heads: int, wide: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (seeded_linear(width, width, generator, 1.0) for _ in range(4))
        self.up, self.down = seeded_linear(width, wide, generator), seeded_linear(wide, width, generator, 1.0)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return [batch, list, width]; ``mask`` is bool [batch, 1, 1, list]."""
        normal = self.before_attention(hidden)
        query, key, value = (
            layer(normal).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        hidden = hidden + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        added: Tensor = self.dropout(self.down(F.relu(self.up(self.before_perceptron(hidden)))))
        return hidden + added


class SetTransformer(nn.Module):
    """Map rows of lists to hidden states, [batch, list, features] to [batch, list, width].

    Args:
        features: The number of columns of a row.
        generator: The source of the first weights.
        width: The size of the hidden state, a multiple of ``heads``.
        heads: The number of attention heads, 1 or more.
        blocks: The number of blocks, 0 or more.
        dropout: The probability of dropout, from 0 up to but not including 1.

    Raises:
        UsageError: If a number is out of its range.
    """

    def __init__(
        self, features: int, generator: torch.Generator, width: int, heads: int, blocks: int, dropout: float
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        if width < 1 or heads < 1 or width % heads or blocks < 0:
            raise UsageError(
                f"width must be a multiple of heads, both 1 or more, and blocks 0 or more; got "
                f"width={width}, heads={heads}, blocks={blocks}"
            )
        self.embed = seeded_linear(features, width, generator, 1.0)
        self.blocks = nn.ModuleList(Block(width, heads, 2 * width, dropout, generator) for _ in range(blocks))
        self.last = nn.LayerNorm(width)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return the hidden states; those of masked places are finite and mean nothing."""
        seen = mask.clone()
        seen[:, 0] |= ~mask.any(1)  # an empty list attends to its padding, or its states would be NaN
        hidden = self.embed(rows)
        for block in self.blocks:
            hidden = block(hidden, seen[:, None, None, :])
        last: Tensor = self.last(hidden)
        return last


class _Scored(nn.Module):
    def __init__(self, body: SetTransformer, width: int) -> None:
        super().__init__()
        self.body, self.score = body, zero_linear(width)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        scores: Tensor = self.score(self.body(rows, mask))
        return scores.squeeze(2)


@register_network("set-transformer", across=True)
def set_transformer(
    features: int,
    generator: torch.Generator,
    *,
    width: int = 64,
    heads: int = 2,
    blocks: int = 2,
    dropout: float = 0.1,
) -> nn.Module:
    """Return the transformer with a scoring layer that is zero.

    Args:
        features: Columns of a row.
        generator: Where weights come from.
        width: Of the hidden states, a multiple of ``heads``.
        heads: Of each attention.
        blocks: Attention layers; 0 leaves a linear model of normalised states.
        dropout: Share of each sublayer's output that a training step leaves out.
    """
    return _Scored(SetTransformer(features, generator, width, heads, blocks, dropout), width)
