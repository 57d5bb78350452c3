r"""E3: hard prompts get more replies, and the temperature holds the policy's entropy.

    n_i = n_{min} + \lfloor (B - P n_{min}) d_i / \sum_j d_j \rfloor,   the rest one each to the hardest first
    T \leftarrow T ( 1 + T \ln(H^* / H) / (\ln V + \ln \ln V) )

d_i is the rank of prompt i by difficulty, 1 for the easiest (the highest success rate); prompts as hard as each other
share the mean of their ranks, so that equal difficulty gives every prompt as many, as GRPO does. H is the policy's mean
entropy per token, H^* that of the first step, lowered to 0.9 of it along a cosine over the last 40% of the run, and V
the size of the vocabulary.

Paper: M. Liao et al., Enhancing Efficiency and Exploration in Reinforcement Learning for LLMs, 2025.

*Deviations*: published code applies the most replies of a prompt to the remainder only; here to every prompt, and what
is cut goes to the hardest that have room, so that the total stays exact. Its bounds widen by 2 a step; here ``least``
and ``most`` are constants.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.policies.plans.registry import Draw, Kept, SamplingPlan, sampling_plan
from lorank.ranking.policies.plans.success import SuccessRates

ANNEALED, LAST = 0.9, 0.4
"""What the entropy's goal falls to, as a share of the first, and over what share of the run."""


def allocate_by_difficulty(rates: Sequence[float], budget: int, least: int, most: int) -> list[int]:
    """Return how many replies each prompt gets, whose sum is ``budget``.

    Args:
        rates: The success rate of each prompt.
        budget: B.
        least: The fewest replies of a prompt.
        most: The most replies of a prompt.

    Raises:
        UsageError: Where the budget does not lie between ``least`` and ``most`` replies per prompt.

    >>> allocate_by_difficulty([0.9, 0.5, 0.1], 12, 2, 8), allocate_by_difficulty([0.5, 0.5], 8, 2, 8)
    ([3, 4, 5], [4, 4])
    """
    count = len(rates)
    if not least * count <= budget <= most * count:
        raise UsageError(f"{budget} replies for {count} prompts, each from {least} to {most}")
    difficulty = _ranks(rates)
    free, total = budget - least * count, sum(difficulty)
    shares = [min(most, least + int(free * each / total)) for each in difficulty]
    hardest = sorted(range(count), key=lambda i: (-difficulty[i], i))
    while sum(shares) < budget:
        for i in hardest:
            if sum(shares) < budget and shares[i] < most:
                shares[i] += 1
    return shares


def _ranks(rates: Sequence[float]) -> list[float]:
    """Return the rank by difficulty, 1 for the highest rate, the mean rank for equal rates."""
    return [
        sum(other > rate for other in rates) + (sum(math.isclose(other, rate) for other in rates) + 1) / 2
        for rate in rates
    ]


class EntropyTemperature:
    """The temperature that holds an entropy.

    Args:
        vocabulary: V, 3 or more.
        least: The lowest temperature.
        most: The highest temperature.
    """

    def __init__(self, vocabulary: int, *, least: float = 0.3, most: float = 3.0) -> None:
        if vocabulary < 3 or not 0 < least <= 1 <= most:
            raise UsageError(f"a vocabulary of 3 or more, and bounds around 1; got {vocabulary}, {least}, {most}")
        self.scale, self.least, self.most = math.log(vocabulary) + math.log(math.log(vocabulary)), least, most
        self.value, self.first = 1.0, math.nan

    def goal(self, done: float) -> float:
        """Return H* at the share ``done`` of the run."""
        late = max(0.0, (done - (1 - LAST)) / LAST)
        return self.first * (ANNEALED + (1 - ANNEALED) * 0.5 * (1 + math.cos(math.pi * min(1.0, late))))

    def step(self, entropy: float, done: float) -> float:
        """Return the next temperature after a step whose replies had ``entropy`` nats per token.

        >>> controller = EntropyTemperature(100)
        >>> controller.step(2.0, 0.0), controller.step(1.0, 0.1) > 1.0      # the entropy fell: sample hotter
        (1.0, True)
        """
        entropy = max(entropy, 1e-6)
        if math.isnan(self.first):
            self.first = entropy
            return self.value
        change = 1 + self.value * math.log(self.goal(done) / entropy) / self.scale
        self.value = min(self.most, max(self.least, self.value * change))
        return self.value


@sampling_plan("e3")
class E3(SamplingPlan):
    """Share the replies of a step by difficulty at a constant total, and hold the entropy by the temperature.

    Args:
        samples: Replies per prompt on average.
        least: The fewest replies of a prompt, as a share of ``samples``.
        most: The most replies of a prompt, as a multiple of ``samples``.
        vocabulary: The size of the vocabulary.
    """

    reads_entropy: ClassVar[bool] = True

    def __init__(self, samples: int, *, least: float = 0.5, most: float = 2.0, vocabulary: int = 32_000) -> None:
        super().__init__(samples)
        if not 0 < least <= 1 <= most:
            raise UsageError(f"least must be above 0 and at most 1, most 1 or above; got {least}, {most}")
        self.least, self.most = max(1, int(least * samples)), int(most * samples)
        self.rates, self.controller = SuccessRates(), EntropyTemperature(vocabulary)

    def sample(self, prompts: Sequence[int], draw: Draw, generator: torch.Generator) -> Kept:
        """Allocate by the rates that are known, draw once, and learn the rates.

        Args:
            prompts: A number for each prompt of the step.
            draw: Draws a reply for each place, and returns their rewards.
            generator: Not used.
        """
        rates = self.rates.of(prompts).tolist()
        counts = allocate_by_difficulty(rates, self.samples * len(prompts), self.least, self.most)
        places = [place for place, count in enumerate(counts) for _ in range(count)]
        self.rates.record([prompts[place] for place in places], draw(places))
        return Kept(list(range(len(places))))

    def observe_entropy(self, entropy: float, done: float) -> None:
        """Move the temperature.

        Args:
            entropy: In nats, 0 and up.
            done: From 0 to 1.
        """
        self.temperature = self.controller.step(entropy, done)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the success rates, the temperature and the first entropy."""
        held = torch.tensor([self.controller.value, self.controller.first], dtype=torch.float64)
        return self.rates.state_dict() | {"temperature": held}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take them up."""
        self.rates.load_state_dict(state)
        self.controller.value, self.controller.first = state["temperature"].tolist()
        self.temperature = self.controller.value
