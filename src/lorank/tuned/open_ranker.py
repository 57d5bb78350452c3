"""From a base and a kind to a ranker."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorank.data.collection import Collection
from lorank.errors import UsageError, unknown_name
from lorank.ranking.scorers import RANKERS
from lorank.ranking.scorers.features import feature_model
from lorank.ranking.scorers.ranker import FittedRanker

EMBEDDERS = ("minilm",)


def open_base(
    base: str | None,
    kind: str | None,
    data: Collection,
    seed: int,
    view: str | None = None,
    loss: str = "softmax",
    options: Mapping[str, Any] | None = None,
) -> FittedRanker:
    """Return the ranker that ``base`` and ``kind`` name; the kind defaults to what the base was made for.

    Where the data holds feature rows, ``base`` names a feature model: ``mlp`` (the default), ``set-transformer``,
    ``lightgbm``, ... with ``options`` of its own (`lorank.ranking.scorers.features.model_options`).

    ``view`` says what of a causal model is the score; None is the log-ratio for a preference loss, else yes and no.
    """
    if data.has_features:
        if kind not in (None, "features"):
            raise UsageError(f"--kind {kind}: collection {data.name!r} holds feature rows; use --kind features")
        if view is not None:
            raise UsageError(
                f"--view {view}: only a causal ranker has views, and collection {data.name!r} holds feature rows"
            )
        model: FittedRanker = feature_model(base or "mlp", seed=seed, **(options or {}))
        return model
    if options:
        raise UsageError(
            f"option {next(iter(options))}: only feature models take options, and collection {data.name!r} holds texts"
        )
    if base is None:
        raise UsageError("no base model; give --base minilm, a model folder, or a Hub name")
    kind = kind or kind_of(base)
    if kind not in RANKERS:
        raise unknown_name("kind", kind, RANKERS)
    if kind in ("features", "trees"):
        raise UsageError(f"--kind {kind}: collection {data.name!r} holds texts; use bi-encoder or cross-encoder")
    if view is not None and kind != "causal":
        raise UsageError(f"--view {view}: only a causal ranker has views, this is a {kind}")
    made: FittedRanker = RANKERS[kind](base, **_options(kind, seed, view, loss))
    return made


def _options(kind: str, seed: int, view: str | None, loss: str) -> dict[str, Any]:
    if kind != "causal":
        return {"dtype": "auto"} | ({"seed": seed} if kind in ("cross-encoder", "pyramid") else {})
    from lorank.catalogue import METHODS
    from lorank.ranking.losses import ALIASES

    method = METHODS.get(ALIASES.get(loss, loss))
    preference = method is not None and method.area == "losses.preference"
    view = view or ("log-ratio" if preference else "yes-no")
    return {"view": view, "seed": seed, "dtype": "float32" if view == "log-ratio" else "auto"}


def kind_of(base: str) -> str:
    """Return what a base was made for: sentence embedding models are bi-encoders, language models causal, others
    cross-encoders.

    >>> kind_of("minilm"), kind_of("smollm2")
    ('bi-encoder', 'causal')
    """
    from lorank.ranking.scorers.causal_pretrained import is_causal
    from lorank.ranking.scorers.pretrained import resolve

    if base in EMBEDDERS:
        return "bi-encoder"
    if is_causal(base):
        return "causal"
    folder = Path(resolve(base))
    if (folder / "modules.json").is_file():
        kinds = {row["type"].rpartition(".")[2] for row in json.loads((folder / "modules.json").read_text())}
        return "bi-encoder" if "Pooling" in kinds else "cross-encoder"
    return "cross-encoder"
