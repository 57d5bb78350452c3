r"""FedSA-LoRA: A is shared and averaged, B stays where it was trained.

    A = sum_i w_i A_i,    dW_i = s B_i A

A learns what all clients have in common, B what one client has of its own. Heads stay local too: a ranker's head
belongs to the client's own notion of relevance. With rsLoRA only the scale s differs. Of VeRA (dW = s diag(b) B
diag(d) A) the vector d beside A is shared, and b beside B stays. Bytes per client and layer, each way: 4 r in, of
VeRA 4 r.

Guo et al., Selective Aggregation for Low-Rank Adaptation in Federated Learning, 2024, arXiv:2410.01463.
"""

from lorank.errors import UsageError
from lorank.federated.aggregators.core.aggregator import Aggregator, State, Uploads, aggregator
from lorank.federated.aggregators.core.averages import mean_of_all
from lorank.federated.layout import Layout
from lorank.federated.messages import Message

SHARED = ("A", "d")
"""The tensors of a layer that are shared: LoRA's A, VeRA's d."""


@aggregator("fedsa-lora", title="Selective Aggregation for Low-Rank Adaptation in Federated Learning")
class FedSALoRA(Aggregator):
    """The weighted mean of A alone; B and the heads never leave a client."""

    personal = True

    def pick(self, state: State, layout: Layout) -> Message:
        return {name: state[name] for name in layout.updates() if name.rpartition(".")[2] in SHARED}

    def aggregate(self, uploads: Uploads, last: Message) -> Message:
        return mean_of_all(uploads)

    def check(self, layout: Layout) -> None:
        """Raise UsageError where no layer trains an A or, of VeRA, a d."""
        names = {name.rpartition(".")[2] for name in layout.updates()}
        if not names & set(SHARED):
            raise UsageError(
                "fedsa-lora shares the factor A, and this adapter trains none; use --adapter lora, rslora or vera"
            )
