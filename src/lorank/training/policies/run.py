"""One run by reward, from its plan to a folder whose ranker answers by written text.

The plan is that of any run (lists, adapter, rule, rate); what differs is the loss of a step, what dev measures (the
mean reward of greedy replies to its questions), and that the folder says how its model is asked.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from lorank.errors import UsageError
from lorank.progress import StageCallback
from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.prompts import Prompts
from lorank.ranking.policies.mixes import make_mix
from lorank.ranking.policies.presets import PolicyRecipe, reward_of, split_options
from lorank.ranking.policies.rewards import find_rewards
from lorank.ranking.policies.steps import step_options
from lorank.ranking.policies.writing import Writer
from lorank.ranking.scorers.causal import CausalRanker
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.hooks.keep_last import KeepTrained
from lorank.training.loop.loop import train
from lorank.training.loop.run_state import Outcome
from lorank.training.model_card import write_model_card
from lorank.training.plan import Plan
from lorank.training.policies.generating import LONGEST_ANSWER, Generator, read_answers
from lorank.training.policies.learning import RewardLearning
from lorank.training.policies.process import measure_best_of
from lorank.training.policies.questions import EMPTY_SHARE, Posed, Questioner
from lorank.training.policies.settings import resolve_policy
from lorank.training.record import write_record
from lorank.training.settings import PolicySettings
from lorank.tuned.mix import ALONE
from lorank.tuned.policy import WrittenPolicy
from lorank.tuned.ranker import TunedRanker

MEASURE = "reward"
"""The dev measure that decides which weights are kept: the mean reward, parts weighed as the reward weighs them."""
DEV_QUESTIONS = 64
"""How many questions of dev are answered at a look, where ``training.evaluation_queries`` says nothing."""
DEV_SEED = 1
"""Of what dev's questions show, alike in all runs of one collection."""
ANSWERS_AT_ONCE = 16


def fit_by_reward(
    plan: Plan,
    out: Path,
    *,
    hooks: Sequence[Hook] = (),
    resume: bool = False,
    command: str | None = None,
    on_progress: StageCallback = lambda what, done, total: None,
) -> tuple[TunedRanker, Outcome]:
    """Train the policy of a plan, and return the tuned ranker with how the loop ended.

    Args:
        plan: The run before its first step.
        out: The run folder.
        hooks: Hooks that run beside the plan's own.
        resume: Whether the run in ``out`` is taken up.
        command: The command line, for the record.
        on_progress: Receives stages.

    Raises:
        UsageError: For a ranker that is no causal language model, and lists that hold no contrast.
    """
    ranker = plan.ranker
    if not isinstance(ranker, CausalRanker):
        raise UsageError(
            f"a policy writes text, and {ranker.base or 'this ranker'} is a {ranker.kind}; use a causal LM"
        )
    settings = plan.recipe.policy
    policy = resolve_policy(settings)
    written = written_policy(settings, policy)
    scoring = find_rewards(reward_of(policy), policy.question)
    names = plan.lists.query_at
    texts = {**plan.data.dev.queries, **plan.lists.split.queries}
    questioner = Questioner(
        written.judge(ranker),
        policy.question,
        min(settings.size, BALANCED) if policy.template == "binary" else settings.size,
        [texts[query] for query in names],
        list(plan.data.documents),
        highest=_highest(plan),
        empty_share=EMPTY_SHARE if policy.question == "selection" and scoring.empty else 0.0,
    )
    writer = Writer(ranker.module, ranker.tokenizer, settings.max_tokens)
    parameters = [p for group in plan.weights.parameter_groups() for p in group["params"]]
    ranker.reference = plan.beginning.restored
    generator = _generator(plan, written, questioner, list(names)) if scoring.generates else None
    learning = RewardLearning(policy, questioner, writer, settings.temperature, parameters, generator)
    limit = plan.recipe.training.evaluation_queries or DEV_QUESTIONS
    questions = dev_questions(plan, questioner, limit)
    evaluate = measure_reward(learning, questions, on_progress)
    if policy.objective == "process":
        evaluate = measure_best_of(
            *(writer, questions, plan.beginning.restored, learning.earn, policy.samples, learning.share),
            *(learning.aggregate, settings.temperature, questioner.judge.yes_no(), DEV_SEED),
        )
    kept = [KeepTrained()] if plan.recipe.keeps_trained else []
    session = replace(
        plan.session(out, evaluate, [*hooks, *kept]),
        loss=cast(Any, learning),
        batch_loss=learning.batch_loss,
        hook_loss=learning.loss_apart,
        measure=MEASURE,
    )
    learning.steps = session.settings.steps or 1

    def report(progress: Progress) -> None:
        dev = "" if progress.dev is None else f" · dev reward {progress.dev[MEASURE]:.3f}"
        now = f"loss {progress.loss:.3f}" if learning.supervised else f"reward {-progress.loss:.3f}"
        on_progress(f"train · {now}{dev}", progress.step, progress.steps)

    outcome = train(session, on_progress=report, resume=resume)
    return _write(plan, written, session.evaluate, outcome, out, command), outcome


BALANCED = 2
"""The documents of a list that a question of two answers is asked about: of more, one answer would mostly be right."""


