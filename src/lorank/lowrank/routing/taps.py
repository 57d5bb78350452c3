r"""TAPS: a task changes a layer of its own, or shares the base's.

    W_task = W0 + I(c >= tau) s B A,    I' = 1 (straight-through),    penalty = lambda mean over layers of |c|

One score c a layer. Trained, the penalty draws scores below tau where a change of the layer is not worth it; such a
layer is shared by all tasks and need not be stored. A task is an adapter; several lie on one base under their names.
Zero start: B = 0, c = 1. Trained values: r (in + out) + 1. Rank of dW: min(r, in, out), or 0.

Wallingford, Li, Achille, Ravichandran, Fowlkes, Bhotika, Soatto, Task Adaptive Parameter Sharing for Multi-Task
Learning, 2022, arXiv:2203.16708.

*Deviations*: the paper's change of a layer is a whole weight; here it is of low rank.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Factors, Site, form


@form("taps")
@catalogued("taps", area="adapters.moe", title="Task Adaptive Parameter Sharing for Multi-Task Learning")
class TAPS(Factored):
    """A LoRA that is on while its ``score`` is at least ``threshold``; ``sparsity`` is lambda.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "taps", rank=1).num_parameters()
    6
    """

    lr = 0.001

    def __init__(self, site: Site, threshold: float = 0.1, sparsity: float = 0.01) -> None:
        super().__init__(site)
        if not (threshold > 0 and sparsity >= 0):
            raise UsageError(f"threshold {threshold!r} must be above 0 and sparsity {sparsity!r} from 0 up")
        self.threshold, self.sparsity, self.layers = threshold, sparsity, 1
        bound, like = self.in_features**-0.5, site.like
        A = torch.empty(site.rank, self.in_features).uniform_(-bound, bound, generator=site.generator("A"))
        self.A, self.B = nn.Parameter(A.to(**like)), nn.Parameter(torch.zeros(self.out_features, site.rank, **like))
        self.score = nn.Parameter(torch.ones((), **like))

    @classmethod
    def build(cls, sites: list[Site], **options: float) -> "list[TAPS]":
        forms = [cls(site, **options) for site in sites]
        for each in forms:
            each.layers = len(forms)
        return forms

    @property
    def active(self) -> bool:
        """Whether the layer is the task's own."""
        return self.score.item() >= self.threshold

    def indicator(self) -> Tensor:
        """Return I(c >= tau) with the gradient of c."""
        return self.score + ((self.score >= self.threshold).to(self.score) - self.score).detach()

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.A, self.B * self.indicator()

    def penalty(self) -> Tensor | None:
        return self.sparsity * self.score.abs() / self.layers

    def as_lora(self) -> Factors:
        on = slice(None) if self.active else slice(0)
        return Factors(self.A.detach()[on], self.B.detach()[:, on], self.scaling)

    def parameter_count(self) -> int:
        return self.rank * (self.in_features + self.out_features) + 1

    def rank_bound(self) -> int:
        return min(self.rank, self.in_features, self.out_features) if self.active else 0


def own_layers(adapter: Adapter) -> list[str]:
    """Return the layers that are the task's own."""
    return [path for path, form in adapter.forms.items() if isinstance(form, TAPS) and form.active]


def stored_parameters(adapter: Adapter) -> int:
    """Return how many values of the updates a task must store: those of its own layers."""
    return sum(f.A.numel() + f.B.numel() for f in adapter.forms.values() if isinstance(f, TAPS) and f.active)
