"""From the settings of a recipe to the policy that is trained: the named recipe with what is stated in its place."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorank.errors import UsageError, unknown_name
from lorank.ranking.judges.prompts import Prompts
from lorank.ranking.policies.mixes import MIXES, make_mix
from lorank.ranking.policies.plans import PLANS, make_plan
from lorank.ranking.policies.presets import PolicyRecipe, find_policy, options_of, reward_of, split_options
from lorank.ranking.policies.reuse import REUSES, make_reuse
from lorank.ranking.policies.rewards import find_rewards
from lorank.ranking.policies.steps import step_options
from lorank.training.settings import PolicySettings, Recipe

NONE, AUTO = "none", "auto"
WORDS = ("question", "reward", "advantage", "credit", "plan", "mix", "reuse", "objective")
NUMBERS = ("samples", "updates", "clip_low", "clip_high", "divergence", "thinking")
PATHS = ("prompts", "answers", "generator")
UNUSED = {
    "clipped": (),
    "cloning": tuple(key for key in (*WORDS[2:-1], *NUMBERS[:-1])),
    "dpo": ("advantage", "credit", "clip_low", "clip_high"),
    "process": ("advantage", "credit", "plan", "reuse", "updates", "clip_low", "clip_high", "divergence"),
}
"""By objective: the keys that mean nothing to it."""


def resolve_policy(settings: PolicySettings) -> PolicyRecipe:
    """Return the policy that the settings name, with what they state in place of its own.

    A stated question whose reward is not stated has the usual reward of that question. Cloning asks for no thought,
    and dev then measures how near replies are to the expert's, where no reward is stated.

    >>> resolve_policy(PolicySettings("reinforce-ada", samples=6)).samples
    6
    """
    recipe = find_policy(settings.name)
    stated = {key: getattr(settings, key) for key in WORDS if getattr(settings, key) != AUTO}
    stated |= {key: getattr(settings, key) for key in NUMBERS if getattr(settings, key) is not None}
    if stated.get("question", recipe.question) != recipe.question:
        stated |= {"reward": stated.get("reward", ""), "template": ""}
    if stated.get("objective", recipe.objective) == "cloning":
        stated["reward"] = stated.get("reward") or "expert"
        stated.setdefault("thinking", False)
    return replace(recipe, **stated, options={**recipe.options, **settings.options})


def policy_options(names: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the options of the parts that ``names`` (``policy.name``, ``policy.plan``, ...) choose."""
    if names.get("policy.name", NONE) == NONE:
        return ()
    chosen = PolicySettings(
        names["policy.name"],
        **{key: value for key in WORDS if (value := names.get(f"policy.{key}", AUTO)) != AUTO},
    )
    return tuple(option for options in options_of(resolve_policy(chosen)).values() for option in options)


def check_policy(recipe: Recipe) -> None:
    """Raise UsageError for a policy that cannot be: parts that do not go together, and runs that it has no place in."""
    settings = recipe.policy
    if settings.name == NONE:
        stated = [key for key in (*WORDS, *NUMBERS, *PATHS) if getattr(settings, key) not in (AUTO, None)]
        if stated or settings.options:
            what = (stated or list(settings.options))[0]
            raise UsageError(f"policy.{what}: no policy is named; give --policy setwise, or another")
        return
    policy = resolve_policy(settings)
    _check_values(policy)
    _check_objective(settings, policy)
    if settings.prompts is not None:
        if not Path(settings.prompts).is_dir():
            raise UsageError(f"policy.prompts: no folder of prompts at {settings.prompts}")
        Prompts.load(settings.prompts)
    kind, loss = getattr(recipe, "kind", None), recipe.loss.name
    if kind not in (None, "causal"):
        raise UsageError(f"policy {settings.name!r} writes text, and --kind {kind} does not; use --kind causal")
    if loss != type(recipe.loss)().name:
        raise UsageError(f"policy {settings.name!r} is trained by its reward; leave --loss {loss} out")
    if recipe.lists.negatives_from not in ("first-stage", "bottom") or recipe.lists.teacher is not None:
        raise UsageError(
            "a policy's questions show candidates of the first stage and their judgments; leave out "
            "--teacher, and --negatives-from static and live"
        )
    if recipe.training.minutes is not None or recipe.training.tokens is not None:
        raise UsageError("a policy's steps are counted, as replies differ in length; give --steps or --epochs")
    if recipe.compress.name != "none" or recipe.debias.name != "none":
        raise UsageError("a policy goes with neither --compress nor --debias; leave them out")
    if recipe.training.accumulate != 1 and policy.updates != 1:
        raise UsageError("policy.updates above 1 takes steps on the same replies; set training.accumulate to 1")


