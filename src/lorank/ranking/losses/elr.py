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

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.losses.lists import clean, lowest
from lorank.ranking.losses.softmax import softmax


@catalogued("elr", area="losses.supervised",
            title="Early-Learning Regularization Prevents Memorization of Noisy Labels")
class EarlyLearning:
    """Softmax cross entropy with the early-learning term; remembers one number for every training document.

    Args:
        documents: How many (query, document) pairs the training set holds.
        strength: lambda, 0 and up; 0 is softmax cross entropy.
        decay: beta of the running mean, 0 up to below 1.

    >>> regularised = EarlyLearning(documents=2, strength=1.0, decay=0.0)
    >>> value = regularised(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), keys=torch.tensor([[0, 1]]))
    >>> torch.testing.assert_close(value, torch.log(torch.tensor(2.0)) + torch.log(torch.tensor(1 - 0.5)))
    """

    def __init__(self, documents: int, *, strength: float = 3.0, decay: float = 0.7) -> None:
        if documents < 1 or strength < 0 or not 0 <= decay < 1:
            raise UsageError(f"documents must be 1 or more, strength 0 or more, decay from 0 to below 1; got "
                             f"{documents}, {strength}, {decay}")
        self.strength, self.decay = strength, decay
        self.target = torch.zeros(documents)

    def __call__(
        self, scores: Tensor, labels: Tensor, mask: Tensor | None = None, weights: Tensor | None = None, *,
        keys: Tensor,
    ) -> Tensor:
        """Return the regularised loss, and let the running means of these documents take a step.

        Args:
            scores: [batch, list].
            labels: [batch, list], 0 and up.
            mask: bool [batch, list], True where there is a document.
            weights: [batch] or [batch, list]; a document's weight multiplies its part of both terms.
            keys: int64 [batch, list], each document's place in the memory, the same at every epoch.
        """
        lists = clean(scores, labels, mask, weights)
        if keys.shape != scores.shape:
            raise UsageError(f"keys must be {list(scores.shape)} as the scores are; got {list(keys.shape)}")
        chance = lists.scores.masked_fill(~lists.mask, lowest(lists.scores)).softmax(1)
        believed = self._remember(chance.detach(), keys, lists.mask)
        agreement = torch.where(lists.mask, chance * believed, 0.0).sum(1)
        term = (1 - agreement).clamp(min=1e-4).log()
        if lists.item_weights is not None:
            term = term * lists.item_weights.sum(1) / lists.sizes
        return softmax(scores, labels, mask, weights) + self.strength * lists.mean(term)

    def _remember(self, chance: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        self.target = self.target.to(chance)
        keys = torch.where(mask, keys, 0)
        believed = self.decay * self.target[keys] + (1 - self.decay) * chance
        self.target[keys[mask]] = believed[mask]
        return believed

    def state_dict(self) -> dict[str, Tensor]:
        """Return the memory, for a checkpoint."""
        return {"target": self.target.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up a memory; raise UsageError where it is of another size."""
        if state["target"].shape != self.target.shape:
            raise UsageError(f"the memory holds {len(state['target'])} documents, the data {len(self.target)}")
        self.target = state["target"].clone()
