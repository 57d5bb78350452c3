r"""Gradient-boosted trees from LightGBM, XGBoost and CatBoost behind one face, with their objectives or with ours.

    s(x) = \eta \sum_t f_t(x),   f_t a tree fitted to the gradient and curvature of the objective at s_{t-1}

Objectives: each library's own (``lambdarank``, ``rank_xendcg`` in LightGBM; ``rank:ndcg``, ``rank:pairwise``,
``rank:map`` in XGBoost; ``YetiRank``, ``YetiRankPairwise``, ``StochasticRank``, ``QueryRMSE``, ``QuerySoftMax`` in
CatBoost), or the name of any loss of the registry, whose gradient and curvature
(:mod:`lorank.ranking.losses.core.derivatives`) LightGBM and XGBoost take. Trees need no feature transform.

A model is saved in its library's own text or JSON form. One thread by default and a seed: equal fits are equal.

Paper: C. Burges, From RankNet to LambdaRank to LambdaMART, 2010; G. Ke et al., LightGBM, NeurIPS 2017; T. Chen and
C. Guestrin, XGBoost, KDD 2016; L. Prokhorenkova et al., CatBoost, NeurIPS 2018; A. Gulin et al., YetiRank, 2011;
A. Ustimenko and L. Prokhorenkova, StochasticRank, ICML 2020.

*Deviations*: what a library leaves open has one name for all three: the number of trees, leaves (for CatBoost's
symmetric trees the depth, 2^depth leaves), the learning rate, the least weight of a leaf, the L2 penalty, the share of
features a tree sees.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from lorank.errors import LorankError, UsageError, unknown_name
from lorank.progress import ProgressCallback
from lorank.ranking.losses.core.lists import check_positive, choose
from lorank.ranking.losses.core.registry import ALIASES, LOSSES
from lorank.ranking.scorers.features.descent import informative_lists, main_measure
from lorank.ranking.scorers.features.rows import FeatureLists, checked_rows
from lorank.ranking.scorers.folders import check_same_scores, read_whole, write_card, written_whole
from lorank.ranking.scorers.ranker import Documents, FittedRanker
from lorank.ranking.scorers.texts import checked_pairs

PROBE_ROWS = 64


@dataclass(frozen=True)
class Growth:
    """How trees grow; the same words for every library.

    ``trees`` at most, fewer where nDCG@10 of the held-out lists has not risen for ``patience`` trees. ``leaf_rows``
    is the fewest training rows of a leaf (LightGBM, CatBoost), ``leaf_weight`` the least sum of curvature (LightGBM,
    XGBoost). ``columns`` is the share of features that a tree may split on.
    """

    trees: int = 500
    leaves: int = 31
    lr: float = 0.1
    leaf_rows: int = 20
    leaf_weight: float = 1e-3
    l2: float = 0.0
    columns: float = 1.0
    patience: int = 50
    threads: int = 1

    def __post_init__(self) -> None:
        check_positive(trees=self.trees, lr=self.lr, columns=self.columns, patience=self.patience, threads=self.threads)
        if self.leaves < 2 or self.columns > 1 or min(self.leaf_rows, self.leaf_weight, self.l2) < 0:
            raise UsageError(
                f"leaves must be 2 or more, columns at most 1, leaf_rows, leaf_weight and l2 0 or more; got {self}"
            )


@dataclass(frozen=True)
class Library:
    """What lorank needs of a library of trees.

    ``grow(train, dev, objective, growth, seed, on_progress)`` returns its booster, already cut to the best number of
    trees; ``predict(booster, rows)`` scores rows; ``write`` and ``read`` are its own file format.
    """

    module: str
    objectives: Sequence[str]
    any_loss: bool
    grow: Callable[..., Any]
    predict: Callable[[Any, np.ndarray], np.ndarray]
    write: Callable[[Any, Path], None]
    read: Callable[[Path], Any]
    file: str


GRADES: dict[str, float] = {"lambdarank": 30, "rank_xendcg": 30, "rank:ndcg": 31, "rank:map": 1}
"""Objectives that take whole grades from 0 up to this one only."""

LIBRARIES: dict[str, Library] = {}
"""The libraries by name."""


def require_library(module: str) -> Any:
    """Return the imported library; raise LorankError saying how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LorankError(f"{module} is not installed; install the trees: pip install 'lorank[trees]'") from error


