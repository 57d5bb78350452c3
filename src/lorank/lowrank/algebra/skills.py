r"""PSEC: a library of skills, each a LoRA, composed in parameter space by weights that depend on the context.

    W(c) = W + sum_i alpha_i(c) s_i B_i A_i,    alpha = context network (c)

A skill is learned once and put into the library; adding another changes none of those before. The weights are
given by hand, learned as constants, or come from a context network that reads what describes the input (a query
embedding, a domain's features); then each input of a batch has weights of its own.

Liu et al., Skill Expansion and Composition in Parameter Space, 2025, arXiv:2502.05932.

*Deviations*: the paper's context modules give each layer its own weights; here they hold for all layers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.algebra.factors import total
from lorank.lowrank.algebra.sets import FactorSet
from lorank.lowrank.algebra.stacked import gated, repeat_weights, stack_sets
from lorank.lowrank.forms.form import Factors


@catalogued(
    "psec",
    area="adapters.merge",
    title="Skill Expansion and Composition in Parameter Space",
    reach="Python alone: a library of skills is composed and searched by the caller's own function",
)
class SkillLibrary:
    """Skills by name, in the order in which they were added.

    >>> library = SkillLibrary()
    >>> library.add("sorting", {"layer": Factors(torch.ones(1, 2), torch.ones(2, 1), 2.0)})
    >>> library.compose([0.5])["layer"].B.flatten().tolist()
    [1.0, 1.0]
    """

    def __init__(self) -> None:
        self.skills: dict[str, FactorSet] = {}
        self._weights: Tensor | None = None

    def add(self, name: str, factors: FactorSet) -> None:
        """Put a skill into the library under a new ``name``; the tensors are kept as they are."""
        if name in self.skills:
            raise UsageError(f"the library has a skill called {name!r}; choose another name")
        known = next(iter(self.skills.values()), factors)
        if known.keys() != factors.keys():
            raise UsageError(f"skill {name!r} adapts other layers than the library's; train it on the same ones")
        self.skills[name] = factors

    def compose(self, weights: Tensor | list[float] | Mapping[str, float]) -> dict[str, Factors]:
        """Return sum_i alpha_i dW_i of every layer as factors, exactly.

        Args:
            weights: alpha [n] in the library's order, or by name (others count 0).
        """
        if isinstance(weights, Mapping):
            unknown = weights.keys() - self.skills.keys()
            if unknown:
                raise UsageError(f"no skill called {sorted(unknown)[0]!r}; there are {sorted(self.skills)}")
            weights = [weights.get(name, 0.0) for name in self.skills]
        values = [float(value) for value in weights]
        if len(values) != len(self.skills):
            raise UsageError(f"{len(values)} weights do not fit {len(self.skills)} skills")
        sets = list(self.skills.values())
        return {path: total([own[path] for own in sets], values) for path in sets[0]}

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[nn.Module]:
        """Within it ``model`` computes with the weights that ``weigh`` was given last; 0 before that."""
        sets = list(self.skills.values())
        stacked = stack_sets(sets)
        sizes = {path: [len(own[path].A) for own in sets] for path in stacked}
        self._weights = next(iter(stacked.values())).A.new_zeros(len(sets))

        def gates(path: str) -> Tensor:
            assert self._weights is not None
            return repeat_weights(self._weights, sizes[path])

        with gated(model, stacked, gates):
            yield model

    def weigh(self, weights: Tensor) -> None:
        """Set alpha for the next forward passes: [n] for all inputs, or [batch, n] for each; gradients flow."""
        if weights.shape[-1] != len(self.skills):
            raise UsageError(f"{weights.shape[-1]} weights do not fit {len(self.skills)} skills")
        self._weights = weights


class Context(nn.Module):
    """A small network from a context [..., features] to the weights of skills [..., n], all 1 / n at first.

    >>> Context(4, 2, torch.Generator().manual_seed(0))(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(self, features: int, skills: int, generator: torch.Generator, hidden: int = 32) -> None:
        super().__init__()
        draw = torch.empty(hidden, features).uniform_(-1, 1, generator=generator) / max(features, 1) ** 0.5
        self.inner = nn.Linear(features, hidden)
        self.outer = nn.Linear(hidden, skills)
        with torch.no_grad():
            self.inner.weight.copy_(draw)
            self.inner.bias.zero_()
            self.outer.weight.zero_()
            self.outer.bias.fill_(1 / skills)

    def forward(self, context: Tensor) -> Tensor:
        """Return the weights."""
        weights: Tensor = self.outer(torch.relu(self.inner(context)))
        return weights
