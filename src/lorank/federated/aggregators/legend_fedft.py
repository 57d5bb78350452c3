r"""LEGEND: each client adapts as many blocks as its device can, and a layer is averaged over those that have it.

    T_l = sum_{i in owners(l)} w_i T_i,l / sum_{i in owners(l)} w_i

Depth is counted from the output: a client of depth d adapts the last d blocks. Ranks rise toward the output. The depths
that fit the limits come from `lorank.federated.planning`; a client receives the layers that it has, and the final model
has all that anybody has. Bytes per client, each way: 4 r_l (in + out) summed over its own layers.

Liu et al., Adaptive Parameter-Efficient Federated Fine-Tuning on Heterogeneous Devices, 2024, arXiv:2412.20004.

*Deviations*: reconstructed from the abstract and the algorithm; devices are described by their relative speed and the
blocks that their memory holds, in place of measured times.
"""

from torch import Tensor

from lorank.federated.aggregators.core.aggregator import Aggregator, State, Uploads, aggregator
from lorank.federated.aggregators.core.averages import mean_of_all
from lorank.federated.layout import Layout, layer_of
from lorank.federated.messages import Message


@aggregator("legend-fedft", title="Adaptive Parameter-Efficient Federated Fine-Tuning on Heterogeneous Devices")
class Legend(Aggregator):
    """The weighted mean of each layer over the clients that have it.

    Args:
        low: The rank of the first block, 1 or more; None takes half the recipe's.
        high: The rank of the last block; None takes half as much again as the recipe's.
    """

    def __init__(self, low: int | None = None, high: int | None = None) -> None:
        self.low, self.high = low, high

    def pick(self, state: State, layout: Layout) -> Message:
        return {name: state[name] for name in sorted(layout.trained | layout.heads) if state[name].numel()}

    def install(self, state: State, message: Message, layout: Layout) -> dict[str, Tensor]:
        own = {name: tensor for name, tensor in message.items() if name in state and state[name].numel()}
        return super().install(state, own, layout)

    def aggregate(self, uploads: Uploads, last: Message) -> Message:
        return last | mean_of_all(uploads)

    def reply(self, message: Message, client: str, upload: Message | None) -> Message:
        if upload is None:
            return message
        own = {layer_of(name) for name in upload}
        return {name: tensor for name, tensor in message.items() if layer_of(name) in own}
