r"""ALLoRA: each output row of the adapter learns at a rate that falls with the row's norm.

    dL/d(BA)_i  is multiplied by  1 / sqrt(||(BA)_i|| + 1 / eta^2)

on its way into A and B; what flows on to the input is not changed. At B = 0 the factor is eta. There is no
dropout and no alpha: the update is B A. The row norms come from r x r: ||(BA)_i||^2 = B_i (A A^T) B_i^T.

Huang, Balestriero, ALLoRA: Adaptive Learning Rate Mitigates LoRA Fatal Flaws, 2024, arXiv:2410.09692.

*Deviations*: none known. Adam divides a constant factor out of B's gradient again, so under ``inner="adamw"`` the
factor acts through its changes and through the mixture of rows in A's gradient; under ``"sgd"`` it is the rate.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from lorank.catalogue import catalogued
from lorank.errors import UsageError, unknown_name
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.rules.rule import Groups, Losses, Rates, Rule, needed_pairs, rule


@rule("allora")
@catalogued("allora", area="adapters.optim", title="ALLoRA: Adaptive Learning Rate Mitigates LoRA Fatal Flaws")
@dataclass
class ALLoRA(Rule):
    """Row-wise rates below ``eta``, then AdamW, or plain gradient descent with ``inner="sgd"``.

    State: ``2 * r * (out + width)`` values a pair, ``0`` with ``inner="sgd"``.
    """

    lr = 0.001
    eta: float = 4.0
    inner: Literal["adamw", "sgd"] = "adamw"

    def __post_init__(self) -> None:
        if not self.eta > 0:
            raise UsageError(f"eta {self.eta!r} is not above 0")
        if self.inner not in ("adamw", "sgd"):
            raise unknown_name("inner optimizer", self.inner, ("adamw", "sgd"))

    def optimizer(self, groups: Groups, adapter: Adapter, rates: Rates) -> torch.optim.Optimizer:
        needed_pairs(adapter, "allora")
        for path, form in adapter.forms.items():
            if type(form) is not LoRA or form.dropout or (form.rank and form.scaling != 1):
                raise UsageError(
                    f"allora has neither alpha nor dropout, and {path} is a {type(form).__name__} with scale "
                    f"{form.scaling:g} and dropout {form.dropout:g}; use adapter 'lora' and leave both out"
                )
        if self.inner == "sgd":
            return torch.optim.SGD(groups, lr=rates.lr, weight_decay=rates.weight_decay)
        return torch.optim.AdamW(groups, **rates.defaults())

    def begin(self, adapter: Adapter, optimizer: torch.optim.Optimizer, steps: int, losses: Losses | None) -> None:
        """Set the cap of the row rates on every LoRA of the adapter.

        Args:
            adapter: The adapter whose forms receive the cap.
            optimizer: It is not used.
            steps: It is not used.
            losses: It is not used.
        """
        for form in adapter.forms.values():
            if isinstance(form, LoRA):
                form.row_cap = self.eta
