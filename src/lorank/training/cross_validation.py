"""Cross-validation: each judged query is scored by a model that never saw it."""

import json
from functools import partial
from pathlib import Path

from lorank.data.collection import Collection
from lorank.data.files import write_text
from lorank.data.folds import cross_validation
from lorank.data.trec import write_run
from lorank.progress import StageCallback
from lorank.ranking.metrics import evaluate
from lorank.ranking.metrics.evaluation import Evaluation
from lorank.ranking.types import Run
from lorank.training.fitting import fit
from lorank.training.lists.retrieval import bm25_index
from lorank.training.recipe import RecipeFile
from lorank.tuned.open_ranker import open_base
from lorank.tuned.ranker import rerank_run


def cross_validate(
    data: Collection,
    plan: RecipeFile,
    folds: int,
    split: str,
    out: Path,
    *,
    command: str | None,
    resume: bool,
    overwrite: bool,
    on_progress: StageCallback,
) -> Evaluation:
    """Train ``folds`` rankers, pool what each says of its held-out queries, and judge the pooled run.

    Each fold is a run of its own in ``out/fold-K``; the pooled runs are ``out/first_stage.run`` and
    ``out/tuned.run``, the judgement ``out/results.json``.

    Args:
        data: The collection with the judged split.
        plan: The recipe and the base of every fold.
        folds: The number of folds, 3 or more.
        split: The name of the split to divide.
        out: The folder that receives everything.
        command: The command line, for the records; None where there was none.
        resume: True goes on with the folds that have begun.
        overwrite: True replaces earlier runs of the folds.
        on_progress: It receives the fold and stage, the number of units done and their total.

    Returns:
        The evaluation of the pooled runs.
    """
    tuned: Run = {}
    first: Run = {}
    parts = cross_validation(data, folds=folds, seed=plan.seed, split=split)
    for number, part in enumerate(parts, start=1):
        name = f"fold {number} of {folds}: "

        def tell(what: str, done: int, total: int, name: str = name) -> None:
            on_progress(name + what, done, total)

        ranker = open_base(
            plan.base,
            plan.kind,
            part,
            plan.seed,
            plan.view,
            plan.loss.name,
            plan.options,
            plan.label,
            reading=plan.reading,
        )
        folder = out / f"fold-{number}"
        model = fit(
            ranker,
            part,
            out=folder,
            recipe=plan,
            resume=resume and folder.exists(),
            overwrite=overwrite,
            command=command,
            on_progress=tell,
        )
        queries = part.test.queries
        candidates = part.test.candidates or bm25_index(part).search(queries, plan.lists.depth)
        first |= candidates
        tuned |= rerank_run(model, part, queries, candidates, partial(tell, "rerank"))
    if data.has_features:
        runs = {"tuned": tuned}
    else:
        runs = {"bm25": first, "tuned": tuned}
        write_run(first, out / "first_stage.run", "bm25")
    write_run(tuned, out / "tuned.run", "tuned")
    judged = evaluate(
        runs,
        data.split(split).qrels,
        seed=plan.seed,
        collection=data.name,
        split=f"{split}, {folds}-fold cross-validation",
    )
    write_text(out / "results.json", json.dumps(judged.to_dict(), indent=1) + "\n")
    return judged
