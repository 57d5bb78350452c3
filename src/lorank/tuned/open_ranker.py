"""From a base and a kind to a ranker."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorank.data.collection import Collection
from lorank.errors import UsageError, unknown_name
from lorank.manifest import CARD
from lorank.ranking.scorers import RANKERS
from lorank.ranking.scorers.features import feature_model
from lorank.ranking.scorers.ranker import FittedRanker
from lorank.ranking.scorers.text_ranker import check_head_is_trained

if TYPE_CHECKING:
    from lorank.tuned.ranker import TunedRanker

EMBEDDERS = ("minilm",)
LABELLED = ("cross-encoder", "causal")
"""Kinds that can read one label of several."""


def open_base(
    base: str | None,
    kind: str | None,
    data: Collection,
    seed: int,
    view: str | None = None,
    loss: str = "softmax",
    options: Mapping[str, Any] | None = None,
    label: str | int | None = None,
) -> FittedRanker:
    """Return the ranker that ``base`` and ``kind`` name.

    Where the data holds feature rows, ``base`` names a feature model: ``mlp`` (the default), ``set-transformer``,
    ``lightgbm``, ...

    Args:
        base: A packaged name, a folder, or a name on the Hub; None is allowed for feature rows alone.
        kind: The kind of ranker; None takes what the base was made for.
        data: The collection that is to be ranked, which decides between texts and feature rows.
        seed: The seed of new weights.
        view: What of a causal model is the score; None is the log-ratio for a preference loss, else yes and no.
        loss: The name of the loss that the ranker is to be trained with.
        options: The options of a feature model (`lorank.ranking.scorers.features.model_options`).
        label: The label, of a classifier of several, whose score counts.

    Raises:
        UsageError: If no base is given, or the base, the kind, a view, a label or an option does not fit the data.
    """
    if label is not None and data.has_features:
        raise UsageError(f"--label {label}: collection {data.name!r} holds feature rows, and their models no labels")
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
    made: FittedRanker = RANKERS[kind](base, **_options(kind, seed, view, loss), **chosen_label(kind, label))
    return made


def chosen_label(kind: str, label: str | int | None) -> dict[str, Any]:
    """Return the option that chooses a label; raise UsageError for kinds of ranker that have none."""
    if label is None:
        return {}
    if kind not in LABELLED:
        raise UsageError(f"--label {label}: a {kind} has no labels to choose from; only {', '.join(LABELLED)} have")
    return {"label": label}


def open_ranker(name: str, *, kind: str | None = None, label: str | int | None = None) -> "TunedRanker":
    """Return any ranker of texts by its name: a tuned one's folder, a saved one's, or a base that scores as it is.

    A saved ranker and a base come as a tuned ranker without adapter and first stage.

    Raises UsageError for a base without a scoring head, whose scores would all be 0, and for a label where none is to
    be chosen.

    >>> open_ranker("minilm").ranker.kind                                                   # doctest: +SKIP
    'bi-encoder'
    """
    from lorank.tuned.ranker import TunedRanker

    folder = Path(name)
    for home in (folder / "model", folder):
        if not (home / CARD).is_file():
            continue
        if label is not None or kind is not None:
            raise UsageError(f"{name} is a ranker that was trained and saved; its kind and label stand in its {CARD}")
        card = json.loads((home / CARD).read_text(encoding="utf-8"))
        if "mix" in card:
            return TunedRanker.load(folder)
        if card.get("kind") in RANKERS:
            return TunedRanker(RANKERS[card["kind"]].load(home))
    if folder.is_dir() and not (folder / "config.json").is_file():
        return TunedRanker.load(folder)  # its error says what a ranker's folder holds
    kind = kind or kind_of(name)
    if kind not in RANKERS or kind in ("features", "trees", "replies"):
        raise unknown_name("kind", kind, [each for each in RANKERS if each not in ("features", "trees", "replies")])
    ranker = RANKERS[kind](name, dtype="auto", **chosen_label(kind, label))
    check_head_is_trained(ranker)
    return TunedRanker(ranker)


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
    from lorank.ranking.scorers.causal_pretrained import PACKAGED_GGUF, is_causal
    from lorank.ranking.scorers.pretrained import pools_tokens, resolve

    if base in EMBEDDERS:
        return "bi-encoder"
    if base not in PACKAGED_GGUF and not str(base).endswith(".gguf") and pools_tokens(resolve(base)):
        return "bi-encoder"
    return "causal" if is_causal(base) else "cross-encoder"
