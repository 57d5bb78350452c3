r"""Clipping and Gaussian noise on what leaves a client, with the (epsilon, delta) that it buys.

    D <- D min(1, C / ||D||) + N(0, (sigma C)^2 I),    D = (what is sent) - (what was received)

The client itself adds the noise, so that nobody beyond it needs trust. Whatever the client trained on, with or
without any of its examples, D has norm at most C, so each round is one Gaussian mechanism of noise multiplier sigma,
and the rounds compose: epsilon is that of Renyi differential privacy (opacus' accountant), for adding or removing
*all* that a client holds, and so for any one example too. delta is 1 / examples where none is stated. No sampling of
clients or of batches is assumed, and none makes epsilon smaller.

Abadi et al., Deep Learning with Differential Privacy, 2016, arXiv:1607.00133. McMahan et al., Learning Differentially
Private Recurrent Language Models, 2018, arXiv:1710.06963.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lorank.errors import LorankError, UsageError
from lorank.federated.messages import Message


@dataclass(frozen=True)
class Privacy:
    """How what leaves a client is made private.

    Attributes:
        clip: C, the largest norm of what a client changes in a round; above 0.
        noise: sigma, the noise multiplier; 0 clips and adds nothing.
        delta: The probability that the guarantee fails; None takes 1 / examples.
    """

    clip: float
    noise: float = 0.0
    delta: float | None = None

    def __post_init__(self) -> None:
        if not self.clip > 0 or not self.noise >= 0:
            raise UsageError(f"--clip {self.clip:g} --noise {self.noise:g}: clip above 0, and noise of 0 or more")
        if self.delta is not None and not 0 < self.delta < 1:
            raise UsageError(f"--delta {self.delta:g}: give a number between 0 and 1")

    def protect(self, message: Message, received: Message, generator: torch.Generator) -> Message:
        """Return ``message`` with its difference from ``received`` clipped, and noise added.

        Args:
            message: What the client would send.
            received: What it received before it trained; tensors that are not there count as 0.
            generator: The source of the noise, which nobody but the client may know.
        """
        clipped = clip_difference(message, received, self.clip)
        if not self.noise:
            return clipped
        scale = self.noise * self.clip
        return {
            name: tensor + scale * torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.dtype)
            for name, tensor in clipped.items()
        }

    def epsilon(self, rounds: int, examples: int) -> float:
        """Return epsilon after ``rounds`` rounds of a client with so many examples; infinite without noise.

        Raises:
            LorankError: If opacus is not installed.
        """
        if not self.noise:
            return float("inf")
        return spent(self.noise, rounds, self.delta_of(examples))

    def delta_of(self, examples: int) -> float:
        """Return the stated delta, or 1 / examples, and one half of a client with a single one.

        >>> Privacy(1.0, 1.0).delta_of(200)
        0.005
        """
        return self.delta if self.delta is not None else 1.0 / max(examples, 2)


def spent(noise: float, rounds: int, delta: float) -> float:
    """Return the epsilon of ``rounds`` Gaussian mechanisms of one noise multiplier, by opacus' RDP accountant."""
    try:
        from opacus.accountants import RDPAccountant
    except ImportError as error:
        raise LorankError("stating epsilon needs opacus; install it with: pip install 'lorank[private]'") from error
    accountant = RDPAccountant()
    for _ in range(rounds):
        accountant.step(noise_multiplier=noise, sample_rate=1.0)
    return float(accountant.get_epsilon(delta=delta))


def norm_of(message: Mapping[str, Tensor]) -> float:
    """Return the Euclidean norm of all values of a message together.

    >>> norm_of({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])})
    5.0
    """
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in message.values()))


def clip_difference(message: Message, received: Message, limit: float) -> Message:
    """Return ``message`` moved toward ``received`` until they are no further than ``limit`` apart.

    >>> clip_difference({"a": torch.tensor([4.0])}, {"a": torch.tensor([1.0])}, 1.0)["a"].item()
    2.0
    """
    base = {name: received[name] if name in received else torch.zeros_like(tensor) for name, tensor in message.items()}
    changed = {name: tensor - base[name] for name, tensor in message.items()}
    norm = norm_of(changed)
    if not norm < float("inf"):
        raise LorankError("a client's update is not finite; lower its learning rate")
    factor = min(1.0, limit / norm) if norm > 0 else 1.0
    return {name: base[name] + factor * tensor for name, tensor in changed.items()}
