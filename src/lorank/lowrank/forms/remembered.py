"""A value that is computed from tensors and kept until one of them changes: row norms in evaluation."""

import zlib
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Key = tuple[tuple[object, ...], ...]

WHOLE, SAMPLE = 1 << 16, 1 << 12
"""Tensors of up to ``WHOLE`` values are compared value by value, of larger ones ``SAMPLE`` values."""


class Remembered(Generic[T]):
    """Keeps the last value and what it was computed from.

    A change shows in a tensor's version counter, its memory, shape or dtype. Writes through ``.data`` leave the
    counter alone, so on the CPU the values are compared as well, of large tensors a sample. Nothing is kept of
    tensors without a counter, which ``torch.inference_mode`` makes, nor in a compiled graph; a copy starts empty.

    >>> kept, x = Remembered(), torch.ones(2)
    >>> kept.of([x], lambda: x.sum().item()), kept.of([x], lambda: -1), kept.of([x.mul_(2)], lambda: x.sum().item())
    (2.0, 2.0, 4.0)
    """

    def __init__(self) -> None:
        self._kept: tuple[Key, list[Tensor], T] | None = None

    def of(self, tensors: Iterable[Tensor], make: Callable[[], T]) -> T:
        """Return what ``make`` gave when it was last called on these values of ``tensors``, or call it.

        What it gives is a constant: no gradient flows through it.
        """
        tensors = list(tensors)
        if torch.compiler.is_compiling() or any(tensor.is_inference() for tensor in tensors):
            with torch.no_grad():
                return make()
        key, kept = tuple(map(_state, tensors)), self._kept
        if kept is None or kept[0] != key:
            with torch.inference_mode(False), torch.no_grad():
                # The memory of small tensors is held, so that no other tensor can lie where one of them lay.
                held = [tensor.detach() for tensor in tensors if tensor.numel() <= WHOLE]
                kept = self._kept = (key, held, make())
        return kept[2]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Remembered[T]":
        return type(self)()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()


def _state(tensor: Tensor) -> tuple[object, ...]:
    state = (tensor.data_ptr(), tensor._version, tuple(tensor.shape), tensor.dtype, tensor.device)
    return (*state, _checksum(tensor.detach())) if tensor.device.type == "cpu" else state


def _checksum(tensor: Tensor) -> int:
    if tensor.numel() > WHOLE and tensor.is_contiguous():
        tensor = tensor.view(-1)[:: tensor.numel() // SAMPLE]
    return zlib.crc32(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
