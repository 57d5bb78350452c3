"""OFS-DPO's slow module beside a run: its own values, its own optimizer, and the change of places.

The run's parameters hold the fast module. The slow one is a copy of their values, put in their place for as long as
it is read or differentiated, so one model serves both and whatever form the adapter has will do. Both step on the same
lists; where the slow module has overtaken (``FastSlowDPO.lead`` below 0) the two exchange values and moments, and with
them their rates.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses import Loss, requirements_of
from lorank.ranking.losses import loss as named_loss
from lorank.ranking.losses.ofs_dpo import FastSlowDPO
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.settings import OptimizerSettings


class FastSlow(Hook):
    """Trains the slow module by DPO at ``loss.slow_rate`` times the run's rate, and swaps where it overtakes."""

    def __init__(self, loss: FastSlowDPO, ranker: TrainableRanker, settings: OptimizerSettings) -> None:
        if settings.accumulate != 1:
            raise UsageError("ofs-dpo steps both modules on the same lists; set accumulate to 1 and raise batch_size")
        self.loss, self.ranker, self.clip, self.swaps = loss, ranker, settings.clip, 0
        self.dpo = named_loss("dpo")

    def begin(self, access: Access) -> None:
        """Copy the run's parameters and let the ranker show the copy where the loss asks for it."""
        if (
            torch.distributed.is_available()
            and torch.distributed.is_initialized()
            and torch.distributed.get_world_size() > 1
        ):
            raise UsageError("ofs-dpo compares its modules on whole batches; train it in one process")
        if type(access.optimizer) is not torch.optim.AdamW:
            raise UsageError(
                f"ofs-dpo gives its slow module AdamW and swaps the moments, and this run steps by "
                f"{type(access.optimizer).__name__}; use --rule adamw"
            )
        self.access, groups = access, []
        for group in access.optimizer.param_groups:
            copies = [torch.nn.Parameter(p.detach().clone()) for p in group["params"]]
            groups.append({**group, "params": copies, "lr": self.loss.slow_rate * group["base_lr"]})
        self.optimizer = torch.optim.AdamW(groups)
        self.fast, self.slow = _parameters(access.optimizer), _parameters(self.optimizer)
        self.ranker.slow = self.in_place  # type: ignore[attr-defined]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the ranker computes with the slow module."""
        _exchange(self.fast, self.slow)
        try:
            yield
        finally:
            _exchange(self.fast, self.slow)

    def before_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Take the slow module's gradient on the lists of this step; it steps when the fast one does."""
        with self.in_place():
            self.access.training_loss(progress.step, self.dpo).backward()
        for fast, slow in zip(self.fast, self.slow, strict=True):
            slow.grad, fast.grad = fast.grad, None

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Step the slow module, and swap the two where it had the lower loss."""
        for own, run in zip(self.optimizer.param_groups, optimizer.param_groups, strict=True):
            own["lr"] = self.loss.slow_rate * run["lr"]
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.slow, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.loss.lead < 0:
            self.swaps += 1
            _exchange(self.fast, self.slow)
            for fast, slow in zip(self.fast, self.slow, strict=True):
                optimizer.state[fast], self.optimizer.state[slow] = self.optimizer.state[slow], optimizer.state[fast]

    def state(self) -> dict[str, Tensor]:
        """Return the slow module and its moments."""
        tensors = {f"slow.{i}": p.detach().clone() for i, p in enumerate(self.slow)}
        for i, p in enumerate(self.slow):
            tensors |= {f"moment.{i}.{key}": torch.as_tensor(value) for key, value in self.optimizer.state[p].items()}
        return {**tensors, "swaps": torch.tensor(self.swaps)}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take them back."""
        self.swaps = int(state["swaps"])
        for i, p in enumerate(self.slow):
            p.copy_(state[f"slow.{i}"])
            moments = {
                key.removeprefix(f"moment.{i}."): value.clone()
                for key, value in state.items()
                if key.startswith(f"moment.{i}.")
            }
            if moments:
                self.optimizer.state[p] = moments


def fast_slow(loss: Loss, ranker: TrainableRanker, settings: OptimizerSettings) -> list[Hook]:
    """Return the hook that a loss with a slow module needs."""
    return [FastSlow(loss, ranker, settings)] if "slow" in requirements_of(loss) else []  # type: ignore[arg-type]


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


@torch.no_grad()
def _exchange(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        kept = a.clone()
        a.copy_(b)
        b.copy_(kept)