def written_policy(settings: PolicySettings, policy: PolicyRecipe) -> WrittenPolicy:
    """Return how the model is asked, with the text of the prompt where it is the user's own, or the policy's.

    Args:
        settings: The settings of the policy.
        policy: The policy that they resolve to.
    """
    own = None
    drawn: dict[str, Any] = {}
    if policy.objective == "process":
        share, _, aggregate = step_options(**split_options(policy)["objective"])
        drawn = {
            "best_of": policy.samples,
            "share": share,
            "aggregate": aggregate,
            "temperature": settings.temperature,
        }
    if settings.prompts is not None or policy.template:
        loaded = Prompts.load(settings.prompts, settings.words, thinking=policy.thinking)
        own = loaded.templates[policy.template or policy.question].template
    return WrittenPolicy(
        policy.question, settings.size, settings.words, settings.max_tokens, policy.thinking, own, **drawn
    )


def _highest(plan: Plan) -> float:
    """Return the highest grade of the training judgments, which is worth a score of 10."""
    return max((float(max(judged.values())) for judged in plan.lists.split.qrels.values() if judged), default=0.0)


def _generator(plan: Plan, written: WrittenPolicy, questioner: Questioner, names: Sequence[str]) -> Generator:
    """Return the generator of the reward: another model, or the model itself as it is before training."""
    settings = plan.recipe.policy
    prompts = Prompts.load(settings.prompts, settings.words)
    longest = min(settings.max_tokens, LONGEST_ANSWER)
    ranker = cast(CausalRanker, plan.ranker)
    opened: Callable[[], AbstractContextManager[Any]] = nullcontext
    if settings.generator is None:
        judge = CausalJudge(ranker.module, ranker.tokenizer, prompts=prompts, max_tokens=longest)
        opened = plan.beginning.restored
    else:
        judge = CausalJudge.load(settings.generator, prompts=prompts, max_tokens=longest)
        judge.model.to(ranker.device)
    assert settings.answers is not None
    expected = read_answers(settings.answers, names, questioner.queries)
    return Generator(judge, opened, questioner.queries, expected)


def dev_questions(plan: Plan, questioner: Questioner, limit: int) -> list[Posed]:
    """Return the questions of at most ``limit`` dev lists, the same at every look."""
    lists = plan.held_out.epoch(0)
    order = np.random.default_rng(DEV_SEED).permutation(len(lists))[:limit]
    posed = questioner.pose(plan.held_out.collate([lists[i] for i in order]), DEV_SEED)
    if not posed:
        raise UsageError("no list of dev holds documents of different labels, so there is no question to ask")
    return posed


def measure_reward(
    learning: RewardLearning, questions: Sequence[Posed], on_progress: StageCallback
) -> Callable[[], dict[str, float]]:
    """Return the function that answers dev's questions greedily and returns the mean reward and its parts.

    The means over the replies that were drawn since the last look stand beside them, as ``train/PART``.

    Args:
        learning: The loss of the run, with its writer and its rewards.
        questions: The questions.
        on_progress: Receives how many are answered.
    """
    usual = None if learning.scoring.places else make_mix("fixed", learning.scoring.weights)

    def measure() -> dict[str, float]:
        texts: list[str] = []
        for start in range(0, len(questions), ANSWERS_AT_ONCE):
            part = questions[start : start + ANSWERS_AT_ONCE]
            texts += learning.writer.texts(learning.writer.write([each.prompt for each in part]))
            on_progress("answer dev", min(start + ANSWERS_AT_ONCE, len(questions)), len(questions))
        rows = learning.score(texts, questions)
        if usual is None:
            means = {learning.scoring.parts[0]: sum(float(row[0]) for row in rows) / len(rows)}
            reward = next(iter(means.values()))
        else:
            table = rows.double().mean(0)
            means = dict(zip(learning.scoring.parts, table.tolist(), strict=True))
            reward = float(usual(table.float().unsqueeze(0))[0])
            learning.mix.observe_dev(table.tolist())
        drawn = {f"train/{part}": value for part, value in learning.take_means().items()}
        return {MEASURE: reward, **{key: value for key, value in means.items() if key != MEASURE}, **drawn}

    return measure


def _write(
    plan: Plan,
    written: WrittenPolicy,
    evaluate: Callable[[], dict[str, float]] | None,
    outcome: Outcome,
    out: Path,
    command: str | None,
) -> TunedRanker:
    """Write the model folder, its card and the record of the run."""
    assert evaluate is not None
    now = evaluate()
    first = _first_reward(out)
    judged = f"the best of {written.best_of} replies" if written.best_of else "greedy replies"
    sentence = (
        f"Dev reward {now[MEASURE]:.3f} at step {outcome.best_step} of {outcome.steps}, {first:.3f} before training "
        f"({judged} to the same questions)."
    )
    dev = {"name": f"dev/{MEASURE}", "value": now[MEASURE], "before": first, "parts": now, "sentence": sentence}
    tuned = TunedRanker(plan.ranker, plan.weights.adapter, dev=dev, policy=written)
    if still := plan.describe_movement():
        tuned.notes.append(still)
    tuned.notes.extend(plan.describe_rule())
    tuned.save(out / "model")
    judged_on = f"Dev chose the steps: {sentence} Dev values are optimistic."
    write_model_card(out / "model", plan.recipe, plan.data, plan.ranker, ALONE, plan.found.source, judged_on)
    write_record(out, plan, outcome, ALONE, [], command, {"dev": dev, "policy": written.to_dict()})
    return tuned


def _first_reward(out: Path) -> float:
    import json

    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return float(next(line["dev"][MEASURE] for line in lines if "dev" in line))
