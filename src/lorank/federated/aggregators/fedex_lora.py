r"""FedEx-LoRA: the mean of the clients' products, exactly.

    A = sum_i w_i A_i,    B = sum_i w_i B_i,    W0 <- W0 + s R,    R = sum_i w_i B_i A_i - B A

so that W0 + s (R + B A) is the mean of the clients' full updates. As sum_i w_i (B_i - B) = 0, the last of n clients
drops out of the sum, and the residual is sent in factors of rank at most (n - 1) r:

    R = sum_{i<n} w_i (B_i - B) (A_i - A_n)

Bytes per client and layer: up 4 r (in + out), down 4 n r (in + out). Heads are averaged. One client has no residual.

Singhal et al., FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of Foundation Models, 2024,
arXiv:2410.09432.

*Deviations*: the published code adds the residual transposed, which is right for GPT-2's layers and wrong for linear
ones; here it is added as it stands. It forms the residual as a full matrix; here it travels as the factors above, and
lies beside the adapter, so that the base is never changed on disk.
"""

import torch
from torch import Tensor

from lorank.federated.aggregators.core.aggregator import Aggregator, State, Uploads, aggregator
from lorank.federated.aggregators.core.averages import mean_of_all, shares
from lorank.federated.layout import Layout, layers_with
from lorank.federated.messages import Message
from lorank.lowrank.forms.form import Factors

UP, DOWN = "residual_B", "residual_A"
"""The names under which the factors of a layer's residual travel."""


@aggregator(
    "fedex-lora",
    title="FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of Foundation Models",
)
class FedExLoRA(Aggregator):
    """The means of the factors, and what they lack to the mean of the products, in factors."""

    needs = ("A", "B")

    def pick(self, state: State, layout: Layout) -> Message:
        return {name: state[name] for name in sorted(layout.trained | layout.heads)}

    def aggregate(self, uploads: Uploads, last: Message) -> Message:
        means = mean_of_all(uploads)
        residuals: Message = {}
        for path in layers_with(means, "A", "B"):
            up, down = residual_factors(uploads, path, means[f"{path}.B"])
            residuals |= {f"{path}.{UP}": up, f"{path}.{DOWN}": down}
        return means | residuals

    def residual(self, message: Message, layout: Layout) -> dict[str, Factors]:
        paths = layers_with(message, UP, DOWN)
        return {
            path: Factors(message[f"{path}.{DOWN}"], message[f"{path}.{UP}"], layout.scalings[path])
            for path in paths
            if message[f"{path}.{DOWN}"].shape[0]
        }


@torch.no_grad()
def residual_factors(uploads: Uploads, path: str, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return R's factors [out, (n - 1) r] and [(n - 1) r, in] for one layer.

    Args:
        uploads: What n clients sent; each has A [r, in] and B [out, r] of the layer.
        path: The path of the layer.
        mean: The mean B [out, r].
    """
    own = shares(uploads, f"{path}.B")
    *others, last = own
    A, B = ({client: uploads[client].tensors[f"{path}.{key}"].double() for client in own} for key in "AB")
    up = [own[client] * (B[client] - mean.double()) for client in others]
    down = [A[client] - A[last] for client in others]
    empty_up, empty_down = B[last].new_zeros(len(mean), 0), A[last].new_zeros(0, A[last].shape[1])
    return torch.cat([empty_up, *up], 1).to(mean.dtype), torch.cat([empty_down, *down]).to(mean.dtype)
