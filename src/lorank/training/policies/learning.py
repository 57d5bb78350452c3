r"""The loss of a step by reward: draw replies, score them, compare them, and take a clipped step.

    value  = -(mean reward of the replies that were drawn)
    gradient = that of the clipped objective (`lorank.ranking.policies.objective`), or of pairs (objective ``dpo``)

The objective ``cloning`` draws no replies: value and gradient are those of the cross-entropy of the expert's replies.

With several updates per draw, a fixed number or one that a bandit chooses, the replies of one draw serve so many
steps, whose own lists are passed over; the replies and their old log-probabilities are in the checkpoint. Everything
that is drawn comes from the seed of its step, so a run that was killed and resumed is the run that was not.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from lorank.ranking.policies.advantages import Replies, compute_advantages
from lorank.ranking.policies.best_of import cut_replies
from lorank.ranking.policies.credits import Reply, find_credit
from lorank.ranking.policies.mixes import RewardMix, make_mix
from lorank.ranking.policies.objective import clipped_objective
from lorank.ranking.policies.plans import make_plan
from lorank.ranking.policies.presets import PolicyRecipe, reward_of, split_options
from lorank.ranking.policies.reuse import make_reuse
from lorank.ranking.policies.rewards import Asked, find_rewards
from lorank.ranking.policies.steps import step_options
from lorank.ranking.policies.writing import Writer
from lorank.training.lists.batches import ListBatch
from lorank.training.lists.list_loss import seed_of, trains_in_bf16
from lorank.training.policies.drawn import Drawn
from lorank.training.policies.generating import Generator
from lorank.training.policies.objectives import cloned, cloning_loss, pair_loss, paired
from lorank.training.policies.process import label_steps, labelled, process_loss
from lorank.training.policies.questions import Posed, Questioner
from lorank.training.settings import OptimizerSettings


class RewardLearning:
    """The loss of one run, with what it remembers between steps.

    Args:
        policy: The resolved policy.
        questioner: Makes the questions.
        writer: Draws the replies.
        temperature: At which replies are drawn.
        parameters: What is trained.
        generator: What the reward lets write with selected documents, where it judges that.
    """

    def __init__(
        self,
        policy: PolicyRecipe,
        questioner: Questioner,
        writer: Writer,
        temperature: float,
        parameters: Sequence[Tensor],
        generator: Generator | None = None,
    ) -> None:
        self.generator = generator
        options = split_options(policy)
        self.policy, self.questioner, self.writer = policy, questioner, writer
        self.temperature, self.parameters = temperature, [p for p in parameters if p.requires_grad]
        self.scoring = find_rewards(reward_of(policy), policy.question, **options["reward"])
        self.plan = make_plan(policy.plan, policy.samples, **options["plan"])
        self.mix: RewardMix = make_mix(policy.mix, self.scoring.weights, **options["mix"])
        self.reuse = make_reuse(policy.reuse, policy.updates, **options["reuse"])
        self.advantage_options, self.credit_options = options["advantage"], options["credit"]
        self.share, self.rollouts, self.aggregate = step_options(**options["objective"])
        self.drawn: Drawn | None = None
        self.left, self.draws, self.updates = 0, 0, 0
        self.steps_done, self.steps = 0, 1
        self.sums, self.count = torch.zeros(len(self.scoring.parts), dtype=torch.float64), 0

    def batch_loss(
        self,
        ranker: Any,
        inputs: Any,
        batch: ListBatch,
        loss: Any,
        settings: OptimizerSettings,
        step_seed: int,
        device: torch.device,
    ) -> Tensor:
        """Return minus the mean reward of a step's replies, whose gradient is the policy gradient.

        Args:
            ranker: Its ``reference`` gives the model before training.
            inputs: Not used.
            batch: The lists of the step.
            loss: Not used.
            settings: The settings of the loop, of which the precision is read.
            step_seed: The seed of all draws of the step.
            device: The device of the model.
        """
        half = trains_in_bf16(settings.precision, device)
        with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
            if self.drawn is None or self.left == 0:
                self.drawn = self._draw(batch, step_seed, ranker.reference)
            self.left -= 1
            self.steps_done += 1
            value = self._objective(self.drawn, ranker.reference)
        return value if self.supervised else value - value.detach() - self.drawn.earned

    @property
    def clones(self) -> bool:
        """Whether the expert's replies are imitated."""
        return self.policy.objective == "cloning"

    @property
    def supervised(self) -> bool:
        """Whether the value of a step is a loss, and not what replies earned."""
        return self.policy.objective in ("cloning", "process")

    def earn(self, texts: Sequence[str], posed: Sequence[Posed]) -> Tensor:
        """Return the rewards [replies] of replies to questions.

        Args:
            texts: The replies.
            posed: Their questions.
        """
        return self._rewards(self.score(texts, posed))

    def score(self, texts: Sequence[str], posed: Sequence[Posed]) -> Tensor:
        """Return the parts of the reward [replies, parts] of replies to questions.

        Args:
            texts: The replies.
            posed: Their questions.
        """
        asked = [each.asked for each in posed]
        return self.scoring(texts, asked if self.generator is None else self.generator.answered(texts, posed))

    def loss_apart(self, *given: Any, **named: Any) -> Tensor:
        """Return the loss of a batch that is no step of the run, on replies of its own, and forget both.

        Hooks take it: what is drawn for them is neither learned from again nor shown as what training earned.

        Args:
            given: The arguments of ``batch_loss``.
            named: The same by name.
        """
        kept = self.state_dict()
        self.left = 0
        try:
            return self.batch_loss(*given, **named)
        finally:
            self.load_state_dict(kept)

    def _draw(self, batch: ListBatch, seed: int, reference: Any) -> Drawn:
        """Draw the replies of a step as the plan says, compare what they earned, and choose how many steps they get."""
        self.left = 1
        posed = self.questioner.pose(batch, seed)
        owners: list[int] = []
        replies: list[list[int]] = []
        parts: list[Tensor] = []
        heat = self.temperature * self.plan.temperature

        def draw(places: Sequence[int]) -> Tensor:
            wanted = [posed[place] for place in places]
            written = self.writer.write(
                [each.prompt for each in wanted], temperature=heat, seed=seed_of(seed, len(replies), 0, 0)
            )
            earned = self.score(self.writer.texts(written), wanted)
            owners.extend(places)
            replies.extend(written)
            parts.append(earned)
            return self._rewards(earned)

        if not posed or self.clones:
            return cloned(posed, self.writer)
        if self.policy.objective == "process":
            return self._steps(posed, seed, reference)
        generator = torch.Generator().manual_seed(seed)
        kept = self.plan.sample([each.query for each in posed], draw, generator)
        table = _stacked(parts)
        self._note(table)
        rewards = table if self.scoring.places else self._rewards(table)
        earned = float(self._rewards(table).mean())
        self.reuse.observe(earned)
        chosen = [posed[owners[i]].prompt for i in kept.replies]
        written = [replies[i] for i in kept.replies]
        if not kept.replies:
            return Drawn([], [], torch.zeros(0), torch.zeros(0, 0), earned, heat)
        self.left = self.reuse.choose(generator)
        self.draws, self.updates = self.draws + 1, self.updates + self.left
        groups = torch.tensor([owners[i] for i in kept.replies])
        if self.policy.objective == "dpo":
            whole = Drawn(chosen, written, torch.zeros(len(chosen)), torch.zeros(0, 0), earned, heat)
            return paired(whole, self._rewards(table)[kept.replies], groups)
        with torch.no_grad():
            reads = self.left > 1 or self.policy.advantage == "unlikeliness"
            logs = self.writer.log_probs(chosen, written, heat) if reads else None
        group = Replies(
            rewards[kept.replies], groups, None if logs is None else logs.means().float().cpu(), kept.baselines
        )
        gains = compute_advantages(self.policy.advantage, group, **self.advantage_options)
        if self.policy.credit != "whole":
            asked = [posed[owners[i]].asked for i in kept.replies]
            rates = Replies(self._rewards(table).clamp(0, 1), torch.tensor(owners)).means()[kept.replies]
            gains = self._credit(written, asked, gains.tolist(), rates.tolist())
        self._influences(chosen, written, table[kept.replies], groups, heat)
        if self.plan.reads_entropy:
            self.plan.observe_entropy(self.writer.entropy(chosen, written, heat), self.steps_done / self.steps)
        old = torch.zeros(0, 0) if logs is None or self.left == 1 else logs.logs.detach()
        return Drawn(chosen, written, gains, old, earned, heat)

    def _steps(self, posed: Sequence[Posed], seed: int, reference: Any) -> Drawn:
        """Return replies of the model before training with the labels of their steps."""
        asked = [each for each in posed for _ in range(self.policy.samples)]
        prompts, heat = [each.prompt for each in asked], self.temperature
        with reference():
            replies = self.writer.write(prompts, temperature=heat, seed=seed)
            ends = cut_replies(self.writer, prompts, replies, self.share)
            then = seed_of(seed, len(replies), 0, 0)
            labels = label_steps(self.writer, asked, replies, ends, self.earn, self.rollouts, heat, then)
        torch.clear_autocast_cache()  # weights cast in there know no gradient
        return labelled(asked, replies, ends, labels, heat)

    def _objective(self, drawn: Drawn, reference: Any) -> Tensor:
        """Return the clipped objective of a draw; replies without an advantage are read only for the divergence."""
        still = sum((p.sum() * 0.0 for p in self.parameters[:1]), torch.zeros(()))
        if self.policy.objective != "clipped" and not drawn.replies:
            return still
        if self.clones:
            return cloning_loss(self.writer, drawn)
        if self.policy.objective == "process":
            return process_loss(self.writer, drawn, self.questioner.judge.yes_no())
        if self.policy.objective == "dpo":
            return pair_loss(self.writer, drawn, reference(), self.policy.divergence)
        matters = drawn.advantages.abs().reshape(len(drawn.replies), -1).sum(1) > 0
        rows = range(len(drawn.replies)) if self.policy.divergence else matters.nonzero().flatten().tolist()
        rows = list(rows)
        if not rows:
            return still
        prompts, replies = [drawn.prompts[i] for i in rows], [drawn.replies[i] for i in rows]
        before = None
        if self.policy.divergence:
            opened: AbstractContextManager[Any] = reference()
            with opened, torch.no_grad():
                before = self.writer.log_probs(prompts, replies, drawn.temperature).logs
            torch.clear_autocast_cache()  # weights cast in there know no gradient
        found = self.writer.log_probs(prompts, replies, drawn.temperature)
        width = found.logs.shape[1]
        old = found.logs.detach() if not drawn.old_logs.numel() else drawn.old_logs.to(found.logs)[rows][:, -width:]
        gains = drawn.advantages.to(found.logs)[rows]
        units = None
        if gains.dim() == 2 and not self.scoring.places:
            gains = gains[:, -width:]
        elif gains.dim() == 2:
            units = torch.tensor([self._places(reply, width, gains.shape[1]) for reply in replies], device=gains.device)
            gains = gains.gather(1, units)
        value = clipped_objective(
            found.logs,
            old,
            gains,
            found.mask,
            units=units,
            reference_log_probs=before,
            clip_low=self.policy.clip_low,
            clip_high=self.policy.clip_high,
            beta=self.policy.divergence,
        )
        return value * (len(rows) / len(drawn.replies)) + still

    def _credit(
        self, replies: Sequence[list[int]], asked: Sequence[Asked], gains: Sequence[float], rates: Sequence[float]
    ) -> Tensor:
        """Return the advantage of each token [replies, tokens], aligned at the end, 0 before a reply."""
        share = find_credit(self.policy.credit)
        rows = []
        for reply, question, gain, rate in zip(replies, asked, gains, rates, strict=True):
            rows.append(share(Reply(self.writer.pieces(reply), question, gain, rate), **self.credit_options))
        longest = max(map(len, rows))
        return torch.tensor([[0.0] * (longest - len(row)) + row for row in rows])

    def _places(self, reply: Sequence[int], width: int, places: int) -> list[int]:
        """Return the rank of the list that each token belongs to, aligned at the end: how many closed before it."""
        found, closed = [], 0
        for piece in self.writer.pieces(reply):
            found.append(min(closed, places - 1))
            closed += piece.count("]")
        return [0] * (width - len(found)) + found

    def _rewards(self, table: Tensor) -> Tensor:
        """Return one number per reply: the mix of its parts, or of places the return of the first."""
        return table[:, 0] if self.scoring.places else self.mix(table)

    def _influences(
        self,
        prompts: Sequence[list[int]],
        replies: Sequence[list[int]],
        table: Tensor,
        groups: Tensor,
        temperature: float,
    ) -> None:
        """Let a mix that reads gradients see that of each part's objective."""
        if not self.mix.reads_gradients:
            return
        logs = self.writer.log_probs(prompts, replies, temperature)
        found = []
        for part in range(table.shape[1]):
            gains = compute_advantages("group", Replies(table[:, part], groups)).to(logs.logs)
            value = (gains.unsqueeze(1) * logs.logs * logs.mask).sum(1).mean()
            rows = torch.autograd.grad(value, self.parameters, retain_graph=True, allow_unused=True)
            found.append(
                torch.cat(
                    [
                        (torch.zeros_like(p) if row is None else row).flatten().float()
                        for p, row in zip(self.parameters, rows)
                    ]
                )
            )
        self.mix.observe_gradients(found)

    def _note(self, table: Tensor) -> None:
        """Add what was earned to the sums that the journal shows, and let the mix see the step's means."""
        means = table.double().mean(0)
        if not self.scoring.places:
            self.mix.observe_step(means.tolist())
        self.sums += (table[:, :1].double() if self.scoring.places else table.double()).sum(0)
        self.count += len(table)

    def take_means(self) -> dict[str, float]:
        """Return the mean of each part over the replies that were drawn since the last call.

        Where the number of steps per draw is chosen its mean stands beside them.
        """
        if self.supervised:
            return {}
        means = (self.sums / max(1, self.count)).tolist()
        shown = {"updates": self.updates / max(1, self.draws)} if self.reuse.adapts else {}
        self.sums, self.count, self.draws, self.updates = torch.zeros_like(self.sums), 0, 0, 0
        return dict(zip(self.scoring.parts, means, strict=True)) | shown

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds: the memory of plan, mix and reuse, and the replies of the present draw."""
        counters = [self.left, self.steps_done, self.count, self.draws, self.updates]
        state = {"counters": torch.tensor(counters), "sums": self.sums.clone()}
        held = self.drawn.state() if self.drawn is not None and self.left else {}
        memories = {
            "plan": self.plan.state_dict(),
            "mix": self.mix.state_dict(),
            "reuse": self.reuse.state_dict(),
            "drawn": held,
        }
        for prefix, part in memories.items():
            state |= {f"{prefix}/{key}": value for key, value in part.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state_dict`` gave."""
        self.left, self.steps_done, self.count, self.draws, self.updates = map(int, state["counters"])
        self.sums = state["sums"].clone()
        parts = {
            prefix: {key.removeprefix(f"{prefix}/"): v for key, v in state.items() if key.startswith(f"{prefix}/")}
            for prefix in ("plan", "mix", "reuse", "drawn")
        }
        if parts["plan"]:
            self.plan.load_state_dict(parts["plan"])
        if parts["mix"]:
            self.mix.load_state_dict(parts["mix"])
        if parts["reuse"]:
            self.reuse.load_state_dict(parts["reuse"])
        self.drawn = Drawn.of_state(parts["drawn"]) if parts["drawn"] else None


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Return tables [n, parts] one above the other, padded to the widest with 0."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])
