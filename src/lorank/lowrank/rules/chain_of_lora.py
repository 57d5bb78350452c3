r"""Chain of LoRA (COLA): train a LoRA, merge it, start a new one on what is left, repeat.

    W = W0 + s sum_{j < k} B_j A_j + s B A,    every T / links steps: (B_k, A_k) <- (B, A), A <- new draw, B <- 0

and the optimizer forgets the moments of A and B. The forward pass is continuous at the merge; the update's rank
grows to links * r. Links that are done are kept as frozen factors beside the trained ones: W0 itself is never
changed, and saving and exporting are always against it.

Xia, Qin, Hazan, Chain of LoRA: Efficient Fine-tuning of Language Models via Residual Learning, 2024,
arXiv:2401.04151.

*Deviations*: the paper writes the links into W; the sum is the same, the step costs r more inner products a
link, and the best weights of a run, which may be those of an early link, can be put back. The learning-rate
schedule runs on over the links.
"""

from dataclasses import dataclass, field

import torch

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.forms.form import Form, seeded_generator
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.rules.rule import Losses, Rule, needed_pairs, rule


def reserve(form: LoRA, rows: int) -> int:
    """Add ``rows`` zero components to the frozen factors of ``form``; return where they begin."""
    frozen = form.frozen
    A0, B0 = frozen if frozen is not None else (form.A[:0].detach(), form.B[:, :0].detach())
    form.A0 = torch.cat([A0, A0.new_zeros(rows, A0.shape[1])])
    form.B0 = torch.cat([B0, B0.new_zeros(len(B0), rows)], dim=1)
    return len(A0)


@torch.no_grad()
def merge_link(form: LoRA, at: int, generator: torch.Generator) -> None:
    """Move the trained factors to the reserved place ``at`` and start new ones; dW stays as it is."""
    assert form.A0 is not None
    assert form.B0 is not None
    form.A0[at : at + form.rank] = form.A
    form.B0[:, at : at + form.rank] = -form.B
    bound = form.in_features**-0.5
    form.A.copy_(torch.empty(form.A.shape).uniform_(-bound, bound, generator=generator))
    form.B.zero_()


@rule("chain-of-lora")
@catalogued(
    "chain-of-lora",
    area="adapters.optim",
    title="Chain of LoRA: Efficient Fine-tuning of Language Models via Residual Learning",
)
@dataclass
class ChainOfLoRA(Rule):
    """AdamW on ``links`` LoRAs, one after the other.

    State: ``2 * r * (out + width)`` values a pair.
    """

    lr = 0.002
    links: int = 3
    _begins: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    _adapter: Adapter | None = field(default=None, init=False, repr=False)
    _optimizer: torch.optim.Optimizer | None = field(default=None, init=False, repr=False)

    optimizes = False

    def __post_init__(self) -> None:
        if self.links < 1:
            raise UsageError(f"links {self.links!r} is not an integer from 1 up")

    def begin(self, adapter: Adapter, optimizer: torch.optim.Optimizer, steps: int, losses: Losses | None) -> None:
        """Reserve room for the frozen links in every form.

        Args:
            adapter: The adapter, whose forms are LoRAs.
            optimizer: The optimizer, whose moments of A and B are forgotten at each merge.
            steps: It is not used.
            losses: It is not used.
        """
        pairs = needed_pairs(adapter, "chain-of-lora")
        self._adapter, self._optimizer = adapter, optimizer
        for pair in pairs:
            form = _as_lora(adapter.forms[pair.path])
            self._begins[pair.path] = reserve(form, (self.links - 1) * form.rank)

    def merges(self, steps: int) -> list[int]:
        """Return the numbers of steps after which a link is merged.

        >>> ChainOfLoRA(links=3).merges(10)
        [3, 7]
        """
        return [round(steps * link / self.links) for link in range(1, self.links)]

    def after_step(self, step: int, steps: int) -> None:
        if step not in self.merges(steps):
            return
        assert self._adapter is not None
        assert self._optimizer is not None
        link = self.merges(steps).index(step)
        for path, begin in self._begins.items():
            form = _as_lora(self._adapter.forms[path])
            merge_link(
                form, begin + link * form.rank, seeded_generator(self._adapter.settings.seed, path, f"link {link + 1}")
            )
            for factor in (form.A, form.B):
                self._optimizer.state.pop(factor, None)


def _as_lora(form: Form) -> LoRA:
    if not isinstance(form, LoRA):
        raise UsageError(f"chain-of-lora merges links of plain LoRA, and this adapter has a {type(form).__name__}")
    return form
