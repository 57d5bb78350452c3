"""XGBoost as a library of :mod:`lorank.ranking.scorers.features.trees`."""

from pathlib import Path
from typing import Any

import numpy as np

from lorank.progress import ProgressCallback
from lorank.ranking.losses.core.derivatives import xgboost_objective
from lorank.ranking.scorers.features.rows import FeatureLists
from lorank.ranking.scorers.features.trees import LIBRARIES, Library, TreeRanker, own_loss, require_library


def _grow(
    train: FeatureLists, dev: FeatureLists | None, ranker: TreeRanker, on_progress: ProgressCallback | None
) -> Any:
    xgboost = require_library("xgboost")
    growth, function = ranker.growth, own_loss(ranker)
    settings = {
        "tree_method": "hist",
        "grow_policy": "lossguide",
        "max_leaves": growth.leaves,
        "max_depth": 0,
        "learning_rate": growth.lr,
        "min_child_weight": growth.leaf_weight,
        "reg_lambda": growth.l2,
        "colsample_bytree": growth.columns,
        "nthread": growth.threads,
        "seed": ranker.seed,
        "verbosity": 0,
        "disable_default_eval_metric": True,
        "base_score": 0.0,
        **({"objective": ranker.objective, **ranker.loss_options} if function is None else {}),
    }

    def matrix(lists: FeatureLists) -> Any:
        data = xgboost.DMatrix(lists.rows, lists.labels, nthread=growth.threads)
        data.set_group(lists.sizes)
        return data

    data, watch, calls = matrix(train), {}, []
    if dev is not None:
        watch = {
            "evals": [(matrix(dev), "dev")],
            "verbose_eval": False,
            "custom_metric": lambda predictions, data: (
                "nDCG@10",
                ranker.measure_dev(predictions, dev, len(ranker.dev_curve) + 1),
            ),
        }
        calls.append(
            xgboost.callback.EarlyStopping(
                rounds=growth.patience, metric_name="nDCG@10", data_name="dev", maximize=True, save_best=True
            )
        )
    if on_progress is not None:
        calls.append(_report_to(on_progress, growth.trees))
    custom = None if function is None else xgboost_objective(function, hessian=ranker.hessian)
    return xgboost.train(settings, data, growth.trees, obj=custom, callbacks=calls, **watch)


def _report_to(on_progress: ProgressCallback, trees: int) -> Any:
    base = require_library("xgboost").callback.TrainingCallback

    class Report(base):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            on_progress(epoch + 1, trees)
            return False

    return Report()


def _predict(booster: Any, rows: np.ndarray) -> np.ndarray:
    return np.asarray(booster.inplace_predict(np.asarray(rows, np.float32), predict_type="margin"))


def _write(booster: Any, path: Path) -> None:
    booster.save_model(path)


def _read(path: Path) -> Any:
    return require_library("xgboost").Booster(model_file=str(path))


LIBRARIES["xgboost"] = Library(
    "xgboost", ("rank:ndcg", "rank:pairwise", "rank:map"), True, _grow, _predict, _write, _read, "model.json"
)
