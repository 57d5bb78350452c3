"""The ranker as it was before training, kept beside the one that learns."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from lorank.lowrank import Adapter
from lorank.lowrank.compression import Compression


class Beginning:
    """What is trained whole, as it was when this was made, and the adapter that can be switched off.

    ``trained`` are all parameters that training changes; those that belong to the adapter's updates are left alone.
    Layers of ``compression`` compute as they did, too.
    """

    def __init__(
        self, trained: Sequence[nn.Parameter], adapter: Adapter | None, compression: Compression | None = None
    ) -> None:
        updates = set() if adapter is None else {id(p) for f in adapter.forms.values() for p in f.parameters()}
        self.compression = compression
        self.adapter, self.whole = adapter, [p for p in trained if id(p) not in updates]
        self.began = [p.detach().clone() for p in self.whole]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Within it the ranker computes as it did then."""
        now = [p.detach().clone() for p in self.whole]
        self._put(self.began)
        try:
            with (
                nullcontext() if self.adapter is None else self.adapter.disabled(),
                nullcontext() if self.compression is None else self.compression.original(),
            ):
                yield
        finally:
            self._put(now)

    def put_back(self) -> None:
        """Give what is trained whole the values that it had then."""
        self._put(self.began)

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.whole, values, strict=True):
            parameter.copy_(value)
