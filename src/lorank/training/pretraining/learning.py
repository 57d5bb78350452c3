"""What the training loop works with when an encoder is pretrained: weights, loss, events, and the held-out loss."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorank.lowrank.factored import Factored
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.lists.list_loss import trains_in_bf16
from lorank.training.loop.module_weights import ModuleWeights
from lorank.training.pretraining.model import MaskedModel
from lorank.training.pretraining.windows import IGNORED, MaskedBatch, Windows
from lorank.training.settings import OptimizerSettings

MEASURE = "log-likelihood"
"""The mean log-probability of the masked tokens that are held out; the loss with the other sign."""


class MaskedWeights(ModuleWeights):
    """Every tensor of the model that a run changes: its parameters, and what factored layers keep beside them."""

    def __init__(self, module: nn.Module, factored: Factored | None) -> None:
        super().__init__(module)
        self.factored = factored

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters: matrices with the run's decay, vectors without."""
        own = [p for p in self.module.parameters() if p.requires_grad]
        groups = [{"params": [p for p in own if p.dim() > 1]}, {"params": [p for p in own if p.dim() < 2]}]
        groups[1]["weight_decay"] = 0.0  # type: ignore[assignment]
        return [group for group in groups if group["params"]]

    def tensors(self) -> dict[str, Tensor]:
        """Return all parameters, those at rest too, and the buffers of factored layers."""
        found: dict[str, Tensor] = dict(self.module.named_parameters())
        for path, layer in {} if self.factored is None else self.factored.layers.items():
            found |= {f"{path}.{name}": value for name, value in layer.named_buffers()}
        return found


class FactoredEvents(Hook):
    """Lets factored layers switch or balance after each step."""

    def __init__(self, factored: Factored) -> None:
        self.factored, self.changed = factored, 0

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Run the events of this step."""
        self.changed += self.factored.after_step(progress.step, progress.steps, optimizer)

    def state(self) -> dict[str, Tensor]:
        """Return how many events there were."""
        return {"changed": torch.tensor(self.changed)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state`` gave."""
        self.changed = int(state["changed"])


def masked_loss(
    model: Any,
    inputs: Any,
    batch: MaskedBatch,
    loss: Any,
    settings: OptimizerSettings,
    step_seed: int,
    device: torch.device,
) -> Tensor:
    """Return the mean cross-entropy of the masked tokens of a batch; dropout draws from ``step_seed``.

    Args:
        model: The `MaskedModel`.
        inputs: Not used.
        batch: The windows.
        loss: The loss of scores [n, vocabulary] and tokens [n].
        settings: The settings of the loop, of which the precision is read.
        step_seed: The seed of dropout.
        device: The device of the model.
    """
    batch = batch.to(device)
    where = batch.labels != IGNORED
    half = trains_in_bf16(settings.precision, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(step_seed)
        with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
            scores = model.scores(batch.tokens, batch.attention, where)
    value: Tensor = loss(scores.float(), batch.labels[where])
    return value


def cross_entropy(scores: Tensor, tokens: Tensor) -> Tensor:
    """Return the mean cross-entropy of ``scores`` [n, vocabulary] for ``tokens`` [n]."""
    return F.cross_entropy(scores, tokens)


def held_out_measure(
    model: MaskedModel, windows: Windows, batch_size: int, settings: OptimizerSettings
) -> Callable[[], dict[str, float]]:
    """Return the function that measures the model on windows that are held out.

    Args:
        model: The model.
        windows: The windows, whose masks are always the same.
        batch_size: The number of windows that are read at once.
        settings: The settings of the loop, of which the precision is read.
    """

    @torch.no_grad()
    def measure() -> dict[str, float]:
        model.module.eval()
        device = next(model.module.parameters()).device
        half = trains_in_bf16(settings.precision, device)
        places = windows.epoch(0)
        total, right, count = 0.0, 0, 0
        for start in range(0, len(places), batch_size):
            batch = windows.collate(places[start : start + batch_size]).to(device)
            where = batch.labels != IGNORED
            with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
                scores = model.scores(batch.tokens, batch.attention, where)
            goal = batch.labels[where]
            total += float(F.cross_entropy(scores.float(), goal, reduction="sum"))
            right += int((scores.argmax(1) == goal).sum())
            count += len(goal)
        return {MEASURE: -total / count, "accuracy": right / count}

    return measure
