r"""Fair yet asymptotically equal: who contributes more receives more of the update, and less and less so.

    psi_i = mean over rounds of max(0, cos(D_i, sum_{j != i} D_j)),    D_i = what client i changed in a round
    rho_i(t) = (psi_i / max_j psi_j) ^ (beta / (beta + t))

In the first ``explore`` rounds everybody receives everything while contributions psi are estimated. After t further
rounds client i receives the share rho_i(t) of the coordinates of the mean, those that differ most from its own, and
keeps its own values in the rest. Shares rise with psi at every t, and all tend to 1.

Lin et al., Fair yet Asymptotically Equal Collaborative Learning, 2023, ICML.

*Deviations*: reconstructed. The paper lets clients synchronise with a probability; here they receive a share of the
coordinates in every round, which has the same expectation and no luck. What is withheld is filled with the client's own
values, so that every message has the same length.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.federated.aggregators.core.aggregator import Aggregator, State, Uploads, aggregator
from lorank.federated.aggregators.core.averages import mean_of_all
from lorank.federated.layout import Layout
from lorank.federated.messages import Message

PREFIX, ROUNDS = "contribution.", "rounds"


@aggregator("fair-equal-collaboration", title="Fair yet Asymptotically Equal Collaborative Learning")
class Fair(Aggregator):
    """The weighted mean, of which each client receives a share by its contribution.

    Args:
        explore: The number of rounds, 1 or more, in which contributions are estimated and nothing is withheld.
        beta: How many rounds after those the exponent of the shares takes to halve; above 0.
    """

    def __init__(self, explore: int = 1, beta: float = 2.0) -> None:
        if explore < 1 or not beta > 0:
            raise UsageError(f"explore is {explore} and beta {beta}; give 1 round or more, and a number above 0")
        self.explore, self.beta = explore, beta
        self.rounds = 0
        self.sums: dict[str, float] = {}

    def pick(self, state: State, layout: Layout) -> Message:
        return {name: state[name] for name in sorted(layout.trained | layout.heads)}

    def aggregate(self, uploads: Uploads, last: Message) -> Message:
        self.rounds += 1
        if self.rounds <= self.explore:
            for client, value in contributions(uploads, last).items():
                self.sums[client] = self.sums.get(client, 0.0) + value
        return mean_of_all(uploads)

    def share(self, client: str) -> float:
        """Return rho_i, the share of coordinates that a client receives after the rounds so far."""
        later = self.rounds - self.explore
        most = max(self.sums.values(), default=0.0)
        if later <= 0 or most <= 0 or client not in self.sums:
            return 1.0
        return float((self.sums[client] / most) ** (self.beta / (self.beta + later)))

    def reply(self, message: Message, client: str, upload: Message | None) -> Message:
        share = self.share(client)
        if upload is None or share >= 1.0:
            return message
        return {name: _merged(tensor, upload[name], share) for name, tensor in message.items()}

    def memory(self) -> Message:
        sums = {PREFIX + client: torch.tensor(value, dtype=torch.float64) for client, value in self.sums.items()}
        return {ROUNDS: torch.tensor(self.rounds), **sums}

    def load_memory(self, memory: Message) -> None:
        self.rounds = int(memory[ROUNDS])
        self.sums = {name[len(PREFIX) :]: float(own) for name, own in memory.items() if name.startswith(PREFIX)}


def contributions(uploads: Uploads, last: Message) -> dict[str, float]:
    """Return max(0, cos(D_i, sum_{j != i} D_j)) of each client; of a client alone it is 1."""
    deltas = {
        client: torch.cat([(each.tensors[name] - last[name]).double().flatten() for name in sorted(last)])
        for client, each in uploads.items()
    }
    whole = torch.stack([uploads[client].weight * delta for client, delta in deltas.items()]).sum(0)
    if len(deltas) == 1:
        return dict.fromkeys(deltas, 1.0)
    found = {}
    for client, delta in deltas.items():
        others = whole - uploads[client].weight * delta
        cosine = torch.nn.functional.cosine_similarity(delta, others, dim=0, eps=1e-30).item()
        found[client] = max(0.0, cosine)
    return found


def _merged(mean: Tensor, own: Tensor, share: float) -> Tensor:
    """Return ``own`` with its ``share`` of the mean's coordinates, those that differ most."""
    gap = (mean - own).abs().flatten()
    taken = gap.topk(round(share * gap.numel())).indices
    return own.flatten().clone().index_copy(0, taken, mean.flatten()[taken]).view_as(own)
