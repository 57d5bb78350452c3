r"""Embeddings and convolutions with updates: both are linear in their weight, and compute with W + dW.

    embedding      e(t) = W o_t + dW o_t       the row of token t of the table, and the row of dW^T
    convolution    conv(x, W) + conv(x, dW) = conv(x, W + dW)

A LoRA of an embedding looks its rows of A^T up and multiplies them with B^T; forms with no thin factors write dW once
per call. A convolution is one convolution with W + dW in float32 and better, and two in half precision, where the sum
would round the update away. A class with a ``forward`` of its own (Gemma's scaled table) runs it on W + dW.

Dropout zeroes inputs of the update: of a convolution those of x, of an embedding whole tokens, since its input is the
one-hot vector. As in torch, the positions at ``padding_idx`` give no gradient.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lorank.lowrank.forms.form import Form
from lorank.lowrank.layer import Adapted
from lorank.lowrank.matrix_view import CONVOLUTIONS, VIEWED, MatrixView
from lorank.lowrank.product import compute_dtype


class AdaptedView(Adapted):
    """A layer that updates see through the matrix of its weight."""

    base: Any

    @property
    def view(self) -> MatrixView:
        """The base as updates see it."""
        frozen = self.frozen
        assert isinstance(frozen, MatrixView)
        return frozen

    def running_forms(self) -> list[Form]:
        """Return the updates that run now, in order; none while they are merged."""
        return [] if self.merged else [self.forms[name] for name in self.running]  # type: ignore[misc]

    def written(self, forms: Iterable[Form]) -> Tensor:
        """Return the sum of dW of ``forms``, one or more, in the shape of the base's weight, with its gradients."""
        view = self.view
        first, *others = (form.write_out(view) for form in forms)
        for other in others:
            first = first + other
        return view.store(first)

    def total_weight(self) -> Tensor:
        forms, weight = self.running_forms(), self.base.weight
        if not forms:
            return weight  # type: ignore[no-any-return]
        with torch.autocast(weight.device.type, enabled=False):
            total: Tensor = (weight + self.written(forms)).to(weight.dtype)
            return total

    def run_on_total(self, *args: Any, **keywords: Any) -> Any:
        """Return what the base's own ``forward`` makes of W + dW."""
        return functional_call(self.base, {"weight": self.total_weight()}, args, keywords)

    def _multiplies(self) -> bool:
        return False


class AdaptedEmbedding(AdaptedView):
    """An embedding with updates.

    >>> layer = AdaptedEmbedding(nn.Embedding(5, 3), "tokens"); layer(torch.tensor([[1, 2]])).shape
    torch.Size([1, 2, 3])
    """

    def forward(self, *args: Any, **keywords: Any) -> Any:
        """Return the rows [..., dim] of the tokens [...]; a subclass's forward takes what it takes."""
        forms = self.running_forms()
        if not forms:
            return self.base(*args, **keywords)
        if type(self.base).forward is not nn.Embedding.forward:
            return self.run_on_total(*args, **keywords)
        y = self.base(*args, **keywords)
        tokens = args[0] if args else keywords["input"]
        for form in forms:
            y = y + self._rows_of(form, tokens).to(y.dtype)
        return y

    def _rows_of(self, form: Form, tokens: Tensor) -> Tensor:
        """Return what ``form`` adds [..., dim] to the rows of ``tokens`` [...]."""
        rows = form.look_up(tokens.reshape(-1), self.view).view(*tokens.shape, -1)
        padding = self.base.padding_idx
        if padding is not None and rows.requires_grad:
            rows = torch.where(tokens.eq(padding).unsqueeze(-1), rows.detach(), rows)
        kept = form.drop_inputs(rows.new_ones(*tokens.shape, 1))
        return rows if kept is None else kept * rows


class AdaptedConvolution(AdaptedView):
    """A convolution with updates.

    >>> layer = AdaptedConvolution(nn.Conv1d(4, 6, 3), "conv"); layer(torch.ones(1, 4, 8)).shape
    torch.Size([1, 6, 6])
    """

    def forward(self, *args: Any, **keywords: Any) -> Any:
        """Return what the convolution makes of its input."""
        forms = self.running_forms()
        if not forms:
            return self.base(*args, **keywords)
        if not any(type(self.base).forward is kind.forward for kind in CONVOLUTIONS):
            return self.run_on_total(*args, **keywords)
        x = args[0] if args else keywords["input"]
        with_dropout = [form for form in forms if form.training and form.dropout > 0]
        others = [form for form in forms if form not in with_dropout]
        if (
            others
            and not with_dropout
            and compute_dtype(x) in (torch.float32, torch.float64)
            and not self._is_watched()
        ):
            return self.base._conv_forward(x, self.total_weight(), self.base.bias)
        y = self.base(x)
        if others:
            y = y + self._convolve(x, others)
        for form in with_dropout:
            y = y + self._convolve(form.drop_inputs(x), [form])
        return y

    def _is_watched(self) -> bool:
        """Return whether somebody put hooks on the base, which must then run itself."""
        base = self.base
        return any((base._forward_hooks, base._forward_pre_hooks, base._backward_hooks, base._backward_pre_hooks))

    def _convolve(self, x: Tensor | None, forms: Iterable[Form]) -> Tensor:
        """Return conv(x, dW) of ``forms`` without the bias."""
        assert x is not None
        with torch.autocast(x.device.type, enabled=False):
            delta = self.written(forms).to(x.dtype)
        y: Tensor = self.base._conv_forward(x, delta, None)
        return y


def adapt(module: nn.Module, path: str, dense: nn.Module | None = None) -> Adapted:
    """Return ``module`` wrapped for updates, as the kind of layer that it is; see ``Adapted``."""
    if not isinstance(module, VIEWED):
        return Adapted(module, path, dense)
    return (AdaptedEmbedding if isinstance(module, nn.Embedding) else AdaptedConvolution)(module, path, dense)
