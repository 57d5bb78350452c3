r"""NExt: from where low-rank training went, predict where it is going, and go there in one step.

    at checkpoints t of the first ``at`` of the run, for every layer, as rank-1 parts sigma u v^T:
        g_t = theta_t - theta_0,    l_t = theta_t - theta_{t-1},    target theta_{t+k} - theta_t,    theta = s B A
    then, once:  theta <- theta + c \hat{sigma} \hat{u} \hat{v}^T,  predicted from the last g and l; training goes on

Signs are agreed between checkpoints (`trajectory`), and one small network learns from all layers (`predictor`). c is
the one of 0, most / 8, most / 4, most / 2 and most at which the loss on lists that are never trained on is lowest, so
that a prediction which helps nothing is left out. What is added stands beside the trained factors as one frozen
component.

Z. Chen et al., Low-rank Optimization Trajectories Modeling for LLM RLVR Acceleration, 2026, arXiv:2604.11446. By the
paper 200 steps and a prediction stand for 350; it keeps a checkpoint each 10 steps and predicts 50 ahead.

*Deviations*: published code leaves the sign of u and v as each decomposition has it, which cannot be learned from, and
feeds vectors that are no matrices raw; here signs agree and only pairs A, B are predicted. It predicts from the last
checkpoint whose target is known, and here from the last of all. It merges LoRA before it goes on; here the trained
factors and Adam's moments stay. Checkpoints lie at shares of the run, so that runs of any length have them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.forms.form import Factors, seeded_generator
from lorank.lowrank.forms.lora import LoRA
from lorank.lowrank.rules.chain_of_lora import reserve
from lorank.lowrank.rules.predictor import Predictor
from lorank.lowrank.rules.rule import Losses, Pair, Rule, needed_pairs, rule
from lorank.lowrank.rules.trajectory import RankOne, Trajectory

FEWEST = 4
"""Steps of a run in which two checkpoints have a target and a third is predicted from."""


@rule("next-extrapolation")
@catalogued(
    "next-extrapolation",
    area="losses.rl",
    title="Low-rank Optimization Trajectories Modeling for LLM RLVR Acceleration",
)
@dataclass
class NextExtrapolation(Rule):
    """AdamW, and once in a run a predicted rank-1 step of every layer.

    State: ``2 * r * (out + width)`` values a pair; until the prediction also the factors of ``ahead`` + 1 checkpoints
    and three rank-1 matrices per checkpoint.

    Args:
        checkpoints: How many have a target, 2 or more; fewer where a run is short.
        ahead: k, in checkpoints, 1 or more.
        at: The share of the run after which the prediction is made, above 0 and at most 1.
        most: The largest c; 0 predicts nothing.
        batches: How many batches the loss that chooses c is a mean of.
        width: The units of the predictor's networks.
        fits: The steps by which they are fitted.
    """

    checkpoints: int = 15
    ahead: int = 5
    at: float = 0.8
    most: float = 4.0
    batches: int = 1
    width: int = 32
    fits: int = 200
    coefficient: float | None = field(default=None, init=False)
    losses_seen: tuple[float, float] = field(default=(0.0, 0.0), init=False, repr=False)
    _pairs: list[Pair] = field(default_factory=list, init=False, repr=False)
    _forms: list[LoRA] = field(default_factory=list, init=False, repr=False)
    _free: list[int] = field(default_factory=list, init=False, repr=False)
    _path: Trajectory = field(default_factory=lambda: Trajectory([]), init=False, repr=False)
    _losses: Losses | None = field(default=None, init=False, repr=False)
    _seed: int = field(default=0, init=False, repr=False)

    optimizes = False

    def __post_init__(self) -> None:
        if min(self.checkpoints - 1, self.ahead, self.batches, self.width) < 1 or min(self.fits, self.most) < 0:
            raise UsageError(
                "next-extrapolation needs checkpoints from 2 up, ahead, batches and width from 1 up, and fits and most "
                "from 0 up"
            )
        if not 0 < self.at <= 1:
            raise UsageError(f"at must be above 0 and at most 1; got {self.at}")

    def marks(self, steps: int) -> tuple[list[int], int]:
        """Return the steps after which a checkpoint is kept, and how many of them lie ahead of a target's own.

        >>> NextExtrapolation().marks(250)[0][-1], NextExtrapolation().marks(4)
        (200, ([1, 2, 3], 1))
        """
        last = max(3, int(self.at * steps))
        count = min(self.checkpoints + self.ahead, last)
        ahead = min(self.ahead, max(1, count // 4)) if count < self.checkpoints + self.ahead else self.ahead
        return [last * (i + 1) // count for i in range(count)], ahead

    def begin(self, adapter: Adapter, optimizer: torch.optim.Optimizer, steps: int, losses: Losses | None) -> None:
        """Keep the factors as they start, and room for one frozen component per layer.

        Args:
            adapter: The adapter, with pairs of trained factors.
            optimizer: It is not used.
            steps: The steps of the run, 4 or more.
            losses: The losses, of which the one on held-out lists chooses c.

        Raises:
            UsageError: For an adapter without pairs, a run that is too short, and a run without held-out lists.
        """
        self._pairs = needed_pairs(adapter, "next-extrapolation")
        if losses is None or losses.held_out is None:
            raise UsageError("next-extrapolation asks for a loss on lists that are not trained on, and there are none")
        if steps < FEWEST:
            raise UsageError(f"next-extrapolation reads a path, and a run of {steps} steps has none; give --steps 4")
        self._losses, self._seed = losses, adapter.settings.seed
        self._forms = [form for pair in self._pairs if isinstance(form := adapter.forms[pair.path], LoRA)]
        self._free = [reserve(form, 1) for form in self._forms]
        self._path = Trajectory(self._present())

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """Keep a checkpoint where one is due, and after the last one predict and step."""
        marks, ahead = self.marks(steps)
        if step not in marks or self.coefficient is not None:
            return
        self._path.record(marks.index(step) + 1, self._present(), ahead)
        if step == marks[-1]:
            layers = self._path.differences()
            predictor = Predictor(ahead, self.width, seeded_generator(self._seed, "next-extrapolation"))
            predictor.fit(layers, steps=self.fits)
            self._extend([predictor.predict(layer) for layer in layers])

    def _present(self) -> list[Factors]:
        return [Factors(p.A.detach().clone(), p.B.detach().clone(), p.scaling) for p in self._pairs]

    def _extend(self, predicted: list[RankOne]) -> None:
        """Add c times what is predicted, at the c of the lowest held-out loss."""
        coefficients = [0.0, *(self.most / 2**power for power in (3, 2, 1, 0))] if self.most else [0.0]
        found = []
        for c in coefficients:
            self._put(predicted, c)
            found.append(self._held_out())
        best = min(range(len(found)), key=lambda i: (math.isnan(found[i]), found[i], i))
        self._put(predicted, coefficients[best])
        self.coefficient, self.losses_seen = coefficients[best], (found[0], found[best])

    def _put(self, predicted: list[RankOne], coefficient: float) -> None:
        """Make the frozen component of each layer ``coefficient`` times what is predicted of it."""
        for form, place, each in zip(self._forms, self._free, predicted, strict=True):
            assert form.A0 is not None
            assert form.B0 is not None
            form.A0[place].copy_(each.v)
            form.B0[:, place].copy_(each.u * (-coefficient * each.sigma / form.scaling))

    def _held_out(self) -> float:
        assert self._losses is not None
        assert self._losses.held_out is not None
        return sum(float(self._losses.held_out(index)) for index in range(self.batches)) / self.batches

    def describe(self) -> str | None:
        """Return what the prediction did, None before it was made."""
        if self.coefficient is None:
            return None
        before, after = self.losses_seen
        if not self.coefficient:
            return f"next-extrapolation predicted a step and left it out: it lowered no held-out loss ({before:.4g})"
        return (
            f"next-extrapolation added {self.coefficient:g} times its prediction, and the held-out loss went from "
            f"{before:.4g} to {after:.4g}"
        )

    def state(self) -> dict[str, Tensor]:
        """Return the path so far, or what came of it."""
        if self.coefficient is None:
            return self._path.state()
        return {"done": torch.tensor([self.coefficient, *self.losses_seen], dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        self.coefficient = None
        if "done" not in state:
            self._path.load_state(state)
            return
        self.coefficient, before, after = state["done"].tolist()
        self.losses_seen = before, after
