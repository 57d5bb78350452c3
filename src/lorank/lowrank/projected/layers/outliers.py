r"""OwLore's layers: a few train at a time, drawn with the probability of their outliers.

    p_l = o_l / sum_k o_k,   o_l: the share of entries with |W| > M mean|W| over the matrices of layer l

Every ``interval`` steps ``active`` layers are drawn without replacement. All others take no gradient and keep no
state: theirs is freed when they come to rest. What belongs to no numbered block (embeddings, heads) always trains.

Li, Yin, Gao, Liu, OwLore: Outlier-weighed Layerwise Sampled Low-Rank Projection for Memory-Efficient LLM Fine-tuning,
2024, arXiv:2405.18380.

*Deviations*: the probabilities are taken from the weights at each draw, where the published code reads a table; states
of resting layers are dropped, which the published code keeps; a layer begins with a new projector, so that its
refreshes do not wait for a count that it never reaches.
"""

import torch
from torch import Tensor, nn

from lorank.lowrank.projected.layers.layers import LAYERS, Layers, States
from lorank.lowrank.projected.registry import entry
from lorank.lowrank.projected.seeds import generator_of

CLOCK = "clock"
"""The count of all steps, kept in the state of what trains."""


@entry(LAYERS, "outliers")
class OutlierSampled(Layers):
    """Layers drawn by their outliers."""

    steps = 0

    def begin(self, states: States) -> None:
        self._draw(states)

    def resume(self, states: States) -> None:
        """Let the layers train that have a state, as they did when it was saved."""
        clocks = [int(state[CLOCK]) for state in states.values() if CLOCK in state]
        self.steps = max(clocks, default=0)
        for layer in self.layers:
            trains = any(CLOCK in states.get(parameter, {}) for parameter in layer.parameters)
            for parameter in layer.parameters:
                parameter.requires_grad_(trains)

    def after_step(self, states: States) -> None:
        self.steps += 1
        if self.steps % self.options.interval == 0:
            self._draw(states)
        self._mark(states)

    def count(self) -> int:
        """Return how many layers train at a time."""
        total = len(self.layers)
        return min(total, self.options.active or max(2, round(5 / 32 * total)))

    def _draw(self, states: States) -> None:
        generator = generator_of(self.seed, -1, self.steps // self.options.interval)
        chosen: set[int] = set()
        if self.layers:
            weights = self.probabilities().clamp_min(1e-9)
            chosen = set(torch.multinomial(weights, self.count(), generator=generator).tolist())
        for place, layer in enumerate(self.layers):
            for parameter in layer.parameters:
                parameter.requires_grad_(place in chosen)
                if place not in chosen:
                    states.pop(parameter, None)
                    parameter.grad = None
        self._mark(states)

    def _mark(self, states: States) -> None:
        for layer in self.layers:
            for parameter in layer.parameters:
                if parameter.requires_grad:
                    states.setdefault(parameter, {})[CLOCK] = torch.tensor(self.steps)

    def probabilities(self) -> Tensor:
        """Return p [layers]; all alike where no layer has outliers."""
        ratios = torch.tensor([outlier_ratio(layer.matrices, self.options.outlier) for layer in self.layers])
        total = ratios.sum()
        return ratios / total if total > 0 else torch.full_like(ratios, 1 / max(len(ratios), 1))


@torch.no_grad()
def outlier_ratio(matrices: list[nn.Parameter], multiple: float) -> float:
    """Return the share of entries above ``multiple`` times the mean magnitude of their matrix.

    >>> round(outlier_ratio([nn.Parameter(torch.tensor([[1.0, 1.0, 1.0, 9.0]]))], 2.0), 2)
    0.25
    """
    sizes = [matrix.detach().abs() for matrix in matrices]
    count = sum(int((size > multiple * size.float().mean()).sum()) for size in sizes)
    return count / max(sum(size.numel() for size in sizes), 1)