class TreeRanker(FittedRanker):
    """Score feature rows with boosted trees.

    ``library`` is ``lightgbm``, ``xgboost`` or ``catboost``; ``objective`` one of the library's own or a loss of the
    registry with ``loss_options``; ``growth`` and ``changes`` to it say how trees grow. ``dev_curve`` holds (trees,
    nDCG@10 of the held-out lists) of the last ``fit``.

    Args:
        library: The library of trees: ``lightgbm``, ``xgboost`` or ``catboost``.
        objective: One of the library's own objectives or a loss of the registry; empty for the library's first.
        loss_options: The options of a loss of the registry.
        hessian: The second derivative of a loss of the registry: ``auto``, ``exact``, ``probes`` or ``trust``.
        features: The number of columns of a row; None leaves it to ``fit``.
        seed: The seed of every random draw.
        growth: The settings of how trees grow; None stands for the defaults.
        changes: Fields of ``growth`` that are replaced.

    Raises:
        UsageError: If a name or an option is not known.

    >>> rows = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    >>> lists = FeatureLists(rows, (rows[:, 0] > 0.5).astype(int), np.arange(0, 201, 10))
    >>> ranker = TreeRanker("lightgbm", trees=20, leaves=4).fit(lists)
    >>> main_measure(ranker.score_lists(lists), lists) > 0.95
    True
    """

    kind: ClassVar[str] = "trees"
    score_scale: ClassVar[str] = "logit"
    takes_loss: ClassVar[bool] = False
    """Its objective is given when it is made."""

    def __init__(
        self,
        library: str = "lightgbm",
        *,
        objective: str = "",
        loss_options: Mapping[str, Any] | None = None,
        hessian: str = "auto",
        features: int | None = None,
        seed: int = 0,
        growth: Growth | None = None,
        **changes: Any,
    ) -> None:
        self.library, self.seed, self.features, self.hessian = library, seed, features, hessian
        self._library = choose("library of trees", library, LIBRARIES)
        self.objective, self.loss_options = objective or self._library.objectives[0], dict(loss_options or {})
        known = [*self._library.objectives, *([*LOSSES, *ALIASES] if self._library.any_loss else [])]
        if self.objective not in known:
            raise unknown_name(f"objective of {library}:", self.objective, known)
        unknown = next((name for name in changes if name not in Growth.__dataclass_fields__), None)
        if unknown is not None:
            raise unknown_name("option of trees:", unknown, Growth.__dataclass_fields__)
        self.growth = replace(growth or Growth(), **changes)
        self._booster: Any = None
        self.dev_curve: list[tuple[int, float]] = []

    @property
    def model(self) -> str:
        """The feature model's name: the library."""
        return self.library

    @property
    def booster(self) -> Any:
        """The library's own model; it exists once the ranker is fitted."""
        if self._booster is None:
            raise UsageError("this TreeRanker has grown no trees yet; call fit(lists)")
        return self._booster

    def fit(
        self, train: FeatureLists, dev: FeatureLists | None = None, *, on_progress: ProgressCallback | None = None
    ) -> Self:
        """Grow trees on the training lists, and return the ranker itself.

        Args:
            train: Lists to learn from.
            dev: Lists on which nDCG@10 decides how many trees are kept; None keeps all.
            on_progress: Receives (trees, most trees).
        """
        require_library(self._library.module)
        informative_lists(train)
        self._check_lists(train)
        self.dev_curve = []
        self.features = train.rows.shape[1]
        try:
            self._booster = self._library.grow(
                _without_empty(train), None if dev is None else _without_empty(dev), self, on_progress
            )
        except Exception as error:
            if not type(error).__module__.lstrip("_").startswith(self.library):
                raise
            said = " ".join(str(error).partition("Stack trace")[0].split())[:300]
            raise LorankError(f"{self.library} cannot learn from these lists by {self.objective!r}: {said}") from error
        return self

    def _check_lists(self, lists: FeatureLists) -> None:
        """Raise UsageError for labels that the objective does not take, and for rows that are all the same."""
        if bool((lists.rows == lists.rows[:1]).all()):
            raise UsageError("no feature differs between any two rows, so there is nothing for a tree to split on")
        most, labels = GRADES.get(self.objective), np.asarray(lists.labels, np.float64)
        if most is not None and not bool(((labels >= 0) & (labels <= most) & (labels == np.rint(labels))).all()):
            raise UsageError(
                f"the objective {self.objective!r} takes whole labels from 0 to {most:g}, and these go from "
                f"{labels.min():g} to {labels.max():g}; rescale them, or choose a loss of real labels such as mse"
            )

    def measure_dev(self, predictions: np.ndarray, dev: FeatureLists, trees: int) -> float:
        """Return nDCG@10 of predictions for the held-out lists, and remember it; libraries call it as trees grow."""
        self.dev_curve.append((trees, main_measure(np.asarray(predictions), dev)))
        return self.dev_curve[-1][1]

    def score_lists(self, lists: FeatureLists) -> np.ndarray:
        """Return scores of all rows of packed lists, float32 [documents]."""
        return self._library.predict(self.booster, checked_rows(lists.rows, self.features)).astype(np.float32)

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return scores of the pairs, float32 [n]; each row is scored once.

        Args:
            queries: The texts of the queries.
            documents: The rows of features [documents, features].
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of rows that are scored and their total.
        """
        pairs = checked_pairs(queries, documents, pairs)
        if not len(pairs):
            return np.zeros(0, np.float32)
        used, at = np.unique(pairs[:, 1], return_inverse=True)
        rows = checked_rows(np.asarray(documents)[used], self.features)
        scores = self._library.predict(self.booster, rows).astype(np.float32)
        if on_progress is not None:
            on_progress(len(rows), len(rows))
        return scores[at.reshape(-1)]

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-ready."""
        return {
            "library": self.library,
            "objective": self.objective,
            "loss_options": self.loss_options,
            "hessian": self.hessian,
            "features": self.features,
            "seed": self.seed,
            **asdict(self.growth),
        }

    def save(self, folder: str | Path) -> None:
        """Write the trees in their library's format and lorank.json; re-open them and compare scores."""
        with written_whole(folder) as draft:
            self._library.write(self.booster, draft / self._library.file)
            write_card(draft, self.kind, self.options(), self.score_scale)
            rows = np.random.default_rng(0).standard_normal((PROBE_ROWS, self.features or 0)).astype(np.float32)
            check_same_scores(self.score("", rows), type(self).load(draft).score("", rows), Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that ``save`` wrote."""
        return read_whole(folder, cls.kind, cls._from_card)

    @classmethod
    def _from_card(cls, folder: Path, card: dict[str, Any]) -> Self:
        ranker = cls(**card["options"])
        require_library(ranker._library.module)
        ranker._booster = ranker._library.read(folder / ranker._library.file)
        return ranker


def _without_empty(lists: FeatureLists) -> FeatureLists:
    return lists if lists.sizes.all() else lists.take(np.flatnonzero(lists.sizes))


def own_loss(ranker: TreeRanker) -> Callable[..., Any] | None:
    """Return the registry's loss where the objective is one; the library's own objectives go by first."""
    from lorank.ranking.losses.core.registry import loss

    if ranker.objective in ranker._library.objectives:
        return None
    return loss(ranker.objective, **ranker.loss_options)
