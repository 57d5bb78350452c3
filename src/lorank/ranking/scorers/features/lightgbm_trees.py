"""LightGBM as a library of :mod:`lorank.ranking.scorers.features.trees`."""

from pathlib import Path
from typing import Any

import numpy as np

from lorank.progress import ProgressCallback
from lorank.ranking.losses.core.derivatives import lightgbm_objective
from lorank.ranking.scorers.features.rows import FeatureLists
from lorank.ranking.scorers.features.trees import LIBRARIES, Library, TreeRanker, own_loss, require_library


def _grow(
    train: FeatureLists, dev: FeatureLists | None, ranker: TreeRanker, on_progress: ProgressCallback | None
) -> Any:
    lightgbm = require_library("lightgbm")
    growth, function = ranker.growth, own_loss(ranker)
    settings = {
        "objective": ranker.objective if function is None else lightgbm_objective(function, hessian=ranker.hessian),
        "num_leaves": growth.leaves,
        "learning_rate": growth.lr,
        "min_data_in_leaf": growth.leaf_rows,
        "min_sum_hessian_in_leaf": growth.leaf_weight,
        "lambda_l2": growth.l2,
        "feature_fraction": growth.columns,
        "num_threads": growth.threads,
        "seed": ranker.seed,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
        "metric": "None",
        **(ranker.loss_options if function is None else {}),
    }
    data = lightgbm.Dataset(train.rows, train.labels, group=train.sizes, params={"verbosity": -1})
    watch: dict[str, Any] = {}
    calls = []
    if dev is not None:
        watch = {
            "valid_sets": [lightgbm.Dataset(dev.rows, dev.labels, group=dev.sizes, reference=data)],
            "feval": lambda predictions, data: (
                "nDCG@10",
                ranker.measure_dev(predictions, dev, len(ranker.dev_curve) + 1),
                True,
            ),
        }
        calls.append(lightgbm.early_stopping(growth.patience, verbose=False))
    if on_progress is not None:
        calls.append(lambda state: on_progress(state.iteration + 1, growth.trees))
    return lightgbm.train(settings, data, growth.trees, callbacks=calls, **watch)


def _predict(booster: Any, rows: np.ndarray) -> np.ndarray:
    scores = booster.predict(rows, num_iteration=booster.best_iteration or None, raw_score=True, num_threads=1)
    return np.asarray(scores)


def _write(booster: Any, path: Path) -> None:
    path.write_text(booster.model_to_string(num_iteration=booster.best_iteration or None), encoding="utf-8")


def _read(path: Path) -> Any:
    return require_library("lightgbm").Booster(model_str=path.read_text(encoding="utf-8"))


LIBRARIES["lightgbm"] = Library(
    "lightgbm", ("lambdarank", "rank_xendcg"), True, _grow, _predict, _write, _read, "model.txt"
)
