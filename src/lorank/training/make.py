"""From a base and a kind to a ranker."""

import json
from pathlib import Path

from lorank.data.collection import Collection
from lorank.errors import UsageError, unknown_name
from lorank.ranking.scorers import RANKERS
from lorank.ranking.scorers.ranker import TrainableRanker

EMBEDDERS = ("minilm",)


def make_ranker(base: str | None, kind: str | None, data: Collection, seed: int) -> TrainableRanker:
    """Return the ranker that ``base`` and ``kind`` name; the kind defaults to what the base was made for."""
    if data.has_features:
        if kind not in (None, "features"):
            raise UsageError(f"--kind {kind}: collection {data.name!r} holds feature rows; use --kind features")
        return RANKERS["features"](seed=seed)
    if base is None:
        raise UsageError("no base model; give --base minilm, a model folder, or a Hub name")
    kind = kind or kind_of(base)
    if kind not in RANKERS:
        raise unknown_name("kind", kind, RANKERS)
    if kind == "features":
        raise UsageError(f"--kind features: collection {data.name!r} holds texts; use bi-encoder or cross-encoder")
    return RANKERS[kind](base, dtype="auto", **({"seed": seed} if kind == "cross-encoder" else {}))


def kind_of(base: str) -> str:
    """Return what a base was made for: sentence embedding models are bi-encoders, others cross-encoders.

    >>> kind_of("minilm")
    'bi-encoder'
    """
    from lorank.ranking.scorers.pretrained import resolve

    if base in EMBEDDERS:
        return "bi-encoder"
    folder = Path(resolve(base))
    if (folder / "modules.json").is_file():
        kinds = {row["type"].rpartition(".")[2] for row in json.loads((folder / "modules.json").read_text())}
        return "bi-encoder" if "Pooling" in kinds else "cross-encoder"
    return "cross-encoder"
