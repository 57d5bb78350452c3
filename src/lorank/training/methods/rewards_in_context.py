"""Rewards-in-Context's two stages: replies with their own rewards in the prompt, then replies to what was asked for.

Offline, the model learns the given replies, each under a prompt with the rewards it has. Online, weights of
preference are drawn, the model replies to what they ask for, replies near the front of all that was seen so far are
kept with the rewards that they really have, and the model learns these beside a share of the offline ones. Every stage
is one run of `fit` with the loss ``sft``; between stages the update is merged.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lorank.catalogue import catalogued
from lorank.data.rows import read_rows
from lorank.errors import UsageError
from lorank.files import write_text
from lorank.ranking.preferences.perl import Reward, draw_replies
from lorank.ranking.preferences.rewards_in_context import RewardScale, condition_prompt, near_front
from lorank.ranking.scorers.causal import CausalRanker
from lorank.training.fitting import fit
from lorank.training.settings import LossSettings, Recipe
from lorank.tuned.export import MERGING, export
from lorank.tuned.ranker import TunedRanker


@dataclass(frozen=True)
class OnlineSettings:
    """What an online stage draws: ``draws`` replies, those within ``slack`` of the front (in deviations) are kept.

    ``rehearsed`` is the share of the offline rows that is learned beside them, ``max_tokens`` the longest reply.
    """

    stages: int = 1
    draws: int = 256
    slack: float = 0.25
    rehearsed: float = 0.5
    max_tokens: int = 64


@dataclass(frozen=True)
class ConditionedPolicy:
    """A policy that writes for rewards, given as weights of preference; ``kept`` online replies by stage."""

    tuned: TunedRanker
    scale: RewardScale
    kept: tuple[int, ...] = ()

    def prompt(self, prompt: str, weights: Sequence[float], p: float = 2.0) -> str:
        """Return the prompt with the rewards that ``weights`` ask for."""
        return condition_prompt(prompt, self.scale.targets(weights, p).tolist())

    def replies(
        self,
        prompt: str,
        weights: Sequence[float],
        count: int = 1,
        *,
        p: float = 2.0,
        max_tokens: int = 64,
        seed: int = 0,
    ) -> list[str]:
        """Return replies drawn for the rewards that weights of preference ask for.

        Args:
            prompt: The prompt without rewards.
            weights: The weight of each reward, 0 or more, not all 0; only their ratios matter.
            count: The number of replies, 1 or more.
            p: The exponent, above 1, of the norm whose ball the attainable rewards are taken for.
            max_tokens: The most tokens of a reply, 1 or more.
            seed: The seed of the draws.
        """
        return self.replies_for(
            prompt, self.scale.targets(weights, p).tolist(), count, max_tokens=max_tokens, seed=seed
        )

    def replies_for(
        self, prompt: str, targets: Sequence[float], count: int = 1, *, max_tokens: int = 64, seed: int = 0
    ) -> list[str]:
        """Return replies drawn for standardised rewards.

        Args:
            prompt: The prompt without rewards.
            targets: The rewards to ask for, in units of ``scale``.
            count: The number of replies, 1 or more.
            max_tokens: The most tokens of a reply, 1 or more.
            seed: The seed of the draws.
        """
        return draw_replies(self.tuned.ranker, condition_prompt(prompt, targets), count, max_tokens, seed)  # type: ignore


@catalogued(
    "rewards-in-context",
    area="losses.preference",
    title="Rewards-in-Context: Multi-objective Alignment of Foundation Models with Dynamic Preference Adjustment",
    reach="Python alone: it takes the rewards as functions",
)
def condition_on_rewards(
    base: str | Path,
    rows: Sequence[tuple[str, str]],
    rewards: Sequence[Reward],
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    online: OnlineSettings | None = None,
    seed: int = 0,
) -> ConditionedPolicy:
    """Tune a causal language model to write for the rewards in its prompt.

    Args:
        base: The model.
        rows: Prompts with replies; their rewards are found here.
        rewards: One or more rewards of replies to a prompt.
        out: Folder of the stages: ``stage-0`` is offline, ``stage-1`` and on are online.
        recipe: Of every stage; its loss is ``sft``.
        online: How many online stages and what they draw; ``stages=0`` leaves it at the offline one.
        seed: Of draws.
    """
    online, recipe = online or OnlineSettings(), replace(recipe or Recipe(), loss=LossSettings("sft"))
    if not rows or not rewards or online.stages < 0 or online.draws < 1 or not 0 <= online.rehearsed <= 1:
        raise UsageError(
            f"give rows ({len(rows)}), rewards ({len(rewards)}), stages of 0 or more ({online.stages}), "
            f"draws of 1 or more ({online.draws}) and a rehearsed share from 0 to 1 ({online.rehearsed})"
        )
    rng, out = np.random.default_rng(seed), Path(out)
    earned = rewards_of(rows, rewards)
    scale = RewardScale.fit(earned)
    tuned = _learn(base, rows, scale.standardise(earned), out / "stage-0", recipe)
    seen, kept = scale.standardise(earned), []
    for stage in range(1, online.stages + 1):
        policy = ConditionedPolicy(tuned, scale)
        drawn, asked = _draw(policy, [prompt for prompt, _ in rows], online, rng), len(seen)
        seen = np.concatenate([seen, scale.standardise(rewards_of(drawn, rewards))])
        good = np.flatnonzero(near_front(seen, online.slack)[asked:])
        again = rng.permutation(len(rows))[: round(online.rehearsed * len(rows))]
        merged = out / f"merged-{stage}"
        export(tuned, merged, "merged", limit=MERGING)
        tuned = _learn(
            merged,
            [*(drawn[i] for i in good), *(rows[i] for i in again)],
            np.concatenate([seen[asked:][good], seen[again]]),
            out / f"stage-{stage}",
            recipe,
        )
        kept.append(len(good))
    return ConditionedPolicy(tuned, scale, tuple(kept))


def rewards_of(rows: Sequence[tuple[str, str]], rewards: Sequence[Reward]) -> np.ndarray:
    """Return the rewards [rows, rewards] of replies to their prompts."""
    return np.array([[float(reward(prompt, [reply])[0]) for reward in rewards] for prompt, reply in rows])


def _draw(
    policy: ConditionedPolicy, prompts: Sequence[str], online: OnlineSettings, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Return prompts with replies to targets of weights drawn evenly from the simplex; empty replies are left out."""
    drawn = []
    for _ in range(online.draws):
        prompt, weights = prompts[int(rng.integers(len(prompts)))], rng.dirichlet(np.ones(len(policy.scale.mean)))
        (reply,) = policy.replies(prompt, weights.tolist(), max_tokens=online.max_tokens, seed=int(rng.integers(2**62)))
        if reply.strip():
            drawn.append((prompt, reply))
    return drawn


def _learn(
    base: str | Path, rows: Sequence[tuple[str, str]], rewards: np.ndarray, out: Path, recipe: Recipe
) -> TunedRanker:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "rows.jsonl"
    write_text(
        path,
        "".join(
            json.dumps({"query": condition_prompt(prompt, own), "docs": [reply], "labels": [1]}) + "\n"
            for (prompt, reply), own in zip(rows, rewards.tolist(), strict=True)
        ),
    )
    return fit(CausalRanker(base, view="log-ratio", beta=1.0), read_rows(path), out=out, recipe=recipe)
