"""One calibration pass: what each layer reads and what its weight's gradient is, under the run's own loss.

    inputs[l]   rows x [n, in] that layer l reads at real tokens, drawn at random from all that were seen
    gradient[l] mean over batches of dL/dW_l [out, in]
    fisher[l]   mean over batches of (dL/dW_l)^2 [out, in]

Starts (EVA, GoRA, LoRA-GA, LoRA-SB) and static budgets read them. Padding is left out: packed encoders have none,
and of padded ones the rows outside the attention mask are dropped. The pass changes no weight and no random state,
and is a function of the seed alone, so a resumed run gets the same statistics.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.starts import Statistics
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.lists.list_loss import Lists, Loss, batches_an_epoch, deterministic, list_loss, lists_at
from lorank.training.settings import OptimizerSettings

KINDS = ("inputs", "gradient", "fisher")


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


def calibrate(
    ranker: TrainableRanker,
    inputs: Any,
    lists: Lists,
    loss: Loss,
    settings: OptimizerSettings,
    layers: Mapping[str, nn.Module],
    kinds: Iterable[str],
    *,
    batches: int = 8,
    rows: int = 1024,
    seed: int = 0,
    on_progress: ProgressCallback = lambda done, total: None,
) -> dict[str, Statistics]:
    """Return statistics of ``kinds`` (``inputs``, ``gradient``, ``fisher``) by layer path.

    ``layers`` maps paths to the plain linear layers of ``ranker.module``; ``batches`` of training lists are seen,
    and of each layer's inputs at most ``rows`` are kept.
    """
    kinds = set(kinds)
    if unknown := kinds - set(KINDS):
        raise UsageError(
            f"a calibration pass sees {', '.join(KINDS)}, not {', '.join(sorted(unknown))}; hand them to "
            "lorank.lowrank.attach as `statistics`"
        )
    seen = {path: _Seen() for path in layers}
    graded = bool(kinds & {"gradient", "fisher"})
    weights = {path: layer.get_parameter("weight") for path, layer in layers.items()}
    sums: dict[str, dict[str, Tensor]] = {
        kind: {path: torch.zeros_like(weight, dtype=torch.float32) for path, weight in weights.items()}
        for kind in ("gradient", "fisher")
        if kind in kinds
    }
    count = min(batches, per_epoch := batches_an_epoch(lists, settings.batch_size))
    ranker.module.eval()
    with (
        deterministic(ranker.device),
        _only(ranker.module, layers if graded else {}),
        torch.set_grad_enabled(graded),
        _watch(ranker.module, layers if "inputs" in kinds else {}, seen, rows, seed),
    ):
        for index in range(count):
            batch = lists.collate(lists_at(lists, index, settings.batch_size, per_epoch))
            value = list_loss(ranker, inputs, batch, loss, settings, seed, ranker.device)
            if graded:
                gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
                _accumulate(sums, dict(zip(layers, gradients, strict=True)), count)
            on_progress(index + 1, count)
    inputs_seen = {path: seen[path].drawn(rows) for path in layers if "inputs" in kinds and seen[path].rows}
    return {
        path: {
            **({"inputs": inputs_seen[path]} if path in inputs_seen else {}),
            **{kind: totals[path] for kind, totals in sums.items()},
        }
        for path in layers
    }


def _accumulate(sums: dict[str, dict[str, Tensor]], gradients: dict[str, Tensor | None], count: int) -> None:
    for path, gradient in gradients.items():
        if gradient is not None:
            for kind, totals in sums.items():
                totals[path] += (gradient if kind == "gradient" else gradient.square()) / count


@contextmanager
def _only(module: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """Within it the weights of ``layers``, and nothing else of ``module``, ask for gradients."""
    asked = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    module.requires_grad_(False)
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    try:
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(asked[name])


@contextmanager
def _watch(
    module: nn.Module, layers: Mapping[str, nn.Module], seen: dict[str, _Seen], limit: int, seed: int
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
