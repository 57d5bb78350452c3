"""One run from a log of interactions to the folder of a recommender.

The folder holds the recommender (recommender.json, model.safetensors), what decided the run (training.json),
metrics.jsonl and checkpoints/ of the sequential recommender, and those of Ada-Retrieval's adapters in adapters/. A run
that was killed goes on from its newest checkpoint bit for bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lorank.data.interactions import Interactions
from lorank.errors import UsageError
from lorank.progress import StageCallback
from lorank.ranking.losses import loss as named_loss
from lorank.ranking.losses import requirements_of
from lorank.ranking.recommendation.ada_retrieval import AdaRetrieval
from lorank.ranking.recommendation.recommender import best_items, next_item_measures
from lorank.ranking.recommendation.sasrec import SASRec, SequenceSettings
from lorank.training.recommendation.learning import train_model
from lorank.training.recommendation.run_folder import ADAPTERS, claim_folder, describe_run
from lorank.tuned.recommender import TunedRecommender


def train_recommender(
    log: Interactions,
    method: str,
    settings: SequenceSettings,
    *,
    out: str | Path,
    loss: str = "softmax",
    repeats: bool = False,
    seed: int = 0,
    vectors: np.ndarray | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: StageCallback = lambda what, done, total: None,
) -> tuple[TunedRecommender, dict[str, dict[str, float]]]:
    """Return a recommender that learned from all but each user's last item, and how it finds these last items.

    The recommender is written to ``out``, where the run keeps its metrics and checkpoints.

    Args:
        log: What each user chose; users of fewer than three items are not judged.
        method: ``sasrec`` or ``ada-retrieval``.
        settings: How it is built and learns.
        out: The folder of the run.
        loss: The name of a loss of lists.
        repeats: Whether an item that a user chose may be found again.
        seed: The seed of everything random.
        vectors: The vectors of the log's items, float32 [items, dim], which stay as they are; None learns them.
        resume: Whether to go on with the run in ``out``.
        overwrite: Whether to replace the run in ``out``.
        on_progress: It receives the stage, the steps done and all steps.

    Returns:
        The recommender, and the recall and nDCG of the ``settings.top`` best items of: the most chosen items, the
        recommender of one round, and the method where it is another.

    Raises:
        UsageError: For a log without a user of four interactions, a loss that takes more than scores and labels, and a
            folder that holds something else, or a run that is neither taken up nor replaced; nothing is written then.
        Interrupted: Ctrl-C was pressed; the step under way was finished and a checkpoint written.
    """
    function, out = named_loss(loss), Path(out)
    if needed := requirements_of(function):
        raise UsageError(
            f"the loss {loss} takes {', '.join(sorted(needed))} beside scores and labels, which a recommender does not "
            "have; give another, as softmax or bce"
        )
    known = [row for row in log.sequences if len(row) > 3]
    if not known:
        raise UsageError("no user has four interactions: two to learn from, one that stops training, one to judge by")
    history, last = [row[:-1] for row in known], np.array([row[-1] for row in known])
    every, top = len(log.items), settings.top
    judge: Callable[[Any], dict[str, float]] = lambda model: next_item_measures(  # noqa: E731
        best_items(model, history, every, top, repeats=repeats)[0], last
    )
    found = {"popularity": next_item_measures(_popular(history, every, top, repeats), last)}
    if vectors is not None:
        settings = replace(settings, dim=vectors.shape[1], rank=0)
    plan = describe_run(log, method, settings, loss, repeats, seed, vectors)
    base = SASRec(every, settings, seed=seed, vectors=None if vectors is None else torch.from_numpy(vectors))
    claim_folder(out, plan, resume=resume, overwrite=overwrite)
    more: dict[str, Any] = {"seed": seed, "repeats": repeats, "resume": resume}
    train_model(base, history, settings, function, out, on_progress=partial(on_progress, "train sasrec"), **more)
    found["sasrec"] = judge(base)
    model: SASRec | AdaRetrieval = base
    if method == "ada-retrieval":
        model = AdaRetrieval(base, settings, seed=seed)
        reported = partial(on_progress, "train adapters")
        train_model(model, history, settings, function, out / ADAPTERS, on_progress=reported, **more)
        found[method] = judge(model)
    made = TunedRecommender(method, model.eval(), list(log.items), settings, repeats)
    made.save(out)
    return made, found


def _popular(rows: Sequence[np.ndarray], items: int, top: int, repeats: bool) -> np.ndarray:
    """Return the most chosen items of each user, int64 [users, top], those it chose left out unless they may repeat."""
    counts = np.bincount(np.concatenate(rows), minlength=items + 1).astype(float)
    found = []
    for row in rows:
        own = counts.copy()
        own[0] = -1
        if not repeats:
            own[row] = -1
        found.append(np.argsort(-own, kind="stable")[: min(top, items)])
    return np.array(found)
