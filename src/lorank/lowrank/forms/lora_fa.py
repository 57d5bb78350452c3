r"""LoRA-FA: LoRA with A frozen at its draw.

    dW = s B A,    A [r, in] random and frozen, B [out, r] trained

Of a layer's activations the backward pass needs x A^T [..., r] alone. A is saved beside B, as the folder of a
plain LoRA, which it is. Trained values: r out. Rank of dW: min(r, in, out).

Zhang et al., LoRA-FA: Memory-efficient Low-rank Adaptation for Large Language Models Fine-tuning, 2023,
arXiv:2308.03303.

*Deviations*: the paper draws A from a normal distribution; here it is LoRA's uniform draw.
"""

from lorank.catalogue import catalogued
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.forms.lora import LoRA


@form("lora-fa")
@catalogued(
    "lora-fa",
    area="adapters.form",
    title="LoRA-FA: Memory-efficient Low-rank Adaptation for Large Language Models Fine-tuning",
)
class LoRAFA(LoRA):
    """A LoRA whose A is frozen.

    >>> from torch import nn; from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "lora-fa", rank=1).num_parameters()
    2
    """

    lr = 0.01
    trains_A = False

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        A = self.A.detach()
        del self.A
        self.register_buffer("A", A)

    def parameter_count(self) -> int:
        return self.rank * self.out_features

    def rank_bound(self) -> int:
        return min(self.rank, self.in_features, self.out_features)
