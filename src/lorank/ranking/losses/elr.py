r"""Early-learning regularisation: what the ranker believed early on keeps it from memorising wrong labels.

    l = CE(p, y) + \lambda \log(1 - \sum_i p_i t_i),   t \leftarrow \beta t + (1 - \beta) p

with p the softmax of a list's scores and t a running mean of the ranker's own p for that list. The gradient of the
second term pulls towards t: it revives the pull of lists learned early and cancels that of false labels.

Paper: S. Liu, J. Niles-Weed, N. Razavian, C. Fernandez-Granda, Early-Learning Regularization Prevents Memorization of
Noisy Labels, NeurIPS 2020.

*Deviations*: a class of the paper is a document of a list. 1 - <p, t> is kept at 1e-4 or above, which the
paper's code gets by clipping p.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import clean
from lorank.ranking.losses.core.registry import register_loss
from lorank.ranking.losses.softmax import softmax


@register_loss("elr", title="Early-Learning Regularization Prevents Memorization of Noisy Labels", requires=("items",))
class EarlyLearning:
    """Softmax cross entropy with the early-learning term; remembers one number for every training document.

    Args:
        strength: lambda, 0 and up; 0 is softmax cross entropy.
        decay: beta of the running mean, 0 up to below 1.

    >>> regularised = EarlyLearning(strength=1.0, decay=0.0)
    >>> value = regularised(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), items=torch.tensor([[40, 41]]))
    >>> torch.testing.assert_close(value, torch.log(torch.tensor(2.0)) + torch.log(torch.tensor(1 - 0.5)))
    """

    def __init__(self, *, strength: float = 3.0, decay: float = 0.7) -> None:
        if strength < 0 or not 0 <= decay < 1:
            raise UsageError(f"strength must be 0 or more, decay from 0 to below 1; got {strength}, {decay}")
        self.strength, self.decay = strength, decay
        self.items, self.target = torch.zeros(0, dtype=torch.int64), torch.zeros(0)

    def __call__(
        self,
        scores: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        items: Tensor,
    ) -> Tensor:
        """Return the regularised loss, and let the running means of these documents take a step.

        Args:
            scores: [batch, list].
            labels: [batch, list], 0 and up.
            mask: bool [batch, list], True where there is a document.
            weights: [batch] or [batch, list]; a document's weight multiplies its part of both terms.
            items: int64 [batch, list], what tells a document of a query from all others, the same at every epoch.
        """
        if items.shape != scores.shape:
            raise UsageError(f"items must be {list(scores.shape)} as the scores are; got {list(items.shape)}")
        lists = clean(scores, labels, mask, weights)
        chance = lists.shares(lists.scores)
        believed = torch.zeros_like(chance)
        believed[lists.mask] = self._remember(chance.detach()[lists.mask], items[lists.mask[:, : items.shape[1]]])
        agreement = (chance * believed).sum(1)
        term = (1 - agreement).clamp(min=1e-4).log()
        if lists.item_weights is not None:
            term = term * lists.item_weights.sum(1) / lists.sizes
        return softmax(scores, labels, mask, weights) + self.strength * lists.mean(term)

    def _remember(self, chance: Tensor, items: Tensor) -> Tensor:
        known, self.target = self.items.to(items.device), self.target.to(chance)
        self.items = torch.cat([known, items]).unique()
        target = chance.new_zeros(len(self.items))
        target[torch.searchsorted(self.items, known)] = self.target
        place = torch.searchsorted(self.items, items)
        believed = self.decay * target[place] + (1 - self.decay) * chance
        target[place] = believed
        self.target = target
        return believed

    def state_dict(self) -> dict[str, Tensor]:
        """Return the memory, for a checkpoint."""
        return {"items": self.items.clone(), "target": self.target.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up a memory that ``state_dict`` gave."""
        self.items, self.target = state["items"].clone(), state["target"].clone()
