r"""ROAD: adversarial debiasing that is fair within small neighbourhoods, not on average alone.

An adversary predicts the sensitive attribute s from the scorer's output; the scorer learns its labels and to fool it.
ROAD weighs the instances of the adversary's part by

    w_i = \exp(-L_adv(i) / \tau) / mean over the batch (of the same s) of the same,

so that where the adversary succeeds most (lowest loss) the scorer must give way most; \tau -> \infty is the plain
global adversary. Here w is the closed form of the paper's weighting network at its optimum, per group of s.

Paper: V. Grari et al., On the Fairness ROAD: Robust Optimization for Adversarial Debiasing, ICLR 2024.

*Deviations*: the paper's network that outputs w, trained by gradient ascent, is replaced by the closed form of its
BROAD variant.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lorank.catalogue import catalogued
from lorank.errors import UsageError


def road_weights(adversary_loss: Tensor, sensitive: Tensor, tau: float) -> Tensor:
    """Return weights [n] of mean 1 within each value of the sensitive attribute.

    Args:
        adversary_loss: The adversary's loss of each instance, [n].
        sensitive: The sensitive attribute, 0 or 1, [n].
        tau: The temperature, above 0; infinity weighs all alike.

    >>> road_weights(torch.tensor([0.0, 5.0]), torch.tensor([0, 0]), float("inf")).tolist()
    [1.0, 1.0]
    """
    if not tau > 0:
        raise UsageError(f"tau={tau} must be above 0")
    loss = adversary_loss.detach()
    weights = torch.ones_like(loss)
    for value in torch.unique(sensitive):
        rows = sensitive == value
        shares = torch.softmax(-loss[rows] / tau, 0)
        weights[rows] = shares * rows.sum()
    return weights


@dataclass(frozen=True)
class RoadSettings:
    """How the scorer is trained: ``penalty`` is the adversary's weight, ``tau`` the temperature of the weights."""

    penalty: float = 1.0
    tau: float = 0.5
    steps: int = 300
    lr: float = 0.02
    hidden: int = 16


@catalogued(
    "fairness-road",
    area="fair",
    title="On the Fairness ROAD: Robust Optimization for Adversarial Debiasing",
    reach="Python alone: it trains on rows with a sensitive attribute, which no format of a collection holds",
)
def train_road(
    rows: Tensor, labels: Tensor, sensitive: Tensor, settings: RoadSettings, *, generator: torch.Generator
) -> nn.Module:
    """Return a scorer of feature rows, trained against an adversary that sees its output.

    Args:
        rows: The features, float [n, d].
        labels: The labels, 0 or 1, [n].
        sensitive: The sensitive attribute, 0 or 1, [n].
        settings: How it is trained.
        generator: It draws the first weights.
    """
    scorer, adversary = _network(rows.shape[1], settings.hidden, generator), _network(1, settings.hidden, generator)
    own = torch.optim.Adam(scorer.parameters(), settings.lr)
    other = torch.optim.Adam(adversary.parameters(), settings.lr)
    y, s = labels.float(), sensitive.float()
    for _ in range(settings.steps):
        for _ in range(2):
            guessed = adversary(scorer(rows).detach()).squeeze(1)
            other.zero_grad()
            functional.binary_cross_entropy_with_logits(guessed, s).backward()
            other.step()
        output = scorer(rows)
        attack = functional.binary_cross_entropy_with_logits(adversary(output).squeeze(1), s, reduction="none")
        weights = road_weights(attack, sensitive, settings.tau)
        loss = (
            functional.binary_cross_entropy_with_logits(output.squeeze(1), y)
            - settings.penalty * (weights * attack).mean()
        )
        own.zero_grad()
        loss.backward()
        own.step()
    return scorer.requires_grad_(False)


def _network(inputs: int, hidden: int, generator: torch.Generator) -> nn.Sequential:
    made = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    with torch.no_grad():
        for parameter in made.parameters():
            scale = parameter.shape[-1] ** -0.5
            parameter.uniform_(-scale, scale, generator=generator)
    return made
