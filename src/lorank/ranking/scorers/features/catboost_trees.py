"""CatBoost as a library of :mod:`lorank.ranking.scorers.features.trees`: YetiRank and StochasticRank."""

from pathlib import Path
from typing import Any

import numpy as np

from lorank.progress import ProgressCallback
from lorank.ranking.scorers.features.rows import FeatureLists
from lorank.ranking.scorers.features.trees import LIBRARIES, Library, TreeRanker, require_library

OBJECTIVES = {
    "YetiRank": "YetiRank",
    "YetiRankPairwise": "YetiRankPairwise",
    "StochasticRank": "StochasticRank:metric=NDCG",
    "QueryRMSE": "QueryRMSE",
    "QuerySoftMax": "QuerySoftMax",
}
STEP = 10
"""Trees between two measurements on the held-out lists."""


def _grow(
    train: FeatureLists, dev: FeatureLists | None, ranker: TreeRanker, on_progress: ProgressCallback | None
) -> Any:
    catboost = require_library("catboost")
    growth = ranker.growth
    model = catboost.CatBoost(
        {
            "loss_function": OBJECTIVES[ranker.objective],
            "iterations": growth.trees,
            "learning_rate": growth.lr,
            "depth": max(1, round(np.log2(growth.leaves))),
            "l2_leaf_reg": growth.l2 or 1e-6,
            "min_data_in_leaf": max(1, growth.leaf_rows),
            "rsm": growth.columns,
            "random_seed": ranker.seed,
            "thread_count": growth.threads,
            "logging_level": "Silent",
            "allow_writing_files": False,
            "custom_metric": [],
            **ranker.loss_options,
        }
    )

    def pool(lists: FeatureLists) -> Any:
        at = np.repeat(np.arange(len(lists)), lists.sizes)
        return catboost.Pool(
            np.asarray(lists.rows, np.float32),
            np.asarray(lists.labels, np.float32),
            group_id=at,
            thread_count=growth.threads,
        )

    callbacks = [_Progress(on_progress, growth.trees)] if on_progress is not None else None
    model.fit(pool(train), callbacks=callbacks)
    if dev is not None:
        model.shrink(_best_count(model, dev, ranker))
    return model


def _best_count(model: Any, dev: FeatureLists, ranker: TreeRanker) -> int:
    """Return how many of the trees serve ``dev`` best, as early stopping would have found."""
    best, kept = -1.0, 1
    stages = model.staged_predict(
        np.asarray(dev.rows, np.float32), prediction_type="RawFormulaVal", eval_period=STEP, thread_count=1
    )
    for stage, predictions in enumerate(stages, start=1):
        count = min(stage * STEP, model.tree_count_)
        value = ranker.measure_dev(predictions, dev, count)
        if value > best:
            best, kept = value, count
        elif count - kept >= ranker.growth.patience:
            break
    return kept


class _Progress:
    def __init__(self, on_progress: ProgressCallback, trees: int) -> None:
        self.on_progress, self.trees = on_progress, trees

    def after_iteration(self, info: Any) -> bool:
        self.on_progress(info.iteration, self.trees)
        return True


def _predict(model: Any, rows: np.ndarray) -> np.ndarray:
    scores = model.predict(np.asarray(rows, np.float32), prediction_type="RawFormulaVal", thread_count=1)
    return np.asarray(scores)


def _write(model: Any, path: Path) -> None:
    model.save_model(str(path), format="json")


def _read(path: Path) -> Any:
    model = require_library("catboost").CatBoost()
    model.load_model(str(path), format="json")
    return model


LIBRARIES["catboost"] = Library("catboost", tuple(OBJECTIVES), False, _grow, _predict, _write, _read, "model.json")
