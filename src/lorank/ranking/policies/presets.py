"""Published recipes of policy gradients as points on the axes: question, reward, advantage, plan, mix, objective.

Each name is a policy of `lorank train --policy NAME`. Those that are called by a kind of question are plain GRPO on it;
a published recipe changes what its paper changes and leaves the question and the reward to ``--reward``, where the
paper is not about one.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorank.catalogue import enter_method
from lorank.errors import unknown_name

QUESTIONS = ("setwise", "listwise", "groupwise", "exclude", "selection", "pointwise")
"""The kinds of question that a policy answers by written text."""

OBJECTIVES = ("clipped", "cloning", "dpo", "process")
"""What a step can minimise."""

USUAL_REWARD = {
    "setwise": "rank-r1",
    "listwise": "reasonrank",
    "groupwise": "grouprank",
    "exclude": "iranker",
    "selection": "ranked-list-rft",
    "pointwise": "erank",
}
"""The reward of each kind of question where none is named."""


@dataclass(frozen=True)
class PolicyRecipe:
    """How a language model is trained by reward.

    Attributes:
        question: What it is asked.
        reward: What its replies earn; "" is the usual reward of the question.
        advantage: How a reply is compared with others.
        credit: How the advantage of a reply is shared among its tokens.
        plan: How many replies each prompt gets.
        mix: How parts of the reward are weighed.
        samples: Replies per prompt on average.
        updates: Optimizer steps on the replies of one draw, or the most where their number is chosen.
        reuse: How that number is chosen.
        objective: What a step minimises: ``clipped``, the policy gradient with a clipped ratio; ``cloning``, the
            cross-entropy of the expert's reply; ``dpo``, the best reply of a draw against its worst; ``process``, the
            cross-entropy of what continuations from each step of a reply earn.
        thinking: Whether a thought is asked for before the answer.
        template: The prompt, where it is not the one of the question: a name in `lorank.ranking.judges.prompts`.
        clip_low: How far a ratio may fall below 1.
        clip_high: How far a ratio may rise above 1.
        divergence: The weight of the divergence from the model before training.
        options: Options of the reward, the advantage, the plan, the credit, the mix, the reuse and the objective, by
            name.
    """

    question: str = "setwise"
    reward: str = ""
    advantage: str = "group"
    credit: str = field(default="whole", kw_only=True)
    plan: str = "fixed"
    mix: str = "fixed"
    samples: int = 8
    updates: int = 1
    reuse: str = "fixed"
    clip_low: float = 0.2
    clip_high: float = 0.2
    divergence: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    objective: str = field(default="clipped", kw_only=True)
    thinking: bool = field(default=True, kw_only=True)
    template: str = field(default="", kw_only=True)


POLICIES: dict[str, PolicyRecipe] = {
    "setwise": PolicyRecipe(),
    "listwise": PolicyRecipe("listwise"),
    "groupwise": PolicyRecipe("groupwise"),
    "exclude": PolicyRecipe("exclude"),
    "selection": PolicyRecipe("selection"),
    "pointwise": PolicyRecipe("pointwise"),
    "erank": PolicyRecipe("pointwise", "erank"),
    "prorank": PolicyRecipe("pointwise", "prorank", thinking=False, template="binary"),
    "rank-r1": PolicyRecipe("setwise", "rank-r1"),
    "reasonrank": PolicyRecipe("listwise", "reasonrank"),
    "rank-grpo": PolicyRecipe("listwise", "rank-grpo", "per-rank"),
    "ranked-list-rft": PolicyRecipe("listwise", "ranked-list-rft"),
    "knapsack-rl": PolicyRecipe(plan="knapsack"),
    "reinforce-ada": PolicyRecipe(advantage="global-mean", plan="reinforce-ada", samples=4, clip_high=0.28),
    "e3-rl4llms": PolicyRecipe(plan="e3"),
    "unlikeliness-reward": PolicyRecipe(advantage="unlikeliness", updates=2, divergence=0.1),
    "dynamic-reward-weighting": PolicyRecipe("listwise", mix="hypervolume"),
    "constrained-rlhf": PolicyRecipe(reward="rank-r1+length", advantage="leave-one-out", mix="constrained"),
    "tp-grpo": PolicyRecipe(credit="thoughts", updates=2),
    "adept-rl": PolicyRecipe(updates=4, reuse="ucb"),
    "gazal-r1": PolicyRecipe(reward="label+format+length+repetition"),
    "adaptivestep": PolicyRecipe(objective="process"),
    "dynamicrag": PolicyRecipe("selection", "dynamicrag", divergence=0.1, objective="dpo", thinking=False),
}
"""Every policy by its name."""


def find_policy(name: str) -> PolicyRecipe:
    """Return the policy called ``name``; raise UsageError for an unknown one.

    >>> find_policy("reinforce-ada").advantage
    'global-mean'
    """
    if name not in POLICIES:
        raise unknown_name("policy", name, POLICIES)
    return POLICIES[name]


def reward_of(recipe: PolicyRecipe) -> str:
    """Return the reward's name, that of the question where the recipe names none."""
    return recipe.reward or USUAL_REWARD[recipe.question]


