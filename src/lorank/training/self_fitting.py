"""Training of rankers that learn by an objective of their own: trees, tours, pointers, boosted networks.

Such a ranker says so (``trained_by_loop`` is False) and brings ``fit(train, dev)`` over lists of feature rows. Its run
has no steps that hooks, rules or checkpoints could enter: what asks for them is refused. All else is as in `fit`: dev
decides how long it learns, and the run folder holds the model, its card, the dev curve and the record.
"""

import json
import time
from collections.abc import Collection as Container
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from lorank.data.collection import Collection, Split
from lorank.data.files import write_text
from lorank.data.letor import feature_rows
from lorank.errors import UsageError
from lorank.progress import StageCallback
from lorank.ranking.losses import loss as named_loss
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.scorers.features import FeatureLists, feature_model, model_options
from lorank.ranking.scorers.ranker import Documents, FittedRanker
from lorank.training.dev import DevResult, dev_record
from lorank.training.dev_sample import DevSample
from lorank.training.loop.loop import MAIN_MEASURE
from lorank.training.model_card import write_rows_card
from lorank.training.recipe import RecipeFile
from lorank.training.record import write_own_record
from lorank.training.settings import LossSettings, OptimizerSettings, Recipe, list_changed_settings
from lorank.tuned.mix import ALONE
from lorank.tuned.ranker import TunedRanker, score_run

DEV = "nDCG@10 of gains 2^rel - 1"
"""What such rankers measure as they learn; the value that is reported at the end is trec_eval's, as everywhere."""


class OwnLearner(Protocol):
    """What a fitted ranker brings beside its contract that learns by its own objective."""

    model: str
    takes_loss: bool
    dev_curve: list[tuple[int, float]]

    def fit(self, train: FeatureLists, dev: FeatureLists | None = None, **given: Any) -> Any:
        """Learn; ``on_progress`` receives (done, total), ``loss`` is given where ``takes_loss``."""
        ...

    def options(self) -> dict[str, Any]:
        """Return what made the ranker."""
        ...

    def score(self, query: str, documents: Documents) -> Any:
        """Return one score a row."""
        ...


def fit_by_own_objective(
    ranker: OwnLearner, data: Collection, out: Path, recipe: Recipe, *, command: str | None, on_progress: StageCallback
) -> TunedRanker:
    """Let ``ranker`` learn from the training lists of ``data``, and write the run folder ``out``.

    Args:
        ranker: The ranker of feature rows.
        data: The collection, with train and dev lists of feature rows.
        out: The run folder.
        recipe: The recipe, of which only the loss and the seed are used.
        command: The command line, for the record; None where there was none.
        on_progress: It receives the stage, the number of units done and their total.

    Raises:
        UsageError: If the collection holds texts.
    """
    if not data.has_features:
        raise UsageError(f"{ranker.model} learns from feature rows, and collection {data.name!r} holds texts")
    loss = {"loss": named_loss(recipe.loss.name, **recipe.loss.options)} if ranker.takes_loss else {}
    start = time.monotonic()
    ranker.fit(lists_of(data, data.train), lists_of(data, data.dev), on_progress=partial(on_progress, "learn"), **loss)
    seconds = time.monotonic() - start
    _write_curve(out / "metrics.jsonl", ranker.dev_curve, seconds)
    tuned = TunedRanker(cast(FittedRanker, ranker))
    run = score_run(tuned, data, data.dev.queries, data.dev.candidates or {}, partial(on_progress, "score dev"))
    dev = mean_of(run, data.dev.qrels, MAIN_MEASURE)
    tuned.mix = replace(ALONE, curve=[(float("inf"), dev)])
    sample = DevSample(data.dev.candidates or {}, data.dev.qrels, None, len(data.dev))
    tuned.dev = dev_record(sample, DevResult(tuned.mix, run, dev, dev))
    tuned.save(out / "model")
    judged_on = (
        f"Dev chose how long it learned: {tuned.dev['sentence']} Dev values are optimistic; judge on test with "
        "`lorank evaluate`."
    )
    write_rows_card(out / "model", data, ranker, ranker.model, dev, judged_on)
    write_own_record(out, recipe, data, ranker, seconds, tuned.mix, command, tuned.dev)
    return tuned


def lists_of(data: Collection, split: Split) -> FeatureLists:
    """Return the lists of a split of feature rows, packed; rows that nobody judged are labelled 0."""
    rows = feature_rows(data, split)
    return FeatureLists(rows.features, rows.labels, rows.offsets)


def check_unused_settings(ranker: OwnLearner, recipe: Recipe, **asked: Any) -> None:
    """Raise UsageError where a recipe or an argument asks for what such a ranker does not take.

    ``asked`` are arguments of `fit`, of which any that is not empty is refused; the seed of the recipe is the
    ranker's own.
    """
    wanted = [name for name, value in asked.items() if value]
    wanted += [
        name
        for name in list_changed_settings(recipe)
        if name not in ("seed", "judge_test", "keep") and not _taken(name, ranker)
    ]
    if wanted:
        raise UsageError(
            f"{ranker.model} learns by its own objective, which does not use {wanted[0]}; leave it out, "
            "or give the ranker its own options when you make it"
        )


def own_options(plan: RecipeFile, said: Container[str], data: Collection) -> RecipeFile:
    """Return the plan with settings that a feature model has options for moved there, where it learns by itself.

    So ``--lr`` is the shrinkage of trees, and what was not said stays the model's own default. ``said`` are the
    settings that were stated, as section.key. Raises UsageError for one that the model does not use.
    """
    base = plan.base or "mlp"
    if not data.has_features or feature_model(base).trained_by_loop:
        return plan
    known, options, takes_loss = model_options(base), dict(plan.options), feature_model(base).takes_loss
    for setting in said:
        section, _, key = setting.partition(".")
        option = "objective" if setting == "loss.name" else key
        if section in ("training", "loss") and option in known:
            if (value := getattr(getattr(plan, section), key)) != "default":
                options[option] = value
        elif key and not (section == "loss" and takes_loss):
            flag = section if key in ("name", "source") else key
            raise UsageError(
                f"{base} learns by its own objective, which does not use --{flag.replace('_', '-')}; it "
                f"takes --option {', '.join(known)}"
            )
    loss = plan.loss if takes_loss else LossSettings()
    return replace(plan, options=options, training=OptimizerSettings(), loss=loss)


def _taken(setting: str, ranker: OwnLearner) -> bool:
    return setting in ("loss.name", "loss.options") and ranker.takes_loss


def _write_curve(path: Path, curve: list[tuple[int, float]], seconds: float) -> None:
    rows = [{"step": step, "dev": {DEV: value}} for step, value in curve]
    if rows:
        rows[-1]["seconds"] = seconds
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
