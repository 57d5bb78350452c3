"""`fit_cascade`: from a collection to one ranker of up to three steps, each kept only where dev says that it pays.

1. The first stage finds candidates. 2. A bi-encoder is tuned over them as `lorank train` does it, and added with the
weight that dev chooses; where training gained nothing on dev, the untuned base stays. 3. A cross-encoder is trained on
the lists that this mix leaves, the best ``cascade.depth`` of each training query, as a correction of the mix's scores;
`lorank.training.cascade.judging` says where it is kept. The whole is one folder, which any command opens as a ranker.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.files import write_json
from lorank.progress import StageCallback
from lorank.ranking.metrics.evaluation import Evaluation
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.types import Run
from lorank.training.cascade.judging import Lists, Verdict, judge_cross_encoder
from lorank.training.cascade.run_folder import RESULTS, claim_folder, is_done, write_card
from lorank.training.cascade.settings import (
    BI_ENCODER,
    CROSS_ENCODER,
    bi_recipe,
    check_cascade,
    cross_recipe,
    recipes_of,
)
from lorank.training.cascade.steps import Step, describe_steps, step_records
from lorank.training.checks import check_options
from lorank.training.dev import Clock
from lorank.training.dev_sample import draw_queries, order_by_groups
from lorank.training.fitting import fit_run, with_dev
from lorank.training.gain import judge_ladder
from lorank.training.lists.candidates import Candidates, find_candidates
from lorank.training.lists.retrieval import bm25_index
from lorank.training.open_recipe import open_recipe_base, reading_of_titles
from lorank.training.plan import free_split
from lorank.training.recipe import RECORD, RecipeFile
from lorank.training.record import circumstances
from lorank.training.settings import as_plain
from lorank.tuned.first_stage import Component, FirstStage
from lorank.tuned.mix import mix_as_json
from lorank.tuned.ranker import TunedRanker, rerank_run, score_run
from lorank.tuned.second_stage import SecondStage, best_of_run

FIRST, TUNED_MIX, WHOLE = "first stage", BI_ENCODER, "cascade"
"""What the rungs on test are called."""


@dataclass(frozen=True)
class Cascaded:
    """A cascade that ended.

    Attributes:
        tuned: The ranker, with a second stage where dev kept the cross-encoder.
        steps: What dev says of each step, and what it costs.
        judged: The first stage, the bi-encoder's mix and the whole on test, None where test is not judged.
        notes: What the runs say of themselves beside that.
    """

    tuned: TunedRanker
    steps: list[Step]
    judged: Evaluation | None = None
    notes: list[str] = field(default_factory=list)


def fit_cascade(
    plan: RecipeFile,
    data: Collection,
    out: str | Path,
    *,
    command: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: StageCallback = lambda what, done, total: None,
    clock: Clock = time.monotonic,
) -> Cascaded:
    """Train a cascade on the training split of ``data`` and return it, with ``out`` as its run folder.

    Args:
        plan: The recipe; its sections are the bi-encoder's, those under ``cross`` the cross-encoder's.
        data: The collection of texts; where it has no dev split, one is held out of train.
        out: The run folder.
        command: The command line, for the record.
        resume: Whether the cascade in ``out`` is taken up; a step that is done is not trained again.
        overwrite: Whether the run in ``out`` is replaced.
        on_progress: It receives the stage, the number of units done and their total.
        clock: Returns seconds, by which the cost of a step is measured.

    Raises:
        UsageError: For settings that make no sense in a cascade, for feature rows, and where ``out`` holds a run and
            neither ``resume`` nor ``overwrite`` is given.
    """
    out = Path(out)
    plan = replace(plan, cascade=replace(plan.cascade, enabled=True))
    check_cascade(plan)
    for each in recipes_of(plan):
        check_options(each)
    if data.has_features:
        raise UsageError(f"collection {data.name!r} holds feature rows, and a cascade reads texts; train without it")
    data = with_dev(data, plan.seed)
    claim_folder(out, plan, resume, overwrite)
    work = _Work(plan, data, out, command, resume, on_progress, clock)
    found = work.find()
    bi = work.train_bi_encoder(found)
    mixed, mixing_seconds = work.mix(bi, found)
    cross = work.train_cross_encoder(found, mixed)
    lists, reading_seconds = work.look_at_dev(cross, found, mixed)
    verdict = judge_cross_encoder(
        lists, cross_recipe(plan).first_stage.grid, plan.cascade.least_gain, data.name, plan.seed
    )
    steps = describe_steps(verdict, bi, lists, plan.cascade.depth, mixing_seconds, reading_seconds)
    whole = replace(bi, second_stage=_second_stage(verdict, cross, plan.cascade.depth), folder=None)
    judged = work.judge_test(whole, found, mixed)
    work.write(whole, steps, verdict, judged)
    return Cascaded(whole, steps, judged, [*bi.notes, *cross.notes])


def _second_stage(verdict: Verdict, cross: TunedRanker, depth: int) -> SecondStage[TunedRanker] | None:
    if not verdict.kept:
        return None
    return SecondStage(TunedRanker(cross.ranker, cross.adapter), verdict.mix, depth, {"sentence": verdict.describe()})


@dataclass(frozen=True)
class _Work:
    """What all steps share."""

    plan: RecipeFile
    data: Collection
    out: Path
    command: str | None
    resume: bool
    on_progress: StageCallback
    clock: Clock

    @property
    def bi(self) -> RecipeFile:
        """The recipe of the bi-encoder."""
        recipe = bi_recipe(self.plan)
        return replace(recipe, reading=reading_of_titles(recipe, self.data))

    @property
    def texts(self) -> dict[str, str]:
        """The text of every query that is ranked, free ones included."""
        free = free_split(self.data, self.plan)
        texts = dict(self.data.train.queries) | ({} if free is None else free.queries) | self.data.dev.queries
        return texts | (self.data.test.queries if "test" in self.data.splits else {})

    def find(self) -> Candidates:
        """Return the first stage's candidates."""
        free = free_split(self.data, self.bi)
        ranker = cast(TrainableRanker, open_recipe_base(self.bi, self.data))
        return find_candidates(self.data, self.bi, ranker, free, self.on_progress)

    def train_bi_encoder(self, found: Candidates) -> TunedRanker:
        """Return the tuned bi-encoder, trained now or before."""
        return self.train(BI_ENCODER, lambda: self.bi, found)

    def mix(self, bi: TunedRanker, found: Candidates) -> tuple[Run, float]:
        """Return the mixed scores of all queries, and the seconds per query that they took."""
        rows = {query: row for run in (found.train, found.dev, found.test or {}) for query, row in run.items()}
        texts = {query: text for query, text in self.texts.items() if rows.get(query)}
        began = self.clock()
        mixed = rerank_run(bi, self.data, texts, rows, partial(self.on_progress, "rank with the bi-encoder"))
        return mixed, (self.clock() - began) / max(len(texts), 1)

    def train_cross_encoder(self, found: Candidates, mixed: Run) -> TunedRanker:
        """Return the cross-encoder, trained now or before as a correction of the mix over its best documents.

        Each list's scores begin at 0, as those of a first stage do: only their differences count.
        """
        best = best_of_run(mixed, self.plan.cascade.depth)
        lists = {query: _from_zero(row) for query, row in best.items()}
        stage = found.first_stage or FirstStage("bm25", (Component("bm25"),), bm25_index(self.data).statistics)
        left = Candidates(
            {query: lists[query] for query in found.train if query in lists},
            {query: lists.get(query, {}) for query in found.dev},
            stage,
            f"the mix of {self.out / BI_ENCODER}, its {self.plan.cascade.depth} best",
        )
        return self.train(CROSS_ENCODER, lambda: cross_recipe(self.plan), left)

    def train(self, name: str, recipe_of: Callable[[], RecipeFile], found: Candidates) -> TunedRanker:
        """Return the ranker of one step; one that is done is read, and one that was stopped goes on."""
        folder = self.out / name
        if self.resume and is_done(folder):
            return TunedRanker.load(folder)
        recipe = recipe_of()
        return fit_run(
            open_recipe_base(recipe, self.data),
            self.data,
            recipe,
            folder,
            candidates=found,
            resume=self.resume,
            overwrite=not self.resume,
            command=self.command,
            on_progress=partial(_report, self.on_progress, name),
        ).tuned

    def look_at_dev(self, cross: TunedRanker, found: Candidates, mixed: Run) -> tuple[Lists, float]:
        """Return the lists of the dev queries that the cross-encoder's run looked at, and its seconds per query."""
        dev, seed = self.data.dev, cross_recipe(self.plan).seed
        order = order_by_groups(dev.qrels, list(dev.queries), seed)
        chosen = draw_queries(order, int(cross.dev.get("queries", len(dev))))
        qrels = {query: dev.qrels.get(query, {}) for query in chosen}
        lists = {query: mixed[query] for query in chosen if query in mixed}
        began = self.clock()
        learned = self.read_best(cross, lists, dev, "score dev with the cross-encoder")
        seconds = (self.clock() - began) / max(len(lists), 1)
        first = {query: found.dev[query] for query in lists} if found.has_first_stage else None
        return Lists(first, lists, learned, Split("dev", {q: dev.queries[q] for q in chosen}, qrels)), seconds

    def read_best(self, cross: TunedRanker, mixed: Run, split: Split, what: str) -> Run:
        """Return the cross-encoder's own scores of each list's best documents."""
        best = best_of_run(mixed, self.plan.cascade.depth)
        texts = {query: split.queries[query] for query in best}
        return score_run(cross.learned, self.data, texts, best, partial(self.on_progress, what))

    def judge_test(self, whole: TunedRanker, found: Candidates, mixed: Run) -> Evaluation | None:
        """Return first stage, bi-encoder's mix and the whole, compared on test; None where test is not judged."""
        rows = {query: mixed[query] for query in found.test or {} if query in mixed}
        if not rows:
            return None
        runs = {FIRST: dict(found.test or {})} if found.has_first_stage else {}
        runs[TUNED_MIX] = rows
        second = whole.second_stage
        if second is not None:
            what = "score test with the cross-encoder"
            runs[WHOLE] = second.correct_run(
                rows, lambda best: self.read_best(second.ranker, best, self.data.test, what)
            )
        return judge_ladder(runs, self.data.test, self.data.name, self.plan.seed)

    def write(self, whole: TunedRanker, steps: list[Step], verdict: Verdict, judged: Evaluation | None) -> None:
        """Write the model folder, its card, the judgement on test and, last, the record."""
        whole.save(self.out / "model")
        write_card(self.out, [step.sentence for step in steps])
        if judged is not None:
            write_json(self.out / RESULTS, judged.to_dict(), indent=1)
        before: Mapping[str, Any] = json.loads((self.out / BI_ENCODER / RECORD).read_text(encoding="utf-8"))
        record = {
            **circumstances(self.data, self.plan.seed, self.command),
            "recipe": as_plain(replace(self.plan, out=None)),
            "settings": before["settings"],
            "adapter": before["adapter"],
            "dev": whole.dev,
            "gain": whole.gain,
            "mix": before["mix"],
            "cascade": {
                "kept": [step.name for step in steps if step.kept],
                "steps": step_records(steps),
                "second_stage": {"depth": self.plan.cascade.depth, "mix": mix_as_json(verdict.mix)},
            },
        }
        write_json(self.out / RECORD, record, indent=1)


def _from_zero(row: Mapping[str, float]) -> dict[str, float]:
    """Return the scores of a list less the lowest of them.

    >>> _from_zero({"a": 1.5, "b": -0.5})
    {'a': 2.0, 'b': 0.0}
    """
    lowest = min(row.values(), default=0.0)
    return {document: score - lowest for document, score in row.items()}


def _report(on_progress: StageCallback, name: str, what: str, done: int, total: int) -> None:
    on_progress(f"{name}: {what}", done, total)
