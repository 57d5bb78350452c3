r"""OLoRA: the factors start at a QR decomposition of W, and the frozen part keeps the rest.

    W = Q R    B = Q[:, :r],  A = R[:r],    dW = s (B A - B0 A0)

B has orthonormal columns. As with ``svd``, W itself stays what it was: the form keeps the starting factors as
constants. Components beyond min(in, out) keep the form's own A with B = 0.

Bueyuekakyuez, OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models, 2024, arXiv:2406.01775.
"""

import torch

from lorank.catalogue import catalogued
from lorank.lowrank.forms.form import Form, Site
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.linalg import working_dtype
from lorank.lowrank.starts.start import Start, Statistics, start


@start("olora")
@catalogued(
    "olora",
    area="adapters.init",
    title="OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models",
)
class OLoRA(Start):
    """Fills LoRA factors with the leading part of W = Q R and takes their product out of W."""

    def suits(self, form: type[Form]) -> bool:
        return issubclass(form, LoRA)

    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        assert isinstance(form, LoRA)
        if not site.rank:
            return
        weight = site.base.weight.detach()
        Q, R = torch.linalg.qr(weight.to(working_dtype(weight)))
        form.set_factors(R[: site.rank], Q[:, : site.rank])
        form.anchor()
