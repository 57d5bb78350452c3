"""One calibration pass over any model: what each layer reads, and what its weight's gradient is.

    inputs[l]   rows x [n, in] that layer l reads at real tokens, drawn at random from all that were seen
    gradient[l] mean over batches of dL/dW_l [out, in]
    fisher[l]   mean over batches of (dL/dW_l)^2 [out, in]

Starts (EVA, GoRA, LoRA-GA, LoRA-SB, LoRS, LoKU) and static budgets read them. Rows outside a model's attention mask are
dropped. The pass runs in evaluation mode and changes no weight and no random state of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.layer import Adapted
from lorank.lowrank.matrix_view import MatrixView, base_of
from lorank.lowrank.starts import Statistics
from lorank.lowrank.targets import ALL_LINEAR, select_targets

Batch = TypeVar("Batch")

KINDS = ("inputs", "gradient", "fisher")


def calibrate(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    *,
    targets: str | Iterable[str] = ALL_LINEAR,
    exclude: Iterable[str] = (),
    trained: Iterable[str] = (),
    kinds: Iterable[str] = KINDS,
    rows: int = 1024,
    seed: int = 0,
) -> dict[str, Statistics]:
    """Return what starts and budgets read of each layer that ``attach`` with the same targets would adapt.

    Args:
        model: any module, without adapters on the layers.
        batches: what ``loss`` takes, one after the other.
        loss: called with the model and a batch; a scalar.
        targets: the layers to observe, as in ``attach``.
        exclude: names of modules that are left alone with all they hold.
        trained: names of modules that are trained whole, left alone as well.
        kinds: some of ``inputs``, ``gradient`` and ``fisher``; ``statistics_needed`` names those of a method.
        rows: at most how many inputs of a layer are kept.
        seed: of the draw of inputs.

    Raises:
        UsageError: for other kinds, layers that are quantised or adapted already, and where there is no batch.

    >>> from lorank import lowrank
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    >>> batches = [(torch.randn(8, 3), torch.randn(8, 1)) for _ in range(2)]
    >>> found = calibrate(model, batches, lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]))
    >>> sorted(found), tuple(found["0"]["gradient"].shape), tuple(found["0"]["inputs"].shape)
    (['0', '2'], (4, 3), (16, 3))
    >>> lowrank.attach(model, "lora-ga", rank=2, statistics=found).num_parameters()
    24
    """
    layers = select_targets(model, targets, exclude, trained)
    return observe(model, batches, loss, layers, kinds, rows=rows, seed=seed)


def observe(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    layers: Mapping[str, nn.Module],
    kinds: Iterable[str],
    *,
    rows: int = 1024,
    seed: int = 0,
) -> dict[str, Statistics]:
    """Return statistics of ``kinds`` of ``layers`` by path; see ``calibrate``.

    Args:
        model: The module that holds the layers, without adapters on them.
        batches: The batches, which ``loss`` receives one after the other.
        loss: It returns a scalar for the model and a batch.
        layers: The linear layers that are observed, by path.
        kinds: Some of ``inputs``, ``gradient`` and ``fisher``.
        rows: The most inputs of a layer that are kept, 1 or more.
        seed: The seed of the draw of inputs.

    Raises:
        UsageError: If a kind is unknown, a layer is quantised or adapted already, or there is no batch.
    """
    kinds = set(kinds)
    bases = _bases(layers, kinds)
    graded = sorted(kinds & {"gradient", "fisher"})
    totals = {kind: {path: _zeros(base) for path, base in bases.items()} for kind in graded}
    seen = {path: _Seen() for path in layers}
    modes = {module: module.training for module in model.modules()}
    count = 0
    model.eval()
    try:
        with (
            _only(model, layers if graded else {}),
            torch.set_grad_enabled(bool(graded)),
            _watch(model, layers if "inputs" in kinds else {}, seen, rows, seed),
        ):
            for batch in batches:
                value = loss(model, batch)
                count += 1
                if graded:
                    weights = [layer.get_parameter("weight") for layer in layers.values()]
                    _accumulate(totals, bases, torch.autograd.grad(value, weights, allow_unused=True))
    finally:
        for module, training in modes.items():
            module.training = training
    if not count:
        raise UsageError("there is no batch to calibrate on")
    return {
        path: {
            **({"inputs": seen[path].drawn(rows)} if seen[path].rows else {}),
            **{kind: totals[kind][path] / count for kind in graded},
        }
        for path in layers
    }


@dataclass
class _Seen:
    """What the pass has gathered of one layer."""

    rows: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)

    def add(self, x: Tensor, limit: int, generator: torch.Generator) -> None:
        """Keep a uniform draw of at most ``limit`` of all rows so far: those with the smallest random keys."""
        keys = torch.rand(len(x), generator=generator)
        kept = keys.argsort()[:limit]
        self.rows.append(x[kept.to(x.device)].float())
        self.keys.append(keys[kept])
        if sum(map(len, self.keys)) > 4 * limit:
            rows = self.drawn(limit)
            self.rows, self.keys = [rows], [torch.cat(self.keys).sort().values[:limit]]

    def drawn(self, limit: int) -> Tensor:
        """Return the drawn rows [n, in]."""
        order = torch.cat(self.keys).argsort()[:limit]
        return torch.cat(self.rows)[order.to(self.rows[0].device)]


def _bases(layers: Mapping[str, nn.Module], kinds: set[str]) -> dict[str, BaseLinear]:
    if unknown := kinds - set(KINDS):
        raise UsageError(
            f"a calibration pass sees {', '.join(KINDS)}, not {', '.join(sorted(unknown))}; hand them to "
            "lorank.lowrank.attach as `statistics`"
        )
    bases = {}
    for path, layer in layers.items():
        if isinstance(layer, Adapted):
            raise UsageError(f"layer {path} has an adapter already; calibrate the model before attaching")
        bases[path] = base_of(layer)
        if isinstance(bases[path], MatrixView) and "inputs" in kinds:
            raise UsageError(
                f"layer {path} is of type {type(layer).__name__}, whose inputs are no vectors that a start could read; "
                "choose a start that reads gradients ('lora-ga') or none ('zero', 'svd'), or leave it out"
            )
        if bases[path].quantised and kinds & {"gradient", "fisher"}:
            raise UsageError(f"layer {path} is quantised, so its weight has no gradient; calibrate the dense model")
    return bases


def _zeros(base: BaseLinear) -> Tensor:
    return torch.zeros(base.out_features, base.in_features, device=base.weight.device, dtype=torch.float32)


def _accumulate(
    totals: Mapping[str, Mapping[str, Tensor]], bases: Mapping[str, BaseLinear], gradients: Iterable[Tensor | None]
) -> None:
    for (path, base), gradient in zip(bases.items(), gradients, strict=True):
        if gradient is not None:
            gradient = gradient.to_dense() if gradient.is_sparse else gradient
            if isinstance(base, MatrixView):
                gradient = base.view(gradient)
            gradient = gradient.t() if base.transposed else gradient
            for kind, sums in totals.items():
                sums[path] += gradient if kind == "gradient" else gradient.float().square()


@contextmanager
def _only(module: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """Within it the weights of ``layers``, and nothing else of ``module``, ask for gradients."""
    asked = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    module.requires_grad_(False)
    for layer in layers.values():
        layer.get_parameter("weight").requires_grad_(True)
    try:
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(asked[name])


@contextmanager
def _watch(
    module: nn.Module, layers: Mapping[str, nn.Module], seen: Mapping[str, _Seen], limit: int, seed: int
) -> Iterator[None]:
    """Within it the rows that enter ``layers`` at real tokens are drawn from."""
    mask: list[Tensor] = []

    def note_mask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask[:] = [kwargs["attention_mask"]] if kwargs.get("attention_mask") is not None else []

    def watch(path: str, generator: torch.Generator) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def note(_: nn.Module, args: tuple[Any, ...]) -> None:
            seen[path].add(real_rows(args[0].detach(), mask[0] if mask else None), limit, generator)

        return note

    handles = [module.register_forward_pre_hook(note_mask, with_kwargs=True)] if layers else []
    for index, (path, layer) in enumerate(layers.items()):
        generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)
        handles.append(layer.register_forward_pre_hook(watch(path, generator)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def real_rows(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the rows [n, in] of ``x`` [..., in] at real tokens, given the attention mask [batch, length], if any.

    >>> real_rows(torch.tensor([[[1.0], [2.0]], [[3.0], [9.0]]]), torch.tensor([[1, 1], [1, 0]])).flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    if mask is not None and mask.dim() == 2 and x.dim() == 3 and x.shape[:2] == mask.shape:
        return x[mask.bool()]
    return x.reshape(-1, x.shape[-1])
