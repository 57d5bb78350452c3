r"""Smoothed sensitivity: what a loss would change by, to first order, if a value were removed.

    I = |p * dL/dp|    Ibar <- beta1 Ibar + (1 - beta1) I    U <- beta2 U + (1 - beta2) |I - Ibar|    score = Ibar U

and a component's score is that of its gate plus the means of its a_i's and b_i's. Without ``uncertain`` the score is
Ibar. Gradients are those of the last backward pass: ``hold`` keeps them past the optimizer's step.

Zhang et al., Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, 2023, arXiv:2303.10512.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.lowrank.forms.gated import Gated

PARTS = ("A", "B", "gate")


class Sensitivity:
    """Running sensitivity of every value of gated forms.

    Args:
        forms: by layer path.
        beta1: weight of the past in Ibar.
        beta2: weight of the past in U.
        uncertain: whether scores are Ibar U, or Ibar.
    """

    def __init__(
        self, forms: Mapping[str, Gated], beta1: float = 0.85, beta2: float = 0.85, uncertain: bool = True
    ) -> None:
        self.forms, self.beta1, self.beta2, self.uncertain = forms, beta1, beta2, uncertain
        kinds = ("mean", "spread") if uncertain else ("mean",)
        self.tensors = {
            f"{path}.{part}.{kind}": torch.zeros_like(getattr(form, part), requires_grad=False)
            for path, form in forms.items()
            for part in PARTS
            for kind in kinds
        }
        self._gradients: dict[str, Tensor] = {}

    def hold(self) -> None:
        """Keep the gradients that are there now."""
        self._gradients = {
            f"{path}.{part}": getattr(form, part).grad
            for path, form in self.forms.items()
            for part in PARTS
            if getattr(form, part).grad is not None
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take the held gradients, and the values as they are now, into the running means."""
        names = list(self._gradients)
        values = [getattr(self.forms[name.rpartition(".")[0]], name.rpartition(".")[2]) for name in names]
        if not names:
            return
        now = torch._foreach_mul(values, list(self._gradients.values()))
        torch._foreach_abs_(now)
        means = [self.tensors[f"{name}.mean"] for name in names]
        torch._foreach_lerp_(means, now, 1 - self.beta1)
        if self.uncertain:
            torch._foreach_sub_(now, means)
            torch._foreach_abs_(now)
            torch._foreach_lerp_([self.tensors[f"{name}.spread"] for name in names], now, 1 - self.beta2)
        self._gradients = {}

    def scores(self) -> dict[str, Tensor]:
        """Return a score [R] of each layer's components."""
        return {
            path: self._part(path, "gate") + self._part(path, "A").mean(1) + self._part(path, "B").mean(0)
            for path in self.forms
        }

    def _part(self, path: str, part: str) -> Tensor:
        mean = self.tensors[f"{path}.{part}.mean"]
        return mean * self.tensors[f"{path}.{part}.spread"] if self.uncertain else mean

    @torch.no_grad()
    def forget(self, path: str, index: int) -> None:
        """Start anew with component ``index`` of a layer, which was replaced."""
        for name, tensor in self.tensors.items():
            owner, part, _ = name.rsplit(".", 2)
            if owner == path:
                (tensor[:, index] if part == "B" else tensor[index]).zero_()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back ``tensors``."""
        for name, tensor in self.tensors.items():
            tensor.copy_(state[name])
