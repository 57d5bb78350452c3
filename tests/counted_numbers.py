"""How many numbers operations of torch read and write: a measure of work and memory that no clock enters."""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class CountedNumbers(TorchDispatchMode):
    """Within it ``touched`` is what all operations read and write, ``largest`` the most that one tensor holds."""

    def __init__(self) -> None:
        super().__init__()
        self.touched = self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [each.numel() for each in tree_leaves((args, kwargs, made)) if isinstance(each, Tensor)]
        self.touched += sum(sizes)
        self.largest = max([self.largest, *sizes])
        return made
