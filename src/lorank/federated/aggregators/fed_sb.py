r"""Fed-SB: all clients have the same frozen factors, and only the square between them is averaged.

    dW_i = B R_i A,    R = sum_i w_i R_i,    so    B R A = sum_i w_i dW_i    exactly

A [r, in] and B [out, r] are those of the first client's start, sent once before round 1; the start ``lora-sb`` reads
gradients of that client's data, the start ``zero`` draws them at random and reads nothing. Heads are averaged. Bytes
per client and layer, each way: 4 r^2, whatever the number of clients and the size of the layer. Noise that is added
to R is not multiplied by other noise, as it is where A and B both carry some.

Singhal et al., Fed-SB: A Silver Bullet for Extreme Communication Efficiency and Performance in (Private) Federated LoRA
Fine-Tuning, 2025, arXiv:2502.15436.

*Deviations*: the published code states delta = 1 / batches; `lorank.federated.privacy` takes 1 / examples.
"""

from lorank.federated.aggregators.core.aggregator import Aggregator, State, Uploads, aggregator
from lorank.federated.aggregators.core.averages import mean_of_all
from lorank.federated.layout import Layout
from lorank.federated.messages import Message


@aggregator(
    "fed-sb",
    title="Fed-SB: A Silver Bullet for Extreme Communication Efficiency and Performance in (Private) Federated LoRA "
    "Fine-Tuning",
)
class FedSB(Aggregator):
    """The weighted mean of R between factors that all clients share."""

    adapter = "lora-sb"
    needs = ("R",)

    def start(self, state: State, layout: Layout) -> Message:
        return dict(state)

    def pick(self, state: State, layout: Layout) -> Message:
        return {name: state[name] for name in sorted(layout.trained | layout.heads)}

    def aggregate(self, uploads: Uploads, last: Message) -> Message:
        return mean_of_all(uploads)
