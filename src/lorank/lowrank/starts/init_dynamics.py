r"""Init[A] and Init[B]: which factor of a LoRA starts random.

    init-a    A ~ U with variance 1 / (3 in),  B = 0        (LoRA's own start)
    init-b    B ~ U with variance 1 / (3 r),   A = 0

Both start at dW = 0. A step of gradient descent from Init[A] moves the output by eta |A x|^2, which does not
grow with the width, from Init[B] by eta |B|^2 |x|^2, which does: Init[A] bears the larger learning rate.

Hayou, Ghosh and Yu, The Impact of Initialization on LoRA Finetuning Dynamics, 2024, arXiv:2406.08447.
"""

import torch

from lorank.catalogue import catalogued
from lorank.lowrank.forms.basis import draw_uniform
from lorank.lowrank.forms.form import Form, Site
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.starts.start import Start, Statistics, start


@start("init-a")
class InitA(Start):
    """Leaves A at its random draw and B at 0."""

    def suits(self, form: type[Form]) -> bool:
        return form is LoRA

    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        pass


@start("init-b")
@catalogued(
    "lora-init-dynamics",
    area="adapters.init",
    title="The Impact of Initialization on LoRA Finetuning Dynamics",
)
class InitB(Start):
    """Draws B and sets A to 0."""

    lr = 0.0005

    def suits(self, form: type[Form]) -> bool:
        return form is LoRA

    @torch.no_grad()
    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        assert isinstance(form, LoRA)
        form.A.zero_()
        form.B.copy_(draw_uniform((site.base.out_features, site.rank), site.generator("B")))
