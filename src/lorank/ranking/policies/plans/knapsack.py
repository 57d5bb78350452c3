r"""Knapsack: the step's replies go where they are likely to differ in reward.

    V(N, p) = (1 - p^N - (1 - p)^N) p (1 - p)^2,   maximise \sum_i V(N_i, p_i) subject to \sum_i N_i = B, N_i \ge 1

The first factor is the chance that N replies earn different rewards, without which there is no gradient; the second is
how much a step of the success rate p teaches. The gain of one more reply, (p^N (1 - p) + p (1 - p)^N) p (1 - p)^2,
falls with N, so giving each reply to the prompt where it gains most is the optimum.

Paper: Z. Li et al., Knapsack RL: Unlocking Exploration of LLMs via Optimizing Budget Allocation, 2025,
arXiv:2509.25849.

*Deviations*: p is the rate of the last time that the prompt was asked, smoothed by a Beta(1, 1) prior: rates of exactly
0 or 1 would have no value for ever, where the paper falls back to a rule of its own.
"""

import heapq
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.policies.plans.registry import Draw, Kept, SamplingPlan, sampling_plan
from lorank.ranking.policies.plans.success import SuccessRates


def rollout_value(count: int, rate: float) -> float:
    """Return V(N, p).

    >>> rollout_value(1, 0.5), rollout_value(2, 0.5)
    (0.0, 0.0625)
    """
    return (1 - rate**count - (1 - rate) ** count) * rate * (1 - rate) ** 2


def allocate(rates: Sequence[float], budget: int, most: int | None = None) -> list[int]:
    """Return how many replies each prompt gets, whose sum is ``budget``.

    Args:
        rates: p of each prompt, from 0 to 1.
        budget: B, at least one reply per prompt.
        most: The most replies of one prompt; None sets no bound.

    Raises:
        UsageError: Where the budget is below one reply per prompt, or above ``most`` for each.

    >>> allocate([0.5, 0.99, 0.25], 9)
    [4, 1, 4]
    """
    if budget < len(rates) or (most is not None and budget > most * len(rates)):
        raise UsageError(f"{budget} replies for {len(rates)} prompts, each at least 1 and at most {most}")
    counts = [1] * len(rates)

    def entry(i: int) -> tuple[float, int]:
        return rollout_value(counts[i], rates[i]) - rollout_value(counts[i] + 1, rates[i]), i

    heap = [entry(i) for i in range(len(rates)) if most is None or most > 1]
    heapq.heapify(heap)
    for _ in range(budget - len(rates)):
        _, i = heapq.heappop(heap)
        counts[i] += 1
        if most is None or counts[i] < most:
            heapq.heappush(heap, entry(i))
    return counts


@sampling_plan("knapsack")
class Knapsack(SamplingPlan):
    """Share ``samples`` replies per prompt among the prompts of a step by the value that they are likely to have.

    Args:
        samples: Replies per prompt on average.
        most: The most replies of one prompt, a multiple of ``samples``.
    """

    def __init__(self, samples: int, *, most: float = 4.0) -> None:
        super().__init__(samples)
        if not most >= 1:
            raise UsageError(f"most must be 1 or above, in multiples of samples; got {most}")
        self.most, self.rates = most, SuccessRates()

    def sample(self, prompts: Sequence[int], draw: Draw, generator: torch.Generator) -> Kept:
        """Allocate by the rates that are known, draw once, and learn the rates.

        Args:
            prompts: A number for each prompt of the step.
            draw: Draws a reply for each place, and returns their rewards.
            generator: Not used.
        """
        most = max(self.samples, int(self.most * self.samples))
        counts = allocate(self.rates.of(prompts).tolist(), self.samples * len(prompts), most)
        places = [place for place, count in enumerate(counts) for _ in range(count)]
        self.rates.record([prompts[place] for place in places], draw(places))
        return Kept(list(range(len(places))))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the success rates."""
        return self.rates.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up the success rates."""
        self.rates.load_state_dict(state)
