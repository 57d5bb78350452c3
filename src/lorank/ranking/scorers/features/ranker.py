"""Feature ranker: a network on rows of numbers, as LETOR data brings them.

Equation: s = N(t(x)) with N a network (``linear``, ``mlp``, ``set-transformer``) and t a transform of the features
whose statistics come from the training rows alone and are saved with the model. The query's text plays no part: its
features stand in the row. Where N or t looks across the list, a document's score depends on the documents that are
scored with it: give whole lists.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorank.errors import LorankError, UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.losses import Loss
from lorank.ranking.losses import loss as named_loss
from lorank.ranking.losses.core.lists import choose
from lorank.ranking.scorers.features.descent import Descent, main_measure
from lorank.ranking.scorers.features.networks import Lesson, find_network
from lorank.ranking.scorers.features.rows import (
    ROWS_AT_ONCE,
    FeatureLists,
    batches_of_lists,
    checked_categories,
    checked_rows,
    grid_of,
)
from lorank.ranking.scorers.features.transforms import TRANSFORMS
from lorank.ranking.scorers.folders import check_same_scores, read_whole, write_card, written_whole
from lorank.ranking.scorers.pairs import lay_out
from lorank.ranking.scorers.ranker import Documents, TrainableRanker
from lorank.ranking.scorers.scoring_mode import scoring
from lorank.ranking.scorers.texts import checked_pairs

WEIGHTS = "model.safetensors"
PROBE_ROWS = 16


class FeatureRanker(TrainableRanker[Tensor]):
    """Score rows of features with a network.

    ``model`` names the network, ``options`` are its own (``hidden``, ``dropout``, ``width``, ...). ``features`` is
    the number of columns; left out, ``observe`` (or ``fit``) sets it from the training rows and builds the module.
    Weights are drawn from ``seed``; the last layer starts at zero, so that every score starts at 0. ``statistics``
    are what the transform learned from the training rows. ``settings`` are those of ``fit`` where it is given none;
    ``dev_curve`` holds (round, nDCG@10 of the held-out lists) of the last ``fit``.

    Args:
        base: The word ``features``, since the ranker starts from no checkpoint.
        model: The name of a network in ``NETWORKS``.
        features: The number of columns; None leaves it to ``observe`` or ``fit``.
        transform: The name of a transform in ``TRANSFORMS``.
        seed: The seed of the weights.
        statistics: What the transform has learned from training rows, or None.
        settings: The settings of ``fit`` where it is given none.
        options: The options of the network itself.

    Raises:
        UsageError: If a name or an option is not known, or a value is out of its range.

    >>> ranker = FeatureRanker(hidden=(4,), transform="standardise")
    >>> ranker.observe(np.array([[0.0, 10.0], [2.0, 30.0]], np.float32))
    >>> ranker.score("", np.array([[1.0, 20.0]], np.float32))
    array([0.], dtype=float32)
    """

    kind: ClassVar[str] = "features"
    score_scale: ClassVar[str] = "logit"

    def __init__(
        self,
        base: str = "features",
        *,
        model: str = "mlp",
        features: int | None = None,
        transform: str = "log1p-standardise",
        seed: int = 0,
        statistics: Mapping[str, Sequence[Any]] | None = None,
        settings: Descent | None = None,
        **options: Any,
    ) -> None:
        if base != "features":
            raise UsageError(f"a FeatureRanker starts from nothing, not from {base!r}; leave the base out")
        self.base, self.model, self.transform, self.seed = base, model, transform, seed
        self._transform = choose("transform", transform, TRANSFORMS)
        self._network = find_network(model, options)
        self.network_options = {
            name: _plain(options.get(name, default)) for name, default in self._network.options.items()
        }
        self.statistics = (
            None if statistics is None else {name: np.asarray(value, np.float64) for name, value in statistics.items()}
        )
        self.settings, self.dev_curve = settings or Descent(), list[tuple[int, float]]()
        self._module: nn.Module | None = None
        self._features = 0
        self._network.build(1, torch.Generator(), **self.network_options)  # refuses bad values at once
        if self.category_columns and self._transform.within is not None:
            raise UsageError(f"transform={transform!r} looks across lists and would change categories; use another")
        if features is not None:
            self._build(features)

    def _build(self, features: int) -> None:
        beyond = [column + 1 for column in self.category_columns if column >= features]
        if beyond:
            raise UsageError(f"column {beyond[0]} is said to hold categories, and rows have {features} columns")
        self._features = features
        generator = torch.Generator().manual_seed(self.seed)
        self._module = self._network.build(features, generator, **self.network_options).eval()

    @classmethod
    def for_collection(cls, documents: Documents, *, seed: int = 0, **options: Any) -> Self:
        """Return a ranker fitted to feature rows; give the training rows only, or the test leaks in."""
        ranker = cls(seed=seed, **options)
        ranker.observe(documents)
        return ranker

    @property
    def module(self) -> nn.Module:  # type: ignore[override]
        """The network; it exists once the number of features is known."""
        if self._module is None:
            raise UsageError(
                "this FeatureRanker does not know its features yet; call observe(rows) with the "
                "training rows (lorank.fit does), or give their number: FeatureRanker(features=46)"
            )
        return self._module

    @property
    def features(self) -> int:
        """The number of columns that a row must have."""
        return self._features if self.module is not None else 0

    @property
    def trained_by_loop(self) -> bool:
        """Whether the network learns by any loss of its scores; else ``fit`` is the one way to train it."""
        return self._network.learn is None

    @property
    def takes_loss(self) -> bool:
        """Whether ``fit`` takes a loss."""
        return self._network.takes_loss

    @property
    def looks_across(self) -> bool:
        """Whether a document's score depends on the others of its list."""
        return self._network.across or self._transform.within is not None

    @property
    def category_columns(self) -> list[int]:
        """The places of the columns that hold categories, from 0."""
        named = self.network_options.get(self._network.categories) or ()
        return [column - 1 for column in named]

    def observe(self, documents: Documents) -> None:
        """Fit the transform's statistics on the training rows [documents, features] and build the module."""
        rows = checked_rows(documents, None if self._module is None else self.features)
        if not len(rows):
            raise UsageError("no training rows to fit the feature transform on")
        if self._module is None:
            self._build(rows.shape[1])
        if self._transform.learns:
            self.statistics = self._transform.statistics(rows)

    def prepare(self, queries: Sequence[str], documents: Documents) -> Tensor:
        """Return the transformed rows, float32 [documents, features]."""
        rows = checked_rows(documents, self.features)
        if self._transform.learns and self.statistics is None:
            raise UsageError(f"transform={self.transform!r} needs the training rows first: call observe(rows)")
        made = self._transform(rows, self.statistics or {})
        if self.category_columns:
            made[:, self.category_columns] = checked_categories(rows, self.category_columns)
        return torch.from_numpy(made).to(self.device)

    def forward(self, inputs: Tensor, queries: Tensor, documents: Tensor, mask: Tensor) -> Tensor:
        """Return scores [batch, list].

        Args:
            inputs: The transformed rows [documents, features].
            queries: They are not used.
            documents: The int64 [batch, list] positions of the rows.
            mask: The bool [batch, list] grid, True where there is a document.
        """
        mask, documents = mask.to(inputs.device), documents.to(inputs.device)
        if not self.looks_across:
            return lay_out(self.module(inputs[documents[mask]]).squeeze(-1).float(), mask)
        grid = inputs[documents].masked_fill(~mask.unsqueeze(2), 0.0)
        if self._transform.within is not None:
            grid = self._transform.within(grid, mask)
        return self._scores(grid, mask)

    def fit(
        self,
        train: FeatureLists,
        dev: FeatureLists | None = None,
        *,
        loss: str | Loss | None = None,
        settings: Descent | None = None,
        on_progress: ProgressCallback | None = None,
        **changes: Any,
    ) -> Self:
        """Learn from packed lists in memory, and return the ranker itself.

        Args:
            train: Lists to learn from; the transform sees their rows and no others.
            dev: Lists on which nDCG@10 decides when to stop.
            loss: A name in ``LOSSES``, or a loss with its options set; ``softmax`` where left out.
            settings: Epochs, rates, patience; the ranker's own where left out.
            on_progress: Receives (epochs done, epochs).
            changes: Fields of ``settings`` to change.
        """
        function = named_loss(loss) if isinstance(loss, str) else loss
        self.observe(train.rows)
        self.dev_curve = []
        held_out = None if dev is None else lambda: self._measure(dev)
        lesson = Lesson(
            self.module,
            self.prepare([], train.rows),
            train,
            self._transform.within,
            function,
            replace(settings or self.settings, **changes),
            self.seed,
            held_out,
            on_progress,
        )
        (self._network.learn or self._descend)(lesson)
        return self

    def _measure(self, dev: FeatureLists) -> float:
        self.dev_curve.append((len(self.dev_curve) + 1, main_measure(self.score_lists(dev), dev)))
        return self.dev_curve[-1][1]

    def _descend(self, lesson: Lesson) -> None:
        function = lesson.loss or named_loss("softmax")
        lesson.descend(lambda rows, labels, mask: function(self._scores(rows, mask), labels, mask))

    def _scores(self, grid: Tensor, mask: Tensor) -> Tensor:
        scores = self.module(grid, mask) if self._network.across else self.module(grid).squeeze(-1)
        return torch.where(mask, scores.float(), 0.0)

    def score_lists(self, lists: FeatureLists) -> np.ndarray:
        """Return scores of all rows of packed lists, float32 [documents]."""
        at = np.repeat(np.arange(len(lists)), lists.sizes)
        return self.score_pairs([""] * len(lists), lists.rows, np.stack([at, np.arange(len(at))], 1))

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return scores of the pairs, float32 [n]; where the model looks across, a query's pairs are its list.

        Args:
            queries: The texts of the queries.
            documents: The rows of features [documents, features].
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of rows or lists that are scored and their total.
        """
        pairs = checked_pairs(queries, documents, pairs)
        if not len(pairs):
            return np.zeros(0, np.float32)
        used, at = np.unique(pairs[:, 1], return_inverse=True)
        inputs = self.prepare(queries, np.asarray(documents)[used])
        at = at.reshape(-1)
        return (
            self._score_lists(inputs, np.stack([pairs[:, 0], at], 1), on_progress)
            if self.looks_across
            else (self._score_rows(inputs, on_progress)[at])
        )

    def _score_rows(self, inputs: Tensor, on_progress: ProgressCallback | None) -> np.ndarray:
        parts = []
        with scoring(self.module):
            for part in inputs.split(ROWS_AT_ONCE):
                parts.append(self.module(part).squeeze(-1))
                if on_progress is not None:
                    on_progress(min(len(parts) * ROWS_AT_ONCE, len(inputs)), len(inputs))
        return torch.cat(parts).cpu().numpy()

    def _score_lists(self, inputs: Tensor, pairs: np.ndarray, on_progress: ProgressCallback | None) -> np.ndarray:
        whole, at = np.unique(pairs, axis=0, return_inverse=True)
        _, sizes = np.unique(whole[:, 0], return_counts=True)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        scores, done = np.zeros(len(whole), np.float32), 0
        with scoring(self.module):
            for chosen in batches_of_lists(sizes, 4096):
                places, mask = grid_of(offsets, chosen)
                documents = torch.from_numpy(whole[:, 1])[places]
                scores[places[mask].numpy()] = self.forward(inputs, places[:, 0], documents, mask)[mask].cpu().numpy()
                done += int(mask.sum())
                if on_progress is not None:
                    on_progress(done, len(whole))
        return scores[at.reshape(-1)]

    def head_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Yield every parameter: there is no checkpoint, all of it is new."""
        return self.module.named_parameters()

    def options(self) -> dict[str, Any]:
        """Return the constructor's further arguments, the transform's statistics included."""
        return {
            "model": self.model,
            "features": self.features,
            "transform": self.transform,
            "seed": self.seed,
            "statistics": None
            if self.statistics is None
            else {name: value.tolist() for name, value in self.statistics.items()},
            **self.network_options,
        }

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors) and lorank.json; re-open them and compare scores."""
        with written_whole(folder) as draft:
            save_file({name: value.contiguous() for name, value in self.module.state_dict().items()}, draft / WEIGHTS)
            write_card(draft, self.kind, self.options(), self.score_scale)
            rows = np.random.default_rng(0).standard_normal((PROBE_ROWS, self.features)).astype(np.float32)
            rows[:, self.category_columns] = np.rint(np.abs(rows[:, self.category_columns]))
            check_same_scores(self.score("", rows), type(self).load(draft).score("", rows), Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that ``save`` wrote."""
        return read_whole(folder, cls.kind, cls._from_card)

    @classmethod
    def _from_card(cls, folder: Path, card: dict[str, Any]) -> Self:
        ranker = cls(**card["options"])
        try:
            ranker.module.load_state_dict(load_file(folder / WEIGHTS))
        except RuntimeError as error:
            raise LorankError(
                f"{folder / WEIGHTS} does not hold this ranker's weights ({error}); an adapter "
                "must be merged or detached before saving"
            ) from error
        return ranker


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
