r"""Mean of factors: every trained tensor is averaged on its own (FedAvg; of LoRA's factors FedIT).

    A = sum_i w_i A_i,    B = sum_i w_i B_i,    w_i = n_i / sum_j n_j

n_i is the number of training queries of client i. The product of the means is not the mean of the products: for that
see ``fedex-lora``. Bytes per round and client, each way: 4 r (in + out) per layer, and the heads.

McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, 2017, arXiv:1602.05629.
Zhang et al., Towards Building the Federated GPT: Federated Instruction Tuning, 2024, arXiv:2305.05644.
"""

from lorank.federated.aggregators.core.aggregator import Aggregator, State, Uploads, aggregator
from lorank.federated.aggregators.core.averages import mean_of_all
from lorank.federated.layout import Layout
from lorank.federated.messages import Message


@aggregator("mean", title="Communication-Efficient Learning of Deep Networks from Decentralized Data", published=False)
class Mean(Aggregator):
    """The weighted mean of every trained tensor, of any adapter."""

    def pick(self, state: State, layout: Layout) -> Message:
        return {name: state[name] for name in sorted(layout.trained | layout.heads)}

    def aggregate(self, uploads: Uploads, last: Message) -> Message:
        return mean_of_all(uploads)
