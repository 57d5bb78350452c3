"""Forms that PEFT has too, under its type LORA: they are saved under PEFT's names, so that both sides load them."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from lorank.lowrank.forms.form import Form


class PeftForm(Form):
    """A form whose tensors have names in PEFT's adapter files; any other is saved under its own names."""

    peft_options: ClassVar[dict[str, object]] = {}
    """What PEFT's configuration says for this form beyond its type, rank and scale."""

    @abstractmethod
    def peft_tensors(self) -> dict[str, Tensor]:
        """Return this form's tensors under PEFT's names."""

    @abstractmethod
    def load_peft_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy in what ``peft_tensors`` gave; ValueError where shapes do not fit."""
