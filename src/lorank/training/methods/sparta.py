"""SPARTA's rounds: models duel and vote, and every one of them is tuned by DPO on what the vote preferred.

A round's reference is the model as the round found it. Between rounds each model is written out with its update merged
and stands as the next round's base; reputations go on.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lorank.catalogue import catalogued
from lorank.data.rows import read_rows
from lorank.errors import LorankError, UsageError
from lorank.files import write_text
from lorank.ranking.judges import Judge
from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.preferences.sparta import Duel, Policy, Reputations, duels
from lorank.ranking.scorers.causal import CausalRanker
from lorank.training.fitting import fit
from lorank.training.settings import Recipe
from lorank.tuned.export import MERGING, export
from lorank.tuned.ranker import TunedRanker

Judging = Callable[[int, CausalRanker], Judge]
"""From a model's number and the model to how it judges."""


@dataclass(frozen=True)
class Combat:
    """The tuned models, their reputations at the end, and all duels by round."""

    models: list[TunedRanker]
    reputations: Reputations
    rounds: list[list[Duel]]


def ask_for_score(number: int, model: CausalRanker) -> Judge:
    """Return the model as its own judge: the expected score from 0 to 10 that it gives a reply."""
    return CausalJudge(model.module, model.tokenizer, pointwise="expected")


@catalogued(
    "sparta",
    area="losses.preference",
    title="SPARTA ALIGNMENT: Collectively Aligning Multiple Language Models through Combat",
    reach="Python alone: it takes several bases and prompts, where a recipe has one base and a collection",
)
def align_by_combat(
    bases: Sequence[str | Path],
    prompts: Sequence[str],
    out: str | Path,
    *,
    rounds: int = 2,
    per_round: int = 64,
    recipe: Recipe | None = None,
    judging: Judging = ask_for_score,
    max_tokens: int = 64,
    near: int = 3,
    beta: float = 0.1,
    seed: int = 0,
) -> Combat:
    """Let models duel, vote and learn from the outcomes; return them tuned.

    Args:
        bases: Three causal language models or more.
        prompts: Instructions, a dozen different ones or more: `fit` holds some of them out; each round draws anew.
        out: Folder of the rounds: ``round-1/pairs.jsonl``, ``round-1/model-0/`` and so on.
        rounds: How often all of them learn.
        per_round: Duels of a round.
        recipe: Of the tuning; its loss is DPO, and each model has a seed of its own.
        judging: How a model judges; by default it is asked for a score from 0 to 10.
        max_tokens: Of a reply.
        near: Opponents are drawn among so many of the closest in reputation.
        beta: Scale of the log-ratio.
        seed: Of pairs and replies.

    Raises:
        LorankError: Where a round's votes prefer nothing: every vote even, or all replies alike.
    """
    if len(bases) < 3 or rounds < 1 or per_round < 1 or not prompts:
        raise UsageError(
            f"a combat needs three models or more ({len(bases)}), prompts ({len(prompts)}), and rounds "
            f"({rounds}) and duels ({per_round}) of 1 or more"
        )
    recipe, generator = recipe or Recipe(), np.random.default_rng(seed)
    reputations, history = Reputations(np.zeros(len(bases))), []
    tuned: list[TunedRanker] = []
    for number in range(1, rounds + 1):
        folder = Path(out) / f"round-{number}"
        models = [CausalRanker(base, view="log-ratio", beta=beta) for base in bases]
        contestants = [Policy(model, judging(i, model), max_tokens) for i, model in enumerate(models)]
        asked = [prompts[i] for i in generator.integers(len(prompts), size=per_round)]
        history.append(duels(contestants, asked, reputations, near=near, generator=generator))
        pairs = write_pairs(history[-1], folder / "pairs.jsonl")
        tuned = [
            fit(
                model,
                read_rows(pairs),
                loss="dpo",
                out=folder / f"model-{i}",
                recipe=replace(recipe, seed=recipe.seed + i),
            )
            for i, model in enumerate(models)
        ]
        if number < rounds:
            bases = [folder / f"merged-{i}" for i in range(len(tuned))]
            for model, base in zip(tuned, bases, strict=True):
                export(model, base, "merged", limit=MERGING)
    return Combat(tuned, reputations, history)


def write_pairs(fought: Sequence[Duel], path: Path) -> Path:
    """Write what the duels prefer as training rows and return the path."""
    rows = [row for each in fought if (row := each.row) is not None]
    if not rows:
        raise LorankError(
            f"none of {len(fought)} duels has a winner: every vote was even, or the replies alike; give "
            "more duels, longer replies, or judges that tell replies apart"
        )
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path
