r"""Gated: dW is a sum of rank-1 components that can be switched on, off, grown and moved during training.

    dW = s B diag(g * m) A = s sum_i g_i m_i b_i a_i^T

A [R, in] and B [out, R] trained, g [R] the gates, m [R] the mask: 0 where a component is off, else 1 (budgets that
rescale use other factors). R = round(capacity r) components are there from the start, so that no event of a budget
makes, drops or reshapes a tensor: the optimizer's groups and moments stay what they are. Products run over the
components that are on, or over all of them in a compiled graph, whose shapes must not depend on values. s = alpha / r
is a constant.

Zero start: gates "zero": g = 0, A and B normal with rows and columns of length about 1; gates "one" or "normal":
B = 0 and A as in LoRA. Trained values: R (in + out + 1), or R (in + out) with constant gates. Rank of dW: the number
of components that are on, at most min(in, out).

With ``through`` on, masked gates keep their gradient (straight-through): the output uses g * m, the gradient of g is
that of m = 1. Budgets that let masked components return set it; it is no part of the saved state.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.forms.basis import draw_normal, draw_uniform
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Factors, Site, form, seeded_generator

Gates = Literal["zero", "one", "normal"]
Active = Literal["all", "rank", "one"]


@form("gated")
class Gated(Factored):
    """Rank-1 components under gates.

    Args:
        site: where; r and s come from it.
        capacity: R / r, at least 1.
        active: which components are on at the start: "all", the first r ("rank"), or the first alone ("one").
        gates: how the gates start: "zero", "one", or "normal" (N(0, 1)).
        train_gates: False keeps the gates constant for the optimizer; a budget may still set them.
        triangular: start with a_i[:i] = 0 and b_i[:i] = 0.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "gated", rank=2, options={"capacity": 1.5})
    >>> adapter.num_parameters(), adapter.forms["0"].active_rank()
    (18, 3)
    """

    lr = 0.005
    mask: Tensor
    through: bool = False

    def __init__(
        self,
        site: Site,
        capacity: float = 1.0,
        active: Active = "all",
        gates: Gates = "zero",
        train_gates: bool = True,
        triangular: bool = False,
    ) -> None:
        super().__init__(site)
        if capacity < 1:
            raise UsageError(f"capacity {capacity!r} is below 1; it is the number of components over the rank")
        for name, given, known in (("gates", gates, get_args(Gates)), ("active", active, get_args(Active))):
            if given not in known:
                raise UsageError(f"{name} {given!r} is none of {', '.join(known)}")
        self.seed, self.path, self.gates, self.triangular = site.seed, site.path, gates, triangular
        self.components = round(capacity * site.rank)
        like = site.like
        A, B = self._draw(0)
        self.A, self.B = nn.Parameter(A.to(**like)), nn.Parameter(B.to(**like))
        gate = {"zero": torch.zeros, "one": torch.ones}.get(gates)
        start = gate(self.components) if gate else draw_normal((self.components,), site.generator("gate"))
        self.gate = nn.Parameter(start.to(**like), requires_grad=train_gates)
        on = {"all": self.components, "rank": site.rank, "one": min(1, self.components)}[active]
        self.register_buffer("mask", (torch.arange(self.components) < on).to(**like))

    def _draw(self, event: int) -> tuple[Tensor, Tensor]:
        R, generator = self.components, seeded_generator(self.seed, self.path, "components", event)
        if self.gates == "zero":
            A = draw_normal((R, self.in_features), generator) / max(self.in_features, 1) ** 0.5
            B = draw_normal((self.out_features, R), generator) / max(self.out_features, 1) ** 0.5
        else:
            A, B = draw_uniform((R, self.in_features), generator), torch.zeros(self.out_features, R)
        return (A.triu(), B.tril()) if self.triangular else (A, B)

    def effective_gates(self) -> Tensor:
        """Return g * m [R] with its gradient; with ``through`` the gradient passes the mask by."""
        if self.through:
            return self.gate - (self.gate * (1 - self.mask)).detach()
        return self.gate * self.mask

    @property
    def on(self) -> Tensor:
        """Which components are on [R], as truth values."""
        return self.mask != 0

    def active_rank(self) -> int:
        """Return how many components are on."""
        return int(self.mask.count_nonzero())

    def pair(self) -> tuple[Tensor, Tensor]:
        A, B, gate = self.A, self.B, self.effective_gates()
        if not (self.through or torch.compiler.is_compiling()) and self.active_rank() < self.components:
            index = self.mask.nonzero().squeeze(1)
            A, B, gate = A[index], B[:, index], gate[index]
        return A, B * gate

    @torch.no_grad()
    def as_lora(self) -> Factors:
        """Return the plain LoRA of the components that are on and whose gate is not 0."""
        index = (self.gate * self.mask).nonzero().squeeze(1)
        return Factors(self.A[index].detach(), (self.B * self.gate * self.mask)[:, index], self.scaling)

    @torch.no_grad()
    def switch(self, on: Tensor) -> None:
        """Turn on exactly the components that ``on`` [R] marks."""
        self.mask.copy_(on)

    @torch.no_grad()
    def renew(self, index: int, event: int) -> None:
        """Draw component ``index`` anew, so that it adds nothing, and turn it on; the same draw for equal ``event``.

        A component adds nothing where its gate (gates "zero") or its b_i is 0; its other values are drawn.
        """
        A, B = self._draw(event)
        self.A[index], self.B[:, index] = A[index].to(self.A), B[:, index].to(self.B)
        self.gate[index] = 0.0 if self.gates == "zero" else 1.0
        self.mask[index] = 1.0

    @torch.no_grad()
    def norms(self) -> Tensor:
        """Return ||s g_i m_i b_i a_i^T||_F [R], from the factors' norms alone."""
        norms: Tensor = self.A.norm(dim=1) * self.B.norm(dim=0)
        return abs(self.scaling) * (self.gate * self.mask).abs() * norms

    def parameter_count(self) -> int:
        return self.components * (self.in_features + self.out_features + int(self.gate.requires_grad))

    def rank_bound(self) -> int:
        return min(self.active_rank(), self.in_features, self.out_features)
