r"""SG-LoRA: adapter weights for a new task out of its description, without its data.

    w = softmax(cos(e, e_i) / tau)    c = sum_i w_i t_i    t_i = what expert i is about: mean of its parameters' code
    encoder q(z | theta, c) = N(mu, sigma^2),  decoder theta' = D(z, c)
    minimise ||theta - D(z, c)||^2 + beta KL(q || N(0, 1)) over the experts;  generate D(z, c), z ~ N(0, 1) or 0

e is the description's embedding, e_i those of the experts' tasks, theta a whole adapter as one vector of factors.
Which embeds descriptions is the caller's affair: any text encoder does. Experts' parameters are standardised and
taken to coordinates in their own span (at most N - 1 numbers), so that the networks stay small, and the
generated adapter lies in the affine hull of the experts.

Li et al., Semantic-guided LoRA Parameters Generation, 2025, arXiv:2509.10535.

*Deviations*: the paper generates from many checkpoints of each expert; here noise is added to the coordinates in
training. Factors of different experts are only comparable where they began at the same A: train experts with one
seed.

It steps by itself and not through the training loop: what learns is a small network over adapters, not a ranker.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.algebra.factors import fold_scale
from lorank.lowrank.algebra.sets import FactorSet
from lorank.lowrank.forms.form import Factors, seeded_generator
from lorank.lowrank.linalg import top_k_svd


def flatten(factors: FactorSet) -> Tensor:
    """Return all factors as one vector, layer by layer, A then s B.

    >>> flatten({"layer": Factors(torch.ones(1, 2), torch.ones(1, 1), 3.0)}).tolist()
    [1.0, 1.0, 3.0]
    """
    return torch.cat([part.flatten() for own in factors.values() for part in fold_scale(own)[:2]])


def unflatten(vector: Tensor, like: FactorSet) -> dict[str, Factors]:
    """Return the factors in ``vector``, with the shapes of ``like`` and scale 1."""
    sizes = [part.numel() for own in like.values() for part in own[:2]]
    parts = iter(vector.split(sizes))
    return {path: Factors(next(parts).view_as(own.A), next(parts).view_as(own.B), 1.0) for path, own in like.items()}


class _Generator(nn.Module):
    """Encoder and decoder of the coordinates u [n, d] under conditions c [n, d]."""

    def __init__(self, size: int, latent: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2 * size, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent + size, hidden), nn.Tanh(), nn.Linear(hidden, size))

    def encode(self, u: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_variance = self.encoder(torch.cat([u, c], -1)).chunk(2, -1)
        return mu, log_variance

    def decode(self, z: Tensor, c: Tensor) -> Tensor:
        moved: Tensor = self.decoder(torch.cat([z, c], -1))
        return c + moved


@catalogued(
    "sg-lora",
    area="adapters.merge",
    title="Semantic-guided LoRA Parameters Generation",
    reach="Python alone: it learns from a library of adapters with the embeddings of their tasks",
)
class AdapterGenerator:
    """A conditional variational autoencoder of a library of adapters.

    Args:
        experts: the adapters, all of the same layers and ranks.
        embeddings: [experts, features], of their tasks' descriptions.
        temperature: tau, above 0; small ones follow the nearest expert alone.
        latent: the size of z.
        seed: of the networks and their training.
    """

    def __init__(
        self,
        experts: Sequence[FactorSet],
        embeddings: Tensor,
        *,
        temperature: float = 0.1,
        latent: int = 4,
        hidden: int = 64,
        seed: int = 0,
    ) -> None:
        if len(experts) < 2 or len(embeddings) != len(experts) or not temperature > 0:
            raise UsageError("give two experts at least, one embedding each, and a temperature above 0")
        self.like = experts[0]
        self.embeddings = nn.functional.normalize(embeddings.double(), dim=-1)
        self.temperature, self.seed, self.latent = temperature, seed, latent
        vectors = torch.stack([flatten(own) for own in experts]).double()
        self.mean = vectors.mean(0)
        U, sigma, Vh = top_k_svd(vectors - self.mean, len(experts) - 1)
        self.scale = sigma.max().clamp_min(1e-12) / len(experts) ** 0.5
        self.directions, self.codes = Vh, U * sigma / self.scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeded_generator(seed, "sg-lora").initial_seed())
            self.network = _Generator(self.codes.shape[1], latent, hidden).double()

    def weights(self, description: Tensor) -> Tensor:
        """Return w [..., experts] for embeddings [..., features]."""
        unit = nn.functional.normalize(description.double(), dim=-1)
        return torch.softmax(unit @ self.embeddings.t() / self.temperature, dim=-1)

    def fit(self, steps: int = 500, *, lr: float = 1e-2, beta: float = 1e-2, noise: float = 0.1) -> list[float]:
        """Train on the experts and return the loss of each step.

        Args:
            steps: The number of Adam's steps over all experts, 0 or more.
            lr: The learning rate, above 0.
            beta: The weight of the KL divergence, 0 or more.
            noise: The standard deviation, 0 or more, of the noise that is added to the coordinates in each step.
        """
        generator = seeded_generator(self.seed, "sg-lora fit")
        optimizer = torch.optim.Adam(self.network.parameters(), lr=lr)
        seen = []
        for _ in range(steps):
            condition = self.weights(self.embeddings) @ self.codes
            u = self.codes + noise * torch.randn(self.codes.shape, generator=generator, dtype=torch.float64)
            mu, log_variance = self.network.encode(u, condition)
            draw = torch.randn(mu.shape, generator=generator, dtype=torch.float64)
            out = self.network.decode(mu + draw * (log_variance / 2).exp(), condition)
            divergence = 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
            loss = (out - self.codes).square().sum(-1).mean() + beta * divergence
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
        return seen

    @torch.no_grad()
    def generate(self, description: Tensor, generator: torch.Generator | None = None) -> dict[str, Factors]:
        """Return an adapter for the task described by an embedding [features]; z = 0 without a ``generator``."""
        condition = (self.weights(description) @ self.codes).unsqueeze(0)
        z = torch.zeros(1, self.latent, dtype=torch.float64)
        if generator is not None:
            z = torch.randn(z.shape, generator=generator, dtype=torch.float64)
        code = self.network.decode(z, condition)[0]
        vector = self.mean + self.scale * (code @ self.directions)
        return unflatten(vector.to(flatten(self.like).dtype), self.like)
