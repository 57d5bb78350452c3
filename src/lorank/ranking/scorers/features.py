"""Feature ranker: a multilayer perceptron on rows of numbers, as LETOR data brings them.

Equation: s(q, d) = W_k phi(... phi(W_1 t(x_qd) + b_1) ...) + b_k with phi = ReLU and t a fixed transform of the
features whose statistics come from the training rows alone and are saved with the model. The query's text
plays no part: its features stand in the row.

Transforms: ``none`` t(x) = x; ``log1p`` sign(x) log(1 + |x|) (Qin et al. 2021, Are Neural Rankers still
Outperformed by GBDT?, ICLR); ``standardise`` (x - mean) / deviation; ``log1p-standardise`` both, in that order.
A feature that is constant in training is 0 after standardising.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorank.errors import LorankError, UsageError
from lorank.ranking.scorers.folders import check_same_scores, read_card, write_card, written_whole
from lorank.ranking.scorers.ranker import Documents, Listen, TrainableRanker
from lorank.ranking.scorers.scoring_mode import scoring

Transform = Literal["none", "log1p", "standardise", "log1p-standardise"]
WEIGHTS = "model.safetensors"
PROBE_ROWS = 16
ROWS_AT_ONCE = 65536


def signed_log1p(rows: np.ndarray) -> np.ndarray:
    """Return sign(x) log(1 + |x|)."""
    return np.sign(rows) * np.log1p(np.abs(rows))


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda rows: rows, "log1p": signed_log1p,
    "standardise": lambda rows: rows, "log1p-standardise": signed_log1p,
}


class FeatureRanker(TrainableRanker[Tensor]):
    """Score rows of features with a perceptron of ``nn.Linear`` layers.

    ``features`` is the number of columns; left out, ``observe`` sets it from the training rows and builds the
    module. ``hidden`` are the widths of the hidden layers, () for a linear model. Weights are drawn from
    ``seed``; the last layer starts at zero, so that every score starts at 0. ``mean`` and ``scale`` are the
    statistics that ``observe`` finds: standardised features are (t - mean) * scale.

    >>> ranker = FeatureRanker(hidden=(4,), transform="standardise")
    >>> ranker.observe(np.array([[0.0, 10.0], [2.0, 30.0]], np.float32))
    >>> ranker.score("", np.array([[1.0, 20.0]], np.float32))
    array([0.], dtype=float32)
    """

    kind: ClassVar[str] = "features"
    score_scale: ClassVar[str] = "logit"

    def __init__(self, base: str = "features", *, features: int | None = None, hidden: Sequence[int] = (64, 32),
                 dropout: float = 0.0, transform: Transform = "log1p-standardise", seed: int = 0,
                 mean: Sequence[float] | None = None, scale: Sequence[float] | None = None) -> None:
        if base != "features":
            raise UsageError(f"a FeatureRanker starts from nothing, not from {base!r}; leave the base out")
        if transform not in get_args(Transform):
            raise UsageError(f"transform {transform!r}: choose one of {', '.join(get_args(Transform))}")
        if not 0.0 <= dropout < 1.0 or any(width < 1 for width in hidden):
            raise UsageError(f"dropout={dropout} must be in [0, 1) and hidden={tuple(hidden)} positive widths")
        self.base, self.hidden, self.dropout = base, tuple(hidden), float(dropout)
        self.transform, self.seed = transform, seed
        self.mean = None if mean is None else np.asarray(mean, np.float64)
        self.scale = None if scale is None else np.asarray(scale, np.float64)
        self._module: nn.Sequential | None = None
        if features is not None:
            self._module = perceptron(features, self.hidden, self.dropout, seed)

    @classmethod
    def for_collection(cls, documents: Documents, *, seed: int = 0, **options: Any) -> Self:
        """Return a ranker fitted to feature rows; give the training rows only, or the test leaks in."""
        ranker = cls(seed=seed, **options)
        ranker.observe(documents)
        return ranker

    @property
    def module(self) -> nn.Sequential:  # type: ignore[override]
        """The perceptron; it exists once the number of features is known."""
        if self._module is None:
            raise UsageError("this FeatureRanker does not know its features yet; call observe(rows) with the "
                             "training rows (lorank.fit does), or give their number: FeatureRanker(features=46)")
        return self._module

    @property
    def features(self) -> int:
        """The number of columns that a row must have."""
        return self.module[0].in_features

    def observe(self, documents: Documents) -> None:
        """Fit the transform's statistics on the training rows [documents, features] and build the module."""
        rows = checked_rows(documents, None if self._module is None else self.features)
        if not len(rows):
            raise UsageError("no training rows to fit the feature transform on")
        if self._module is None:
            self._module = perceptron(rows.shape[1], self.hidden, self.dropout, self.seed)
        if self.transform.endswith("standardise"):
            shaped = SHAPES[self.transform](rows.astype(np.float64))
            deviation = shaped.std(0)
            self.mean = shaped.mean(0)
            varies = deviation > 1e-12 * np.maximum(1.0, np.abs(self.mean))
            self.scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)

    def prepare(self, queries: Sequence[str], documents: Documents) -> Tensor:
        """Return the transformed rows, float32 [documents, features]."""
        rows = checked_rows(documents, self.features)
        shaped = SHAPES[self.transform](rows.astype(np.float64))
        if self.transform.endswith("standardise"):
            if self.mean is None or self.scale is None:
                raise UsageError(f"transform={self.transform!r} needs the training rows first: call observe(rows)")
            shaped = (shaped - self.mean) * self.scale
        return torch.from_numpy(shaped.astype(np.float32)).to(self.device)

    def forward(self, inputs: Tensor, queries: Tensor, documents: Tensor, mask: Tensor) -> Tensor:
        """Return scores [batch, list]; the queries play no part."""
        mask = mask.to(inputs.device)
        rows = inputs[documents.to(inputs.device)[mask]]
        scores = torch.zeros(mask.shape, device=inputs.device)
        return scores.masked_scatter(mask, self.module(rows).squeeze(-1).float())

    def score_pairs(self, queries: Sequence[str], documents: Documents, pairs: np.ndarray,
                    listen: Listen | None = None) -> np.ndarray:
        """Return scores of the pairs, float32 [n]; each row is scored once."""
        if not len(pairs):
            return np.zeros(0, np.float32)
        used, at = np.unique(pairs[:, 1], return_inverse=True)
        rows = self.prepare(queries, np.asarray(documents)[used])
        parts = []
        with scoring(self.module):
            for part in rows.split(ROWS_AT_ONCE):
                parts.append(self.module(part).squeeze(-1))
                if listen is not None:
                    listen(min(len(parts) * ROWS_AT_ONCE, len(rows)), len(rows))
        return torch.cat(parts).cpu().numpy()[at.reshape(-1)]

    def head_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Yield every parameter: there is no checkpoint, all of it is new."""
        return self.module.named_parameters()

    def options(self) -> dict[str, Any]:
        """Return the constructor's further arguments, the transform's statistics included."""
        return {"features": self.features, "hidden": list(self.hidden), "dropout": self.dropout,
                "transform": self.transform, "seed": self.seed,
                "mean": None if self.mean is None else self.mean.tolist(),
                "scale": None if self.scale is None else self.scale.tolist()}

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors) and lorank.json; re-open them and compare scores."""
        with written_whole(folder) as draft:
            save_file({name: value.contiguous() for name, value in self.module.state_dict().items()},
                      draft / WEIGHTS)
            write_card(draft, self.kind, self.options(), self.score_scale)
            rows = np.random.default_rng(0).standard_normal((PROBE_ROWS, self.features)).astype(np.float32)
            check_same_scores(self.score("", rows), type(self).load(draft).score("", rows), Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that ``save`` wrote."""
        ranker = cls(**read_card(folder, cls.kind)["options"])
        try:
            ranker.module.load_state_dict(load_file(Path(folder) / WEIGHTS))
        except RuntimeError as error:
            raise LorankError(f"{Path(folder) / WEIGHTS} does not hold this ranker's weights ({error}); an adapter "
                              "must be merged or detached before saving") from error
        return ranker


def perceptron(features: int, hidden: Sequence[int], dropout: float, seed: int) -> nn.Sequential:
    """Return Linear, ReLU, Dropout blocks and a last Linear that is zero; He-initialised from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for inner, outer in zip((features, *hidden), (*hidden, 1)):
        linear = nn.utils.skip_init(nn.Linear, inner, outer)
        with torch.no_grad():
            linear.weight.normal_(0.0, (2.0 / inner) ** 0.5, generator=generator)
            linear.bias.zero_()
        layers += [linear, nn.ReLU(), nn.Dropout(dropout)]
    layers = layers[:-2]
    with torch.no_grad():
        layers[-1].weight.zero_()
    return nn.Sequential(*layers).eval()


def checked_rows(documents: Documents, features: int | None) -> np.ndarray:
    """Return documents as an array [n, features], or raise UsageError saying what they are instead."""
    rows = np.asarray(documents)
    if rows.ndim == 1 and not len(rows):
        return np.zeros((0, features or 0), np.float32)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise UsageError(f"a FeatureRanker scores rows of numbers [documents, features], not {rows.dtype} of shape "
                         f"{rows.shape}; texts need a bi-encoder or a cross-encoder")
    if features is not None and rows.shape[1] != features:
        raise UsageError(f"rows have {rows.shape[1]} features, this ranker was made for {features}")
    if not np.isfinite(rows).all():
        where = np.argwhere(~np.isfinite(rows))[0]
        raise UsageError(f"feature {where[1] + 1} of document {where[0]} is {rows[tuple(where)]}; features must be "
                         "finite")
    return rows
