"""How the loop uses a compression of `lorank.lowrank.compression`: its events as a hook, its teacher for the scores.

Where the method distils the outputs, each step's lists are scored once by the teacher and once more by the student, and
KL( softmax teacher || softmax student ) over the documents of each list is added to the loss.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorank.errors import UsageError
from lorank.lowrank.compression import Compression, make_compression
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.settings import CompressSettings

NONE = "none"


class Compressing(Hook):
    """One compression in one run."""

    def __init__(self, compression: Compression) -> None:
        self.compression = compression
        self.scores: float = getattr(compression, "scores", 0.0)

    @property
    def name(self) -> str:
        """Name the method, since the state is its own."""
        return f"{type(self).__name__} {type(self.compression).__name__}"

    def begin(self, access: Access) -> None:
        """Take what is known of the run only now: its length and its losses."""
        self.access, self.compression.steps = access, access.steps

    def before_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Delegate to ``Compression.before_step``."""
        self.compression.before_step(progress.step)

    def penalty(self, progress: Progress) -> Tensor | None:
        """Return the compression's penalty, and the distillation of the lists' scores where there is one."""
        own = self.compression.penalty()
        if not self.scores:
            return own
        taught = self.scores * self.distil(progress.step)
        return taught if own is None else own + taught

    def distil(self, step: int) -> Tensor:
        """Return the mean KL divergence of the student's lists from the teacher's."""
        kept: list[Tensor] = []

        def keep(scores: Tensor, labels: Tensor, mask: Tensor, *more: Any, **extras: Any) -> Tensor:
            kept.append(scores.detach())
            return scores.sum()

        def divergence(scores: Tensor, labels: Tensor, mask: Tensor, *more: Any, **extras: Any) -> Tensor:
            return list_divergence(kept[0], scores, mask)

        with torch.no_grad(), self.compression.original():
            self.access.training_loss(step, keep)
        return self.access.training_loss(step, divergence)

    def after_backward(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Delegate to ``Compression.after_backward``."""
        self.compression.after_backward()

    def state(self) -> dict[str, Tensor]:
        """Return what the compression remembers beside the weights."""
        return self.compression.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state`` gave."""
        self.compression.load_state(state)

    def finish(self) -> None:
        """Make the final cut, once the loop has ended and before anything is measured of its result."""
        self.compression.finish()

    def merge(self) -> str:
        """Put plain layers in their places, as a model is saved, and return the sizes in words."""
        self.compression.merge()
        return self.describe()

    def record(self) -> dict[str, Any]:
        """Return the ranks and sizes for run.json."""
        small, dense = self.compression.sizes()
        return {"ranks": self.compression.ranks(), "factored_values": small, "dense_values": dense}

    def describe(self) -> str:
        """Return the sizes in words."""
        small, dense = self.compression.sizes()
        return (
            f"the compressed layers have {small:,} values as factors, {small / dense:.0%} of their {dense:,} dense "
            "ones; they are saved dense, with these ranks"
        )


def list_divergence(teacher: Tensor, student: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over lists of KL( softmax teacher || softmax student ), both [batch, list].

    >>> scores = torch.tensor([[1.0, 0.0, 9.0]]); mask = torch.tensor([[True, True, False]])
    >>> list_divergence(scores, scores + 5, mask).round(decimals=4).item()
    0.0
    """
    lowest = torch.finfo(student.dtype).min
    before, after = (F.log_softmax(own.masked_fill(~mask, lowest), -1) for own in (teacher, student))
    terms = (before.exp() * (before - after)).masked_fill(~mask, 0.0)
    return terms.sum(-1).mean()


def make_compressing(
    settings: CompressSettings, module: nn.Module, exclude: list[str], seed: int
) -> Compressing | None:
    """Return what runs the compression, its layers in place; None where there is none.

    Args:
        settings: The method, its layers and its options.
        module: The ranker's module.
        exclude: Modules that stay as they are, such as new heads.
        seed: The seed of its draws.
    """
    if settings.name == NONE:
        return None
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    if several and torch.distributed.get_world_size() > 1:
        raise UsageError("a compression changes weights by itself; train it in one process")
    own = make_compression(
        settings.name,
        module,
        steps=1,
        targets=settings.targets,
        exclude=[*settings.exclude, *exclude],
        seed=seed,
        **settings.options,
    )
    return Compressing(own)
