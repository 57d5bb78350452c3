r"""What low-rank updates of a frozen chain of layers can reach, and the updates that reach it.

    min over dW_l of rank <= R of || prod_l (W_l + dW_l) - target ||_2 = sigma_{R L + 1}(E),  E = target - prod_l W_l

so rank R >= rank(E) / L in each of the L layers suffices to be exact. With E_R L = U diag(sigma) V^T the best
approximation of rank R L and V_l the l-th R of its columns, in the order in which the layers are applied,

    dW_l = (W_L ... W_{l+1})^-1  E_RL V_l V_l^T  (P_{l-1})^-1,    P_l = (W_l + dW_l) ... (W_1 + dW_1)

has rank R, and the products telescope: W_L ... W_{l+1} P_l = W_L ... W_l P_{l-1} + E_RL V_l V_l^T.

Zeng and Lee, The Expressive Power of Low-Rank Adaptation, 2023, arXiv:2310.17513.

*Deviations*: the linear case alone, with a different construction from the paper's; every W_l, and every
W_l + dW_l that the construction passes through, must be invertible, which holds for generic weights.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.forms.form import Factors
from lorank.lowrank.linalg import top_k_svd


def product(weights: Sequence[Tensor]) -> Tensor:
    """Return W_L ... W_1 for the layers in the order in which they are applied.

    >>> product([torch.tensor([[2.0]]), torch.tensor([[3.0]])]).item()
    6.0
    """
    return reduce(lambda below, own: own @ below, weights)


def sufficient_rank(weights: Sequence[Tensor], target: Tensor) -> int:
    """Return the least rank R an update a layer with which the frozen layers reach ``target`` exactly.

    >>> sufficient_rank([torch.eye(4), torch.eye(4)], 2 * torch.eye(4))
    2
    """
    rank = int(torch.linalg.matrix_rank((target - product(weights)).double()))
    return -(-rank // len(weights))


@catalogued(
    "lora-expressive-power",
    area="adapters.form",
    title="The Expressive Power of Low-Rank Adaptation",
    reach="Python alone: it computes with given weight matrices, which no run or command holds",
)
def reach(weights: Sequence[Tensor], target: Tensor, rank: int) -> list[Factors]:
    """Return updates of at most ``rank`` with which the frozen layers come as near to ``target`` as any can.

    Args:
        weights: W_1 ... W_L [n, n], in the order in which they are applied, invertible.
        target: [n, n].
        rank: R of every layer's update, from 0 up.

    Raises:
        UsageError: where a layer on the way is singular.

    >>> (update,) = reach([torch.eye(2)], torch.diag(torch.tensor([4.0, 1.0])), 1)
    >>> (torch.eye(2) + update.B @ update.A).round(decimals=6).tolist()
    [[4.0, 0.0], [0.0, 1.0]]
    """
    layers = [weight.double() for weight in weights]
    U, sigma, Vh = top_k_svd(target.double() - product(layers), rank * len(layers))
    below = torch.eye(len(target), dtype=torch.float64, device=target.device)
    updates = []
    for place, W in enumerate(layers):
        own = slice(place * rank, (place + 1) * rank)
        above = product([*layers[place + 1 :]]) if layers[place + 1 :] else torch.eye(len(W), dtype=W.dtype)
        try:
            B = torch.linalg.solve(above.to(W), U[:, own] * sigma[own])
            A = torch.linalg.solve(below, Vh[own], left=False)
        except torch.linalg.LinAlgError as error:
            raise UsageError(f"the layers above or below layer {place} are singular; move them a little") from error
        below = (W + B @ A) @ below
        updates.append(Factors(A, B, 1.0))
    return updates
