"""The contract of every form: how an update of one weight W [out, in] is written, applied and counted."""

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from lorank.errors import unknown_name
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.linalg import working_dtype
from lorank.lowrank.product import compute_dtype


@dataclass(frozen=True)
class Site:
    """The place of one update: which weight it changes, at which rank and scale.

    Args:
        path: the layer's path in the model.
        base: the frozen layer.
        rank: r, from 0 up; it may exceed min(out, in).
        alpha: the numerator of the scale.
        scaling: s, the factor of the update that alpha, the rank and the scaling rule make.
        dropout: the probability of zeroing an input of the update in training, in [0, 1).
        seed: what the draws of this and all other sites of the adapter come from.
    """

    path: str
    base: BaseLinear
    rank: int
    alpha: float
    scaling: float
    dropout: float = 0.0
    seed: int = 0

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the update's tensors: float32 at least, whatever the base is stored in."""
        return working_dtype(self.base.weight)

    @property
    def like(self) -> dict[str, Any]:
        """The device and the dtype of the update's tensors, as torch takes them."""
        return {"device": self.device, "dtype": self.dtype}

    @property
    def device(self) -> torch.device:
        """The device of the update's tensors."""
        return self.base.weight.device

    def generator(self, purpose: str = "") -> torch.Generator:
        """Return a CPU generator of this site's own: its draws depend on seed, path and purpose alone."""
        return seeded_generator(self.seed, self.path, purpose)


def seeded_generator(*parts: object) -> torch.Generator:
    """Return a CPU generator seeded by ``parts``; forms that share tensors over layers leave the path out.

    >>> one, two = (torch.rand(2, generator=seeded_generator(0, "a")) for _ in range(2)); torch.equal(one, two)
    True
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class Factors(NamedTuple):
    """A plain LoRA: the update is ``scaling`` B A with A [r, in], B [out, r]."""

    A: Tensor
    B: Tensor
    scaling: float


class Form(nn.Module, ABC):
    """One update dW of one frozen weight W [out, in]; y = x (W + dW)^T + b.

    A form is a module whose parameters are trained and whose persistent buffers are saved beside them.
    Built from its site alone it stands at its *zero start*: dW = 0. Other starts fill it afterwards. A form
    whose tensors are shared between layers overrides ``build`` and gives each of its forms the same
    submodule; a tensor is counted, trained and saved once.
    """

    lr: ClassVar[float] = 1e-3
    """The learning rate that suits AdamW on this form: see ``lowrank.rates``."""

    usual_rank: ClassVar[int] = 8
    """The rank where none is given: for a form of few values, that which gives it about as many as LoRA has at 8."""

    needs_weight: ClassVar[bool] = False
    """True where ``forward`` reads W itself, not only W's output: a quantised base is dequantised for it."""

    unattended_effect: ClassVar[str] = ""
    """What a scheduled form does where nothing calls ``advance``, as it ends the sentence "each layer ..."."""

    earlier_options: ClassVar[Mapping[str, object]] = {}
    """Options whose defaults have changed since, as folders mean them that do not name them."""

    derived: ClassVar[tuple[str, ...]] = ()
    """The buffers that are computed from W and not saved: on another W they are others; see ``lowrank.derived``."""

    advanced: bool = False
    """True once ``advance`` was called."""

    mergeable: ClassVar[bool] = True
    """False where dW depends on the input, so that no one matrix stands for it: routers of tokens."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.out_features, self.in_features = site.base.out_features, site.base.in_features
        self.rank, self.alpha, self.scaling = site.rank, site.alpha, site.scaling
        self.dropout = site.dropout

    @classmethod
    def build(cls, sites: Sequence[Site], **options: Any) -> list[Self]:
        """Return one form per site, in order; a form that has options names them."""
        return [cls(site, **options) for site in sites]

    @abstractmethod
    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        """Return x dW^T [..., out] for ``x`` [..., in]; ``output`` is x W^T + b, for forms that start from it."""

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        """Return x (W + dW)^T + b; a form overrides this where both are cheaper together."""
        output = base(x)
        return output + self.update(x, base, output).to(output.dtype)

    def write_out(self, base: BaseLinear) -> Tensor:
        """Return dW [out, in] with its gradients and without dropout, in the dtype of what is trained.

        A form overrides this where it can write dW down; here it is the update of the rows of the identity.
        """
        return self._update_rows(torch.eye(self.in_features, device=base.weight.device), base).t()

    def look_up(self, tokens: Tensor, base: BaseLinear) -> Tensor:
        """Return the rows ``tokens`` [n] of dW^T [in, out], with their gradients: what an embedding adds to them."""
        if type(self).write_out is not Form.write_out:
            return nn.functional.embedding(tokens, self.write_out(base).t())
        return self._update_rows(nn.functional.one_hot(tokens, self.in_features), base)

    def _update_rows(self, x: Tensor, base: BaseLinear) -> Tensor:
        """Return x dW^T [n, out] for constant rows ``x`` [n, in], without dropout."""
        x = x.to(working_dtype(base.weight))
        dropout, self.dropout = self.dropout, 0.0
        try:
            with torch.autocast(x.device.type, enabled=False):
                return self.update(x, base, nn.functional.linear(x, base.weight.to(x.dtype), base.bias))
        finally:
            self.dropout = dropout

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor:
        """Return the dense dW [out, in] in float32 or better, given the frozen W [out, in].

        Raises:
            UsageError: where the form is not ``mergeable``.
        """

    @abstractmethod
    def parameter_count(self) -> int:
        """Return the number of trained values by the form's formula; shared ones count in their first layer."""

    @abstractmethod
    def rank_bound(self) -> int:
        """Return the largest rank that dW can have, which generic trained values reach."""

    def as_lora(self) -> Factors | None:
        """Return the factors where dW is exactly s B A, else None."""
        return None

    @property
    def scheduled(self) -> bool:
        """Whether this form follows a schedule, and so must be advanced by the training loop."""
        return type(self).follow is not Form.follow

    def advance(self, step: int, total: int) -> None:
        """Tell the form that ``step`` of ``total`` optimizer steps are done; one with a schedule follows it."""
        self.advanced = True
        self.follow(step, total)

    def follow(self, step: int, total: int) -> None:
        """Act as the schedule says after ``step`` of ``total`` optimizer steps; forms with one override this."""

    def advance_unattended(self, step: int) -> None:
        """Act after ``step`` steps of a training loop that never called ``advance``."""

    def __setstate__(self, state: dict[str, object]) -> None:
        from lorank.lowrank.forms.schedule import watch_steps

        super().__setstate__(state)  # type: ignore[no-untyped-call]
        watch_steps(self)  # copies of parameters have no hooks

    def penalty(self) -> Tensor | None:
        """Return what this form adds to the loss of the last forward pass, such as a router's balance, or None."""
        return None

    def __getstate__(self) -> dict[str, object]:
        """Return what a copy or a pickle holds: no tensor that still hangs in the graph of a forward pass."""
        state = self.__dict__.items()
        return {key: None if isinstance(own, Tensor) and not own.is_leaf else own for key, own in state}

    def prepare_input(self, x: Tensor) -> Tensor:
        """Return ``x`` as the update reads it: after dropout, in the dtype that products with ``x`` run in."""
        dropped = self.drop_inputs(x)
        return (x if dropped is None else dropped).to(compute_dtype(x))

    def drop_inputs(self, x: Tensor) -> Tensor | None:
        """Return ``x`` after dropout in training, None where dropout does nothing."""
        if not (self.training and self.dropout > 0):
            return None
        return nn.functional.dropout(x, self.dropout, training=True)


