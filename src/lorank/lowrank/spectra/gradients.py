r"""Spectra of gradients as a sign of the quality of the examples that they come from.

    nuclear(G) = sum_i sigma_i(G),    effective_rank(G) = exp H(sigma / sum sigma),    G = dL/dW of one example

Good examples have a lower nuclear norm and a higher effective rank: what a model can nearly do already moves it little
and in many ways; a wrong label pulls hard in few directions.

Li et al., How Instruction and Reasoning Data shape Post-Training: Data Quality through the Lens of Layer-wise
Gradients, 2025, arXiv:2504.10766.

*Deviations*: published for queries, keys, values and outputs of attention; here any matrices may be given. Of factors
B A of a low-rank update the gradient of B is s G A^T, a sketch of G, which is what a run has at no further cost.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.spectra.update import effective_rank


@dataclass(frozen=True)
class GradientSpectrum:
    """What the gradients of one example say: sums and means over matrices, and the example's loss."""

    nuclear_norm: float
    effective_rank: float
    loss: float


@catalogued(
    "gradient-spectrum-data-quality",
    area="diagnose",
    title="How Instruction and Reasoning Data shape Post-Training: Data Quality through the Lens of "
    "Layer-wise Gradients",
    reach="`lorank inspect RUN --queries 20`; it reads data and trains nothing, so it has no recipe",
)
def gradient_spectra(losses: Iterable[Callable[[], Tensor]], matrices: Sequence[Tensor]) -> list[GradientSpectrum]:
    """Return the spectrum of each example's gradients.

    Args:
        losses: One function per example that returns its loss with the graph.
        matrices: Matrices that require gradients; a batch of matrices is seen as one matrix of many rows.

    Raises:
        UsageError: Where there is no matrix, or no loss depends on any.

    >>> weight = torch.zeros(2, 2, requires_grad=True)
    >>> gradient_spectra([lambda: 3 * weight.trace()], [weight])[0].effective_rank
    2.0
    """
    if not matrices:
        raise UsageError("no matrices to take gradients of; give weights that require gradients")
    found = []
    for loss in losses:
        value = loss()
        gradients = torch.autograd.grad(value, list(matrices), allow_unused=True)
        known = [g.reshape(g.shape[0], -1) for g in gradients if g is not None and bool(g.any())]
        spectra = [torch.linalg.svdvals(g.double()) for g in known]
        nuclear = sum(float(each.sum()) for each in spectra)
        rank = sum(map(effective_rank, spectra)) / len(spectra) if spectra else 0.0
        found.append(GradientSpectrum(nuclear, rank, float(value.detach())))
    return found