def _check_objective(settings: PolicySettings, policy: PolicyRecipe) -> None:
    """Raise UsageError for settings that the objective does not read, and for what it lacks."""
    for key in UNUSED[policy.objective]:
        if getattr(settings, key) not in (AUTO, None):
            raise UsageError(f"policy.{key} means nothing to objective {policy.objective!r}; leave it out")
    if policy.objective == "cloning" and policy.thinking:
        raise UsageError("the expert of cloning replies without a thought; leave policy.thinking out")
    if policy.template and (policy.objective == "cloning" or policy.thinking):
        raise UsageError(
            f"policy {settings.name!r} is answered by 1 or 0 alone: leave out the objective cloning and "
            "policy.thinking (--loss softmax with reading.answers learns from judgments)"
        )
    if policy.objective == "dpo" and not (policy.divergence > 0 and policy.samples > 1):
        raise UsageError("'dpo' pairs replies of one prompt; give policy.divergence = 0.1, policy.samples = 8")
    scoring = find_rewards(reward_of(policy), policy.question)
    if policy.objective in ("dpo", "process") and scoring.places:
        raise UsageError(
            f"reward {reward_of(policy)!r} rewards places, and objective {policy.objective!r} judges whole replies"
        )
    if policy.objective == "process" and scoring.joint:
        raise UsageError(f"reward {reward_of(policy)!r} judges a reply beside others; a step is judged by itself")
    generating = scoring.generates
    if generating and settings.answers is None:
        raise UsageError(
            f"reward {reward_of(policy)!r} compares what a generator writes with expected answers; give "
            'policy.answers = "answers.jsonl", with rows {"query": ..., "answers": [...]}'
        )
    for key in ("answers", "generator"):
        if not generating and getattr(settings, key) is not None:
            raise UsageError(f"policy.{key} is for a reward that a generator earns, such as dynamicrag; leave it out")
    if settings.answers is not None and not Path(settings.answers).is_file():
        raise UsageError(f"policy.answers: no file at {settings.answers}")


def _check_values(policy: PolicyRecipe) -> None:
    """Raise UsageError for values that a part of the policy refuses."""
    from lorank.ranking.policies.advantages import find_advantage
    from lorank.ranking.policies.credits import find_credit
    from lorank.training.option_values import check_option_values

    parts = split_options(policy)
    scoring = find_rewards(reward_of(policy), policy.question)
    owners: dict[str, Callable[..., Any]] = {
        "reward": scoring.rewards[0].score,
        "advantage": find_advantage(policy.advantage),
        "credit": find_credit(policy.credit),
        "plan": PLANS[policy.plan],
        "mix": MIXES[policy.mix],
        "reuse": REUSES[policy.reuse],
        "objective": step_options,
    }
    for part, owner in owners.items():
        check_option_values("policy", parts[part], owner)
    find_rewards(reward_of(policy), policy.question, **parts["reward"])
    make_plan(policy.plan, policy.samples, **parts["plan"])
    make_reuse(policy.reuse, policy.updates, **parts["reuse"])
    step_options(**parts["objective"])
    if policy.credit == "thoughts" and policy.question != "setwise":
        raise UsageError(
            f"credit 'thoughts' reads which passage a step favours, and {policy.question} questions have no right one; "
            "use policy.question = setwise"
        )
    if scoring.joint and policy.plan != "fixed":
        raise UsageError(
            f"reward {reward_of(policy)!r} judges a reply beside the others of its draw, and plan {policy.plan!r} "
            "draws more than once; use policy.plan = fixed"
        )
    if scoring.places and policy.advantage != "per-rank" and policy.mix != "fixed":
        raise UsageError("a reward of places has no parts to mix; use policy.mix = fixed")
    if not scoring.places and policy.advantage == "per-rank":
        raise unknown_name("advantage for a reward of whole replies:", "per-rank", ["group", "centred"])
    if not scoring.places:
        make_mix(policy.mix, scoring.weights, **parts["mix"])
