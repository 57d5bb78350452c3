"""The ranker at the end of a cross-validation: fitted on all judged queries, by what the folds chose.

No query is held out any more, so nothing is chosen here: the number of steps is the median of the folds' best steps,
over which the rates run their whole schedule, and the weight of the learned score is the median of the folds' weights,
in units of the spread that this ranker's scores have. Where rules or budgets read held-out lists, they read the
training lists. What the ranker is worth is what the folds' rankers were worth on the queries that they had not seen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lorank.data.collection import Collection, Split
from lorank.data.folds import subset
from lorank.lowrank.budgets.core.settle import settle
from lorank.progress import StageCallback
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.fitting import report_step
from lorank.training.gain import Gain, as_record
from lorank.training.loop.loop import train
from lorank.training.loop.run_state import Outcome
from lorank.training.loop.time_budget import TimeBudget
from lorank.training.model_card import write_model_card
from lorank.training.plan import Plan, build_plan, resolve_recipe
from lorank.training.record import write_record
from lorank.training.settings import Recipe
from lorank.tuned.mix import ALONE, Mix, spread
from lorank.tuned.ranker import Learned, TunedRanker, score_run

SPREAD_QUERIES = 50
"""How many queries the spread of the learned scores is measured on."""


@dataclass(frozen=True)
class Choice:
    """What the folds chose.

    Attributes:
        steps: How many steps the ranker trains; 0 keeps the untuned base.
        weight: The weight of the learned score, infinite where it stands alone.
        made: Sentences that say how the ranker was made.
        gains: What training gained on the queries that the folds held out.
        record: Further entries of run.json.
    """

    steps: int
    weight: float
    made: str
    gains: Sequence[Gain]
    record: Mapping[str, Any]


def fit_all(
    ranker: TrainableRanker,
    data: Collection,
    whole: Split,
    recipe: Recipe,
    choice: Choice,
    out: Path,
    *,
    budget: TimeBudget | None,
    resume: bool,
    command: str | None,
    on_progress: StageCallback,
) -> TunedRanker:
    """Return ``ranker`` fitted on all queries of ``whole``, with its run folder written.

    Args:
        ranker: The base as it comes.
        data: The collection.
        whole: The judged split that the folds divided.
        recipe: The recipe of the folds.
        choice: What the folds chose.
        out: The run folder.
        budget: The time that is left for it, where that is bounded.
        resume: Whether a run in the folder is taken up.
        command: The command line, for the record.
        on_progress: Receives stages.
    """
    splits = {name: subset(whole, whole.queries, name) for name in ("train", "dev")}
    data = replace(data, splits=splits)
    loop = replace(recipe.training, steps=max(choice.steps, 1), minutes=None, patience=None)
    recipe, rank_budget = resolve_recipe(ranker, data, replace(recipe, judge_test=False, training=loop))
    plan = build_plan(ranker, data, recipe, rank_budget, out, None, on_progress)
    if choice.steps:
        session = plan.session(out, None, steps=choice.steps, budget=budget)
        outcome = train(session, on_progress=partial(report_step, on_progress), resume=resume)
        outcome.best_step = outcome.steps
        if plan.budget is not None and plan.weights.adapter is not None:
            settle(plan.weights.adapter)
        if plan.compress is not None:
            plan.compress.finish()
    else:
        plan.go_back()
        outcome = Outcome(best=0.0)
    mix = _mix_of(plan, choice.weight, partial(on_progress, "measure the spread"))
    first_stage = plan.found.first_stage if mix.first_stage else None
    records = [as_record(gain) for gain in choice.gains]
    said = plan.describe_movement() if choice.steps else None
    notes = [] if said is None else [said]
    if plan.compress is not None:
        notes.append(plan.compress.merge())
    tuned = TunedRanker(ranker, plan.weights.adapter, first_stage, mix, records, notes, dev={"sentence": choice.made})
    tuned.save(out / "model")
    write_model_card(out / "model", recipe, data, ranker, mix, plan.found.source, choice.made, choice.gains)
    write_record(out, plan, outcome, mix, choice.gains, command, choice.record)
    return tuned


def _mix_of(plan: Plan, weight: float, on_progress: Callable[[int, int], None]) -> Mix:
    """Return the mix of ``weight`` in units of the spread of this ranker's scores."""
    if not plan.found.has_first_stage or np.isinf(weight):
        return ALONE
    names = [query for query, row in plan.found.train.items() if row and query in plan.data.train.queries]
    names = names[:: max(1, len(names) // SPREAD_QUERIES)]
    lists = {query: plan.found.train[query] for query in names}
    texts = {query: plan.data.train.queries[query] for query in names}
    learned = score_run(Learned(plan.ranker, plan.weights.adapter), plan.data, texts, lists, on_progress)
    return Mix(1.0, float(weight), spread=spread(learned))