FORMS: dict[str, type[Form]] = {}
"""Every form under its name."""

ROUTED: dict[str, type[Form]] = {}
"""Forms that are not mergeable under their names; they keep a contract of their own."""

FormType = TypeVar("FormType", bound=type[Form])


def form(name: str) -> Callable[[FormType], FormType]:
    """Decorate a Form to register it under ``name``."""

    def enter(cls: FormType) -> FormType:
        (FORMS if cls.mergeable else ROUTED)[name] = cls
        return cls

    return enter


def default_option(kind: type[Form], option: str) -> object:
    """Return what ``option`` of a form is where it is not given."""
    return inspect.signature(kind.build).parameters[option].default


def form_options(name: str) -> tuple[str, ...]:
    """Return the names of the options of the form called ``name``.

    >>> form_options("lora")
    ()
    """
    kind = form_type(name)
    own = list(inspect.signature(kind.build).parameters.values())[1:]
    if any(each.kind is each.VAR_KEYWORD for each in own):
        own = [each for each in own if each.kind is not each.VAR_KEYWORD]
        own += list(inspect.signature(kind).parameters.values())[1:]
    return tuple(dict.fromkeys(each.name for each in own if each.kind is not each.VAR_KEYWORD))


def form_type(name: str) -> type[Form]:
    """Return the form called ``name``."""
    known = FORMS | ROUTED
    if name not in known:
        raise unknown_name("form", name, known)
    return known[name]
