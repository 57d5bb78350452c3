r"""ALoRA: measure what each rank is worth by leaving it out and by leaving it alone, and move ranks accordingly.

    worth(i) = S(all) - S(all without i) + S(only i)        S = -L on a held-out batch, or the metric

At each event ``sample`` components of those that are on are measured (all, if None). Those of lowest worth are pruned,
``exchange`` of them but no more than half of what was measured, and their ranks go to the layers all of whose measured
ranks are kept, those of highest mean worth first. New components have b_i = 0. The sum of ranks never changes.

Liu et al., ALoRA: Allocating Low-Rank Adaptation for Fine-tuning Large Language Models, 2024, arXiv:2403.16187.

*Deviations*: the paper measures every rank of a super-network in rounds of training; here an event may measure a
sample, which costs 2 ``sample`` + 1 forward passes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import Budget, Timetable, dynamic_budget, gated_options, hand_out
from lorank.lowrank.forms.form import seeded_generator
from lorank.lowrank.forms.gated import Gated

Place = tuple[str, int]


@dynamic_budget("alora-allocate")
@catalogued(
    "alora-allocate",
    area="adapters.rank",
    title="ALoRA: Allocating Low-Rank Adaptation for Fine-tuning Large Language Models",
)
class ALoRA(Budget):
    """Moves ranks by ablation.

    Args:
        forms: gated forms with room to grow.
        total: ranks at every time.
        timetable: events.
        seed: of new components and of samples.
        exchange: ranks that move at an event, at most half of those measured; None takes an eighth of ``total``.
        sample: components measured at an event; None measures all.
        score: "loss" (held out) or "metric".
    """

    lr = 0.001
    form_options = gated_options(capacity=2.0, active="rank", gates="one", train_gates=False)

    def __init__(
        self,
        forms: Mapping[str, Gated],
        total: int,
        timetable: Timetable,
        *,
        seed: int = 0,
        exchange: int | None = None,
        sample: int | None = 32,
        score: Literal["loss", "metric"] = "loss",
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.exchange = max(1, total // 8) if exchange is None else exchange
        self.sample, self.score = sample, score
        self.needs = frozenset({"held_out_loss" if score == "loss" else "measure"})  # type: ignore[misc]
        self.start_with(total)

    @torch.no_grad()
    def worth(self, places: list[Place], index: int) -> dict[Place, float]:
        """Return what each component is worth, with the masks put back."""
        whole = self._value(index)
        worths = {}
        for path, i in places:
            with self.masked({(path, i)}, only=False):
                without = self._value(index)
            with self.masked({(path, i)}, only=True):
                alone = self._value(index)
            worths[path, i] = whole - without + alone
        return worths

    def _value(self, index: int) -> float:
        if self.score == "metric":
            assert self.signals.measure is not None
            return self.signals.measure()
        assert self.signals.held_out_loss is not None
        return -float(self.signals.held_out_loss(index))

    @contextmanager
    def masked(self, places: set[Place], only: bool) -> Iterator[None]:
        """Within it ``places`` are off, or all but they."""
        before = {path: form.mask.clone() for path, form in self.forms.items()}
        for path, form in self.forms.items():
            named = torch.tensor([(path, i) in places for i in range(form.components)], device=form.mask.device)
            form.mask.mul_(named if only else ~named)
        try:
            yield
        finally:
            for path, form in self.forms.items():
                form.mask.copy_(before[path])

    def event(self, step: int, steps: int) -> None:
        places = [(path, i) for path, form in self.forms.items() for i in form.on.nonzero().flatten().tolist()]
        if self.sample is not None and self.sample < len(places):
            order = torch.randperm(len(places), generator=seeded_generator(self.seed, "alora", step)).tolist()
            places = [places[k] for k in sorted(order[: self.sample])]
        worths = self.worth(places, self.timetable.events(steps).index(step))
        lowest = sorted(places, key=lambda place: worths[place])[: min(self.exchange, len(places) // 2)]
        losing = {path for path, _ in lowest}
        means = {
            path: sum(own) / len(own)
            for path in self.forms
            if path not in losing and (own := [w for (other, _), w in worths.items() if other == path])
        }
        free = {path: int((~self.forms[path].on).sum()) for path in means}
        shared = hand_out(means, free, len(lowest))
        gains = [path for path, count in shared.items() for _ in range(count)]
        for (path, index), gaining in zip(lowest, gains, strict=False):
            self.forms[path].mask[index] = 0.0
            new = int((~self.forms[gaining].on).nonzero()[0])
            self.forms[gaining].renew(new, step)
