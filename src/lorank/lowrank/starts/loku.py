r"""LoKU: the factors start at the part of W that matters for what is to be forgotten, not for what is retained.

    D = diag(d),  d_o = sqrt(F_forget,o / F_retain,o)    D W ~ U diag(sigma) V^T (top r)
    s B = D^-1 U sqrt(sigma) sqrt(s)    A = sqrt(sigma / s) V^T    W_res = W - s B A

F_forget and F_retain [out] are sums over a row of the Fisher information of W: the mean squared gradient of the
loss on data to forget, ``statistics["fisher_forget"]`` [out, in], and on data to retain, ``"fisher_retain"``.
The factors are the best low-rank approximation of W under the row weights d, so their span is where forgetting
costs little. W_res is kept as in ``svd``: the model starts unchanged and W is not written to.

The loss that goes with it is `lorank.ranking.losses.inverted_hinge`. In a training run what is to be forgotten are the
training lists, and what is to be retained the dev lists, which also decide which weights are kept.

Cha et al., Towards Robust and Parameter-Efficient Knowledge Unlearning for LLMs, 2024, arXiv:2408.06621.

*Deviations*: the row weights are kept within 1e-4 and 1e4 of their median, so that rows without information do
not blow up D^-1.
"""

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.forms.form import Form, Site
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.starts.start import Start, Statistics, start


def row_weights(forget: Tensor, retain: Tensor) -> Tensor:
    """Return d [out] from Fisher information [out, in] on either kind of data.

    >>> row_weights(torch.tensor([[4.0, 4.0], [1.0, 1.0]]), torch.ones(2, 2)).tolist()
    [2.0, 1.0]
    """
    forget, retain = forget.double().sum(1), retain.double().sum(1)
    tiny = torch.finfo(torch.float64).tiny
    ratio = (forget.clamp_min(tiny) / retain.clamp_min(tiny)).sqrt()
    median = ratio.median().clamp(1e-6, 1e6)
    return ratio.clamp(1e-4 * median, 1e4 * median)


@start("loku")
@catalogued(
    "loku",
    area="adapters.merge",
    title="Towards Robust and Parameter-Efficient Knowledge Unlearning for LLMs",
)
class LoKU(Start):
    """Fills LoRA factors with W's principal part under the Fisher row weights, and takes it out of W."""

    needs = frozenset({"fisher_forget", "fisher_retain"})

    def suits(self, form: type[Form]) -> bool:
        return issubclass(form, LoRA)

    @torch.no_grad()
    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        assert isinstance(form, LoRA)
        if not site.rank or not site.scaling:
            return
        d = row_weights(statistics["fisher_forget"], statistics["fisher_retain"]).unsqueeze(1)
        U, sigma, Vh = top_k_svd(d * site.base.weight.double(), site.rank)
        root = (sigma / site.scaling).sqrt()
        form.set_factors(root[:, None] * Vh, U * root / d)
        form.anchor()
