r"""SVD (PiSSA): the factors start at the principal part of W, and the frozen part keeps the rest.

    W ~ U diag(sigma) V^T (top r)    s B = U sqrt(sigma) sqrt(s)    A = sqrt(sigma / s) V^T    W_res = W - s B A

The residual is not written into W: the form keeps the starting factors as constants, dW = s (B A - B0 A0), so
that the model's own weights stay what they were, and export is against them. The output at the start is the
base's up to rounding. Components beyond min(in, out) keep the form's own A with B = 0.

Meng, Wang and Zhang, PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language
Models, 2024, arXiv:2404.02948.

*Deviations*: none in the mathematics; the published code overwrites W by W_res.
"""

from lorank.catalogue import catalogued
from lorank.lowrank.forms.form import Form, Site
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.starts.start import Start, Statistics, start


@start("svd")
@catalogued(
    "pissa",
    area="adapters.init",
    title="PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models",
)
class Principal(Start):
    """Fills LoRA factors with the top singular triplets of W and takes their product out of W."""

    def suits(self, form: type[Form]) -> bool:
        return issubclass(form, LoRA)

    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        assert isinstance(form, LoRA)
        if not site.rank or not site.scaling:
            return
        U, sigma, Vh = top_k_svd(site.base.weight, site.rank)
        root = (sigma / site.scaling).sqrt()
        form.set_factors(root[:, None] * Vh, U * root)
        form.anchor()
