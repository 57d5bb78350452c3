r"""LoRA-SB: the factors start at the best low-rank approximation of the first full fine-tuning step.

    D = -eta sign(G) ~ U_r diag(sigma_r) V_r^T    B = U_r,  R = diag(sigma_r),  A = V_r^T    dW = B R A

G [out, in] is the layer's mean gradient over the calibration batches, ``statistics["gradient"]``; -eta sign(G)
is Adam's first step. W keeps its place: the model starts one low-rank step away from it.

Ponkshe et al., Initialization using Update Approximation is a Silver Bullet for Extremely Efficient Low-Rank
Fine-Tuning, 2024, arXiv:2411.19557.

*Deviations*: the published code decomposes at random in low precision and casts to bf16; here the
decomposition is exact and the factors stay in float32.
"""

import torch

from lorank.catalogue import catalogued
from lorank.lowrank.forms.form import Form, Site
from lorank.lowrank.forms.lora_core import CoreLoRA
from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.starts.start import Start, Statistics, start


@start("lora-sb")
@catalogued(
    "lora-sb",
    area="adapters.init",
    title="Initialization using Update Approximation is a Silver Bullet for Extremely Efficient Low-Rank Fine-Tuning",
)
class LoRASB(Start):
    """Fills B R A with the first step's principal part.

    Args:
        step: eta; the learning rate over the number of warm-up steps in the paper's settings.
    """

    lr = 0.001
    needs = frozenset({"gradient"})
    keeps_output = False

    def __init__(self, step: float = 1e-4) -> None:
        self.step = step

    def suits(self, form: type[Form]) -> bool:
        return issubclass(form, CoreLoRA)

    @torch.no_grad()
    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        assert isinstance(form, CoreLoRA)
        U, sigma, Vh = top_k_svd(-self.step * statistics["gradient"].to(torch.float64).sign(), site.rank)
        form.B.copy_(U)
        form.A.copy_(Vh)
        form.R.copy_(torch.diag(sigma))
