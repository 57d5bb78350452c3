"""A small model for tests of federations: clients that regress on a common truth and one of their own."""

import torch
from torch import Tensor, nn

from lorank import lowrank
from lorank.federated import Upload
from lorank.federated.layout import Layout


def tower(seed: int = 0) -> nn.Module:
    """A frozen two-layer network, the same for every client."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 8), nn.Linear(8, 1))


class Peer:
    """A client with a model, an adapter, and examples of its own."""

    def __init__(
        self, method: str = "lora", seed: int = 0, own: float = 0.0, rows: int = 60, rank: int = 3, head=(), **options
    ) -> None:
        self.model = tower()
        self.adapter = lowrank.attach(
            self.model, method, rank=rank, seed=5, targets=["0", "2"], trained=list(head), **options
        )
        self.layout = Layout.of(self.adapter)
        generator = torch.Generator().manual_seed(seed)
        common = tower(seed=77)
        self.x = torch.randn(rows, 12, generator=generator)
        with torch.no_grad():
            self.y = 3 * common(self.x) + own * self.x @ torch.randn(12, 1, generator=generator)

    @property
    def state(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.adapter.state().items()}

    def loss(self) -> float:
        with torch.no_grad():
            return (self.model(self.x) - self.y).square().mean().item()

    def train(self, steps: int = 20, lr: float = 0.02) -> None:
        optimizer = torch.optim.Adam(self.adapter.parameters(), lr=lr)
        for _ in range(steps):
            optimizer.zero_grad()
            (self.model(self.x) - self.y).square().mean().backward()
            optimizer.step()

    def shake(self, seed: int) -> "Peer":
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.adapter.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        return self

    def deltas(self) -> dict[str, Tensor]:
        return {path: layer.delta() for path, layer in self.adapter.layers.items()}


def uploads(aggregator, peers, weights=None) -> dict[str, Upload]:
    weights = weights or [1.0] * len(peers)
    return {
        f"client{i}": Upload(aggregator.pick(peer.state, peer.layout), weight)
        for i, (peer, weight) in enumerate(zip(peers, weights, strict=True))
    }


def one_round(aggregator, peers, last, steps: int = 20, lr: float = 0.02, spoil=lambda sent: sent):
    """Train every peer, aggregate, and install the replies; return what the server made."""
    for peer in peers:
        peer.train(steps, lr)
    sent = spoil(uploads(aggregator, peers))
    message = aggregator.aggregate(sent, last)
    for name, peer in zip(sent, peers, strict=True):
        reply = aggregator.reply(message, name, sent[name].tensors)
        peer.adapter.load_state(aggregator.install(peer.state, reply, peer.layout))
    return message
