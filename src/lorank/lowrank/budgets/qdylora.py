r"""QDyLoRA: DyLoRA on a base whose weights are stored as 4-bit NormalFloat.

    y = dequantise(codes, scales) x + (alpha / b) B[:, :b] A[:b] x,    b drawn at each step

``attach`` quantises the layers that it adapts where they are not quantised yet (``lowrank.quantise``); they are
frozen and dequantised on the fly in either pass; the adapter is DyLoRA's, and after
the run any rank in the range is there.

Rajabzadeh et al., QDyLoRA: Quantized Dynamic Low-Rank Adaptation for Efficient Large Language Model Tuning, 2024,
arXiv:2402.10462.

*Deviations*: the paper draws b from a given set of ranks (``choices``); without one all ranks from ``lowest`` up are
drawn. Scales are not quantised a second time.
"""

from collections.abc import Mapping

import torch

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.budgets.core.budget import Timetable, dynamic_budget
from lorank.lowrank.budgets.dylora import DyLoRA
from lorank.lowrank.forms.form import seeded_generator
from lorank.lowrank.forms.gated import Gated


@dynamic_budget("qdylora")
@catalogued(
    "qdylora",
    area="adapters.rank",
    title="QDyLoRA: Quantized Dynamic Low-Rank Adaptation for Efficient Large Language Model Tuning",
)
class QDyLoRA(DyLoRA):
    """Samples a rank a step, of a set.

    Args:
        forms: gated forms on quantised layers.
        total: ranks at the end, shared out equally.
        timetable: its last event cuts to the total.
        seed: of the ranks drawn.
        lowest: the least b, where no choices are given.
        frozen: whether only component b moves.
        choices: the ranks to draw from, as "1,2,4,8"; "" draws from all.
    """

    lr = 0.001
    base = "nf4"

    def __init__(
        self,
        forms: Mapping[str, Gated],
        total: int,
        timetable: Timetable,
        *,
        seed: int = 0,
        lowest: int = 1,
        frozen: bool = False,
        choices: str = "",
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed, lowest=lowest, frozen=frozen)
        try:
            self.choices = [int(choice) for choice in choices.split(",")] if choices else []
        except ValueError as error:
            raise UsageError(f"choices {choices!r} are no ranks; write them as 1,2,4,8") from error
        if any(not 1 <= choice <= max(1, self.most) for choice in self.choices):
            raise UsageError(f"choices {choices!r} are not all ranks from 1 to {self.most}")

    def sampled_rank(self, step: int) -> int:
        if not self.choices:
            return super().sampled_rank(step)
        draw = torch.randint(len(self.choices), (), generator=seeded_generator(self.seed, "dylora", step))
        return self.choices[int(draw)]
