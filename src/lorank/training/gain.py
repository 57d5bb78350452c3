"""What training gained: the tuned ranker beside the same base untuned in the same mix.

Three rungs rank the same candidates: the first stage; the untuned base, added to the first stage with the weight that
dev chose for it; the tuned ranker, added with the weight that dev chose for it. The gain is the paired difference
between the last two, over groups of queries that share relevant documents. Dev also chose the weights that are kept,
so its difference flatters the tuned ranker, and a smaller p is asked of it than of test.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lorank.data.collection import Collection, Split
from lorank.progress import StageCallback
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.metrics import evaluate
from lorank.ranking.metrics.evaluation import Comparison, Evaluation
from lorank.ranking.types import Run
from lorank.training.dev import DevResult
from lorank.training.dev_sample import DevSample
from lorank.training.loop.loop import MAIN_MEASURE
from lorank.training.plan import Plan
from lorank.tuned.mix import Mix, mix_run
from lorank.tuned.ranker import Learned, score_run

FIRST_STAGE, UNTUNED, TUNED = "first stage", "untuned", "tuned"
LEVELS = {"dev": 0.01, "test": 0.05}
"""The p below which a gain counts as more than chance."""

ADVICE = (
    "try more or other training queries (--free-queries titles), more --steps, another --lr, "
    "or a base that knows the language of the documents"
)


@dataclass(frozen=True)
class Gain:
    """The gain of a run on one split.

    Attributes:
        split: The split that it was measured on.
        queries: How many queries were judged.
        groups: How many independent groups they form.
        first_stage: nDCG@10 of the first stage, None where the ranker has none.
        untuned: nDCG@10 of the untuned base in the mix that dev chose for it.
        tuned: nDCG@10 of the tuned ranker.
        difference: ``tuned - untuned``.
        interval: The 95% bootstrap interval of the difference, over groups.
        p: The p-value of the paired randomisation test over groups.
    """

    split: str
    queries: int
    groups: int
    first_stage: float | None
    untuned: float
    tuned: float
    difference: float
    interval: tuple[float, float]
    p: float

    @property
    def outcome(self) -> str:
        """One of better, worse or tie."""
        if self.difference == 0 or not self.p < LEVELS.get(self.split, LEVELS["test"]):
            return "tie"
        return "better" if self.difference > 0 else "worse"

    @property
    def why_tie(self) -> str:
        """Why a p that would count on test does not count here, in brackets; empty where it would not count either."""
        stricter = LEVELS.get(self.split, LEVELS["test"])
        if self.outcome != "tie" or not self.p < LEVELS["test"]:
            return ""
        return f" ({self.split} also chose the weights, so that p must be below {stricter:g} here)"

    def describe(self) -> str:
        """Return the gain as one sentence."""
        low, high = self.interval
        numbers = (
            f"{MAIN_MEASURE} {self.tuned:.4f} against {self.untuned:.4f} of the untuned base in the same mix, "
            f"{self.difference:+.4f} [{low:+.4f}, {high:+.4f}], p {self.p:.2g} over {self.groups} independent "
            f"groups of {self.queries} {self.split} queries"
        )
        if self.outcome == "better":
            return f"Training gained: {numbers}."
        if self.outcome == "worse":
            return f"Training gained nothing and lost: {numbers}; {ADVICE}."
        if self.difference == 0:
            return f"Training gained nothing: {numbers}; {ADVICE}."
        return f"Training gained nothing that can be told from chance{self.why_tie}: {numbers}; {ADVICE}."


def judge_ladder(runs: Mapping[str, Run], split: Split, collection: str, seed: int) -> Evaluation:
    """Return the evaluation of the rungs on one split, every pair compared, each with its role in ``systems``.

    Args:
        runs: The run of each rung, by name, the first stage first.
        split: The judged split.
        collection: The name of the collection, for the evaluation's record.
        seed: The seed of the bootstrap and the randomisation tests.
    """
    judged = evaluate(
        runs, split.qrels, pairs="all", seed=seed, collection=collection, split=split.name, unknown="ignore"
    )
    roles = {FIRST_STAGE: "first-stage", UNTUNED: "untuned", TUNED: "tuned"}
    systems = {name: replace(system, role=roles.get(name, "")) for name, system in judged.systems.items()}
    return replace(judged, systems=systems)


def gain_of(judged: Evaluation) -> Gain | None:
    """Return the gain that an evaluation of rungs holds, None where it lacks a tuned or an untuned one."""
    names = {system.role: name for name, system in judged.systems.items() if system.role}
    if "tuned" not in names or "untuned" not in names or MAIN_MEASURE not in judged.measures:
        return None
    pair = comparison_of(judged, names["tuned"], names["untuned"])
    mean = {role: judged.systems[name].mean[MAIN_MEASURE] for role, name in names.items()}
    return Gain(
        judged.split,
        judged.queries,
        judged.settings.get("groups", judged.queries),
        mean.get("first-stage"),
        mean["untuned"],
        mean["tuned"],
        pair.difference,
        pair.interval,
        pair.p,
    )


def comparison_of(judged: Evaluation, system: str, baseline: str) -> Comparison:
    """Return how an evaluation compares two systems, whichever of them it names first; LookupError where it does not.

    Args:
        judged: The evaluation.
        system: The system whose gain is meant.
        baseline: The system that it is compared with.
    """
    for pair in judged.comparisons:
        if pair.measure == MAIN_MEASURE and {pair.system, pair.baseline} == {system, baseline}:
            if pair.system == system:
                return pair
            low, high = pair.interval
            return replace(pair, system=system, baseline=baseline, difference=-pair.difference, interval=(-high, -low))
    raise LookupError(f"the evaluation does not compare {system!r} with {baseline!r}")


def judge_dev(
    data: Collection, sample: DevSample, has_first_stage: bool, untuned: DevResult, tuned: DevResult, seed: int
) -> Gain:
    """Return the gain on the sample of dev.

    Args:
        data: The collection.
        sample: The dev queries that were looked at, with their candidates.
        has_first_stage: Whether the candidates' scores are a rung.
        untuned: The look at the untuned base, in the mix that dev chose for it.
        tuned: The look at the tuned ranker, in its own mix.
        seed: The seed of the resampling.
    """
    first = {FIRST_STAGE: sample.run} if has_first_stage else {}
    split = Split("dev", {q: data.dev.queries[q] for q in sample.qrels}, sample.qrels)
    gain = gain_of(judge_ladder({**first, UNTUNED: untuned.run, TUNED: tuned.run}, split, data.name, seed))
    assert gain is not None
    return gain


@dataclass(frozen=True)
class Ladder:
    """The runs of the rungs by their names, and how they were judged."""

    runs: dict[str, Run]
    judged: Evaluation


def judge_test(plan: Plan, untuned: Mix, tuned: Mix, trained: bool, on_progress: StageCallback) -> Ladder | None:
    """Return the rungs on test and their evaluation, None where there is no judged test split.

    Args:
        plan: The run, after training.
        untuned: The mix that dev chose for the untuned base.
        tuned: The mix that dev chose for the tuned ranker.
        trained: False where the run kept the untuned base; both rungs are the same then.
        on_progress: It receives the stage, the number of units done and their total.
    """
    candidates = plan.found.test
    if not candidates:
        return None
    queries = {q: plan.data.test.queries[q] for q in candidates}
    learned = score_run(
        Learned(plan.ranker, plan.weights.adapter), plan.data, queries, candidates, partial(on_progress, "score test")
    )
    base = learned
    if trained:
        with plan.beginning.restored():
            report = partial(on_progress, "score test with the untuned base")
            base = score_run(plan.ranker, plan.data, queries, candidates, report)
    runs = {UNTUNED: _mix(untuned, candidates, base, plan), TUNED: _mix(tuned, candidates, learned, plan)}
    if plan.found.has_first_stage:
        runs = {FIRST_STAGE: candidates, **runs}
    return Ladder(runs, judge_ladder(runs, plan.data.test, plan.data.name, plan.recipe.seed))


def _mix(mix: Mix, candidates: Run, learned: Run, plan: Plan) -> Run:
    return mix_run(mix, standardise_run(candidates), learned) if plan.found.has_first_stage else learned


def as_record(gain: Gain) -> dict[str, Any]:
    """Return the gain as plain JSON data."""
    return {
        "split": gain.split,
        "queries": gain.queries,
        "groups": gain.groups,
        "first_stage": gain.first_stage,
        "untuned": gain.untuned,
        "tuned": gain.tuned,
        "difference": gain.difference,
        "interval": list(gain.interval),
        "p": gain.p,
        "outcome": gain.outcome,
        "sentence": gain.describe(),
    }