def options_of(recipe: PolicyRecipe) -> dict[str, tuple[str, ...]]:
    """Return the names of the options of the reward, the advantage, the credit, the plan, the mix, ...

    >>> options_of(find_policy("reinforce-ada"))["plan"]
    ('rounds', 'round_size', 'leave', 'threshold')
    """
    from lorank.ranking.policies.advantages import find_advantage
    from lorank.ranking.policies.credits import find_credit
    from lorank.ranking.policies.mixes import MIXES, make_mix
    from lorank.ranking.policies.plans import PLANS, make_plan
    from lorank.ranking.policies.reuse import REUSES, make_reuse
    from lorank.ranking.policies.rewards import find_rewards
    from lorank.ranking.policies.steps import step_options

    if recipe.plan not in PLANS:
        make_plan(recipe.plan, 2)
    if recipe.mix not in MIXES:
        make_mix(recipe.mix, (1.0,))
    if recipe.reuse not in REUSES:
        make_reuse(recipe.reuse, 1)
    makers: dict[str, Callable[..., Any]] = {
        "reward": find_rewards(reward_of(recipe), recipe.question).rewards[0].score,
        "advantage": find_advantage(recipe.advantage),
        "credit": find_credit(recipe.credit),
        "plan": PLANS[recipe.plan],
        "mix": MIXES[recipe.mix],
        "reuse": REUSES[recipe.reuse],
        "objective": step_options if recipe.objective == "process" else lambda: None,
    }
    return {
        part: tuple(p.name for p in inspect.signature(maker).parameters.values() if p.kind is p.KEYWORD_ONLY)
        for part, maker in makers.items()
    }


def split_options(recipe: PolicyRecipe) -> dict[str, dict[str, Any]]:
    """Return the options of each part; an option that two parts have goes to the first.

    Raises:
        UsageError: For an option that no part has.
    """
    known = options_of(recipe)
    given: dict[str, dict[str, Any]] = {part: {} for part in known}
    for option, value in recipe.options.items():
        part = next((part for part, names in known.items() if option in names), None)
        if part is None:
            raise unknown_name("option of the policy:", option, [name for names in known.values() for name in names])
        given[part][option] = value
    return given


enter_method(
    "rank-r1",
    area="rerank",
    title="Rank-R1: Enhancing Reasoning in LLM-based Document Rerankers via Reinforcement Learning",
    location="lorank.ranking.policies.rewards.rank_r1:rank_r1",
)
enter_method(
    "reasonrank",
    area="rerank",
    title="ReasonRank: Empowering Passage Ranking with Strong Reasoning Ability",
    location="lorank.ranking.policies.rewards.lists:reasonrank",
)
enter_method(
    "rank-grpo",
    area="losses.rl",
    title="Rank-GRPO: Training LLM-based Conversational Recommender Systems with Reinforcement Learning",
    location="lorank.ranking.policies.rewards.lists:rank_grpo",
)
enter_method(
    "ranked-list-rft",
    area="losses.rl",
    title="Single Answer is Not Enough: On Generating Ranked Lists with Medical Reasoning Models",
    location="lorank.ranking.policies.rewards.lists:ranked_list",
)
enter_method(
    "knapsack-rl",
    area="losses.rl",
    title="Knapsack RL: Unlocking Exploration of LLMs via Optimizing Budget Allocation",
    location="lorank.ranking.policies.plans.knapsack:Knapsack",
)
enter_method(
    "reinforce-ada",
    area="losses.rl",
    title="Reinforce-Ada: An Adaptive Sampling Framework for Reinforce-Style LLM Training",
    location="lorank.ranking.policies.plans.reinforce_ada:ReinforceAda",
)
enter_method(
    "e3-rl4llms",
    area="losses.rl",
    title="Enhancing Efficiency and Exploration in Reinforcement Learning for LLMs",
    location="lorank.ranking.policies.plans.e3:E3",
)
enter_method(
    "unlikeliness-reward",
    area="losses.rl",
    title="Rewarding the Unlikely: Lifting GRPO Beyond Distribution Sharpening",
    location="lorank.ranking.policies.advantages.unlikeliness:unlikeliness",
)
enter_method(
    "dynamic-reward-weighting",
    area="losses.rl",
    title="Learning to Optimize Multi-Objective Alignment Through Dynamic Reward Weighting",
    location="lorank.ranking.policies.mixes.hypervolume:HypervolumeMix",
)
enter_method(
    "gazal-r1",
    area="losses.rl",
    title="Gazal-R1: Achieving State-of-the-Art Medical Reasoning with Parameter-Efficient Two-Stage Training",
    location="lorank.ranking.policies.rewards.shape:repetition",
)
