r"""Linear model and multilayer perceptron: each document is scored by itself.

    s(x) = W_k \phi(... \phi(W_1 x + b_1) ...) + b_k,   \phi = ReLU;   linear: s(x) = w x + b

Paper: C. Burges et al., Learning to Rank using Gradient Descent, ICML 2005.
"""

from collections.abc import Sequence

import torch
from torch import nn

from lorank.errors import UsageError
from lorank.ranking.scorers.features.networks import register_network


def seeded_linear(inner: int, outer: int, generator: torch.Generator, gain: float = 2.0) -> nn.Linear:
    """Return a Linear with weights normal(0, gain / inner) from ``generator`` (2: He's, before a ReLU), bias 0.

    Args:
        inner: The number of inputs.
        outer: The number of outputs.
        generator: The source of the weights.
        gain: The variance of a weight times ``inner``.
    """
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, inner, outer)
    with torch.no_grad():
        linear.weight.normal_(0.0, (gain / inner) ** 0.5, generator=generator)
        linear.bias.zero_()
    return linear


def zero_linear(inner: int, outer: int = 1) -> nn.Linear:
    """Return a Linear that gives 0, so that every score starts equal."""
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, inner, outer)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
    return linear


def check_dropout(dropout: float) -> None:
    """Raise UsageError unless 0 <= dropout < 1."""
    if not 0.0 <= dropout < 1.0:
        raise UsageError(f"dropout must be in [0, 1); got {dropout}")


@register_network("linear")
def linear(features: int, generator: torch.Generator) -> nn.Sequential:
    """Return one Linear that starts at 0."""
    return nn.Sequential(zero_linear(features))


@register_network("mlp")
def mlp(
    features: int, generator: torch.Generator, *, hidden: Sequence[int] = (64, 32), dropout: float = 0.0
) -> nn.Sequential:
    """Return Linear, ReLU, Dropout blocks and a last Linear that is zero; He-initialised.

    Args:
        features: Columns of a row.
        generator: Where weights come from.
        hidden: Widths of the hidden layers, () for a linear model.
        dropout: Share of hidden units that a training step leaves out.
    """
    check_dropout(dropout)
    if any(width < 1 for width in hidden):
        raise UsageError(f"hidden={tuple(hidden)} must be positive widths")
    layers: list[nn.Module] = []
    for inner, outer in zip((features, *hidden), hidden):
        layers += [seeded_linear(inner, outer, generator), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, zero_linear((features, *hidden)[-1]))
