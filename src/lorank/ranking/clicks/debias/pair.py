r"""Pairwise debiasing: positions have one ratio for clicked and one for other documents, learned from pairs.

For a clicked document i above or below another j, with l_ij = log(1 + exp(s_j - s_i)),

    t^+_k = ( L^+_k / L^+_1 )^{1 / (1 + p)},   L^+_k = \sum_{pairs, k_i = k} l_ij / t^-_{k_j},
    t^-_k = ( L^-_k / L^-_1 )^{1 / (1 + p)},   L^-_k = \sum_{pairs, k_j = k} l_ij / t^+_{k_i},

both moving averages over steps. A pair counts 1 / (t^+ t^-): w_i = 1 / t^+ for the clicked document, and 1 / t^- for
the other by a shift of its score (`lorank.ranking.clicks.core.debiaser`).

Paper: Z. Hu et al., Unbiased LambdaMART: An Unbiased Pairwise Learning-to-Rank Algorithm, WWW 2019.

*Deviations*: the weight of the other document enters by a shift of its score, so that any loss can be debiased, not
LambdaMART alone; to first order it is the paper's.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.errors import UsageError
from lorank.ranking.clicks.core.debiaser import (
    ClickBatch,
    Debiaser,
    Evidence,
    Weights,
    check_positive,
    debiaser,
    take,
)


@debiaser("pair", title="Unbiased LambdaMART (PairDebias)", aliases=("pair-debias",), published=False)
class PairDebiaser(Debiaser):
    """Learns the ratios t+ and t-; ``p`` regularises, ``rate`` is that of the averages, ``most`` bounds a weight."""

    learns = True

    def __init__(self, *, p: float = 1.0, rate: float = 0.05, most: float = 20.0) -> None:
        check_positive(rate=rate, most=most)
        if p < 0 or rate > 1:
            raise UsageError(f"p is {p} and rate {rate}; p is 0 or more, the rate at most 1")
        self.p, self.rate, self.most = p, rate, most
        self.plus, self.minus = torch.ones(1), torch.ones(1)
        self.sums = torch.zeros(2, 1)

    def prepare(self, evidence: Evidence) -> None:
        """Begin with ratios of 1."""
        self.plus, self.minus = torch.ones(evidence.positions), torch.ones(evidence.positions)
        self.sums = torch.zeros(2, evidence.positions)

    def weigh(self, batch: ClickBatch) -> Weights:
        """Return 1 / t+ for clicked documents, and a shift of -log t- for others."""
        clicked = take((1 / self.plus).clamp(max=self.most), batch)
        shift = take((1 / self.minus).clamp(1 / self.most, self.most), batch).log()
        others = batch.shown & ~batch.clicked
        return Weights(torch.where(batch.clicked, clicked, 1.0), torch.where(others, shift, 0.0))

    def learn(self, batch: ClickBatch, share: float) -> None:
        """Add the losses of the pairs to those of their positions."""
        pairs = batch.clicked.unsqueeze(2) & (batch.shown & ~batch.clicked).unsqueeze(1)
        losses = F.softplus(batch.scores.unsqueeze(1) - batch.scores.unsqueeze(2)) * pairs
        at = (batch.positions.clamp(1, len(self.plus)) - 1).reshape(-1)
        plus, minus = take(self.plus, batch), take(self.minus, batch)
        for row, by in enumerate(((losses / minus.unsqueeze(1)).sum(2), (losses / plus.unsqueeze(2)).sum(1))):
            summed = torch.zeros(len(self.plus), device=by.device).index_add_(0, at, by.reshape(-1).float())
            self.sums[row] += share * summed.cpu()

    def step(self, progress: float) -> None:
        """Move the ratios toward those of this step's pairs."""
        for row, name in enumerate(("plus", "minus")):
            old, sums = getattr(self, name), self.sums[row]
            if sums[0] > 0:
                found = (sums / sums[0]).clamp(min=1e-6) ** (1 / (1 + self.p))
                setattr(self, name, torch.where(sums > 0, (1 - self.rate) * old + self.rate * found, old))
        self.sums = torch.zeros_like(self.sums)

    def state(self) -> dict[str, Tensor]:
        """Return both ratios."""
        return {"plus": self.plus, "minus": self.minus}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore them."""
        self.plus, self.minus = state["plus"].clone(), state["minus"].clone()

    def curve(self) -> list[float]:
        """Return t+ relative to the first position."""
        return [float(t / self.plus[0]) for t in self.plus]
