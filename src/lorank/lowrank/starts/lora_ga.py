r"""LoRA-GA: the factors start in the gradient's principal directions, and the frozen part takes them back.

    G ~ U diag(sigma) V^T    A = c V[:, :r]^T,  B = c U[:, r:2r],  c = out^(1/4) / sqrt(gamma)    dW = s (B A - B0 A0)

so that the first step of the factors is near the best rank-2r approximation of a full step. G [out, in] is the
layer's mean gradient, ``statistics["gradient"]``; gamma = 16. W stays what it was, as with ``svd``. Where 2 r is
above min(in, out), r is half of that, and the components beyond keep the form's own A with B = 0.

Wang, Yu and Li, LoRA-GA: Low-Rank Adaptation with Gradient Approximation, 2024, arXiv:2407.05000.

*Deviations*: PEFT also multiplies B by the singular values; the paper and its code scale both factors alike.
"""

from lorank.catalogue import catalogued
from lorank.lowrank.forms.form import Form, Site
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.starts.start import Start, Statistics, start


@start("lora-ga")
@catalogued(
    "lora-ga",
    area="adapters.init",
    title="LoRA-GA: Low-Rank Adaptation with Gradient Approximation",
)
class LoRAGA(Start):
    """Fills LoRA factors with the gradient's first 2 r directions and takes their product out of W.

    Args:
        gamma: the paper's scale of the start, above 0.
    """

    lr = 0.0005
    needs = frozenset({"gradient"})

    def __init__(self, gamma: float = 16.0) -> None:
        self.gamma = gamma

    def suits(self, form: type[Form]) -> bool:
        return issubclass(form, LoRA)

    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        assert isinstance(form, LoRA)
        r = min(site.rank, min(site.base.weight.shape) // 2)
        if not r:
            return
        U, _, Vh = top_k_svd(statistics["gradient"], 2 * r)
        scale = site.base.out_features**0.25 / self.gamma**0.5
        form.set_factors(scale * Vh[:r], scale * U[:, r:])
        form.anchor()
