r"""LoRe: personal rewards of low rank, every user a mixture of a few shared ones.

    r_u(x, y) = w_u^T B \phi(x, y),   w_u in the simplex,   B [k, d] shared
    P(y_w over y_l | u) = \sigma(r_u(x, y_w) - r_u(x, y_l))

phi are vectors of answers from any encoder or reward model. B and all w are fitted by the likelihood of pairs; a new
user has few pairs, from which w alone is fitted.

Paper: A. Bose et al., LoRe: Personalizing LLMs via Low-Rank Reward Modeling, 2025.

*Deviations*: phi is fixed and B linear in it, as in the paper's experiments. w is the softmax of free numbers that
start at 0, and B starts small at random.

It steps by itself and not through the training loop: the fit is a full-batch descent over a small matrix, without a
ranker.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.files import replaced_file


@catalogued(
    "lore-reward",
    area="losses.preference",
    title="LoRe: Personalizing LLMs via Low-Rank Reward Modeling",
    reach="Python alone: it learns from users' pairs of answers, given as feature tensors",
)
@dataclass(frozen=True)
class PersonalRewards:
    """Shared rewards ``basis`` [k, d] and each user's mixture ``mixtures`` [users, k].

    >>> rewards = PersonalRewards(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> rewards.score(torch.tensor([[3.0, 5.0]]), user=1)
    tensor([5.])
    """

    basis: Tensor
    mixtures: Tensor

    def score(self, answers: Tensor, user: int | None = None) -> Tensor:
        """Return the rewards [n] of ``answers`` [n, d] for a user, or for the mean of all users."""
        mixture = self.mixtures.mean(0) if user is None else self.mixtures[user]
        return answers.to(self.basis) @ self.basis.T @ mixture

    def with_user(self, chosen: Tensor, rejected: Tensor, *, steps: int = 200, rate: float = 0.1) -> "PersonalRewards":
        """Return the rewards with one more user, whose mixture is fitted to pairs [n, d]; the basis stays.

        Args:
            chosen: The vectors [n, d] of the replies that the user prefers.
            rejected: The vectors [n, d] of the replies that they were preferred to.
            steps: The number of descent steps.
            rate: The learning rate, above 0.
        """
        _check_pairs(chosen, rejected)
        parts = (chosen - rejected).to(self.basis) @ self.basis.T
        free = torch.zeros(len(self.basis), requires_grad=True)
        _descend([free], lambda: -F.logsigmoid(parts @ free.softmax(0)).mean(), steps, rate)
        return PersonalRewards(self.basis, torch.cat([self.mixtures, free.detach().softmax(0).unsqueeze(0)]))

    def save(self, path: str | Path) -> None:
        """Write both matrices as safetensors."""
        with replaced_file(path) as stage:
            save_file({"basis": self.basis.contiguous(), "mixtures": self.mixtures.contiguous()}, stage)

    @classmethod
    def load(cls, path: str | Path) -> "PersonalRewards":
        """Read what ``save`` wrote."""
        return cls(**load_file(path))


def fit_personal_rewards(
    chosen: Tensor,
    rejected: Tensor,
    users: Tensor,
    rank: int,
    *,
    steps: int = 400,
    rate: float = 0.05,
    decay: float = 1e-4,
    seed: int = 0,
) -> PersonalRewards:
    """Return the basis and mixtures that make the preferences most likely.

    Args:
        chosen: Vectors of the preferred answers [n, d].
        rejected: Vectors of the others [n, d].
        users: int64 [n], who preferred, numbered from 0 without gaps.
        rank: k, 1 or more; 1 is a single reward for all.
        steps: Full-batch Adam steps.
        rate: Their size.
        decay: Weight of the squared basis.
        seed: Of the start.
    """
    _check_pairs(chosen, rejected)
    if users.shape != chosen.shape[:1] or rank < 1:
        raise UsageError(
            f"give one user a pair and a rank of 1 or more; got {list(users.shape)} users for "
            f"{len(chosen)} pairs and rank {rank}"
        )
    gap = (chosen - rejected).float()
    generator = torch.Generator().manual_seed(seed)
    basis = (0.1 * torch.randn(rank, gap.shape[1], generator=generator)).requires_grad_()
    free = (0.1 * torch.randn(int(users.max()) + 1, rank, generator=generator)).requires_grad_()

    def loss() -> Tensor:
        margin = ((gap @ basis.T) * free.softmax(1)[users]).sum(1)
        return -F.logsigmoid(margin).mean() + decay * basis.square().sum()

    _descend([basis, free], loss, steps, rate)
    return PersonalRewards(basis.detach(), free.detach().softmax(1))


def _descend(parameters: list[Tensor], loss: Callable[[], Tensor], steps: int, rate: float) -> None:
    optimizer = torch.optim.Adam(parameters, lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def _check_pairs(chosen: Tensor, rejected: Tensor) -> None:
    if chosen.dim() != 2 or chosen.shape != rejected.shape or not len(chosen):
        raise UsageError(
            f"give vectors of both answers of one or more pairs as [n, d]; got {list(chosen.shape)} and "
            f"{list(rejected.shape)}"
        )
