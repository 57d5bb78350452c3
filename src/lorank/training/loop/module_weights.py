"""The tensors of a module that a run trains and saves, where no adapter is between the loop and the module."""

from typing import Any

import torch
from torch import Tensor, nn


class ModuleWeights:
    """The parameters that ask for a gradient, as the training loop steps, saves and takes them back.

    Args:
        module: The module that is trained.
    """

    adapter = None

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds, by name, shared tensors once."""
        return {name: value for name, value in self.module.named_parameters() if value.requires_grad}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters as groups of an optimizer."""
        return [{"params": list(self.tensors().values())}]

    def set_training_mode(self) -> None:
        """Switch dropout on."""
        self.module.train()

    def advance(self, step: int, steps: int) -> None:
        """Do nothing: no tensor follows a schedule."""

    def state(self) -> dict[str, Tensor]:
        """Return copies of the tensors by name."""
        return {name: value.detach().clone() for name, value in self.tensors().items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        for name, value in self.tensors().items():
            value.copy_(state[name])
