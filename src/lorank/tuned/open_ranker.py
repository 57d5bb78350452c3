"""From a base and a kind to a ranker."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorank.data.collection import Collection
from lorank.errors import UsageError, unknown_name
from lorank.manifest import CARD
from lorank.ranking.calibration.folder import read_calibration
from lorank.ranking.scorers import RANKERS
from lorank.ranking.scorers.features import feature_model
from lorank.ranking.scorers.ranker import FittedRanker
from lorank.ranking.scorers.text_ranker import check_head_is_trained
from lorank.tuned.hub import fetch
from lorank.tuned.naming import recognise
from lorank.tuned.reading import ReadingSettings, check_reading, read_otherwise

if TYPE_CHECKING:
    from lorank.tuned.ranker import TunedRanker

EMBEDDERS = ("minilm",)
LABELLED = ("cross-encoder", "causal")
"""Kinds that can read one label of several."""
NOT_OF_TEXTS = ("features", "trees", "replies")
"""Kinds that no base of texts can be opened as."""


def open_base(
    base: str | None,
    kind: str | None,
    data: Collection,
    seed: int,
    view: str | None = None,
    loss: str = "softmax",
    options: Mapping[str, Any] | None = None,
    label: str | int | None = None,
    reading: ReadingSettings | None = None,
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
        reading: How texts are read.

    Raises:
        UsageError: If no base is given, or the base, the kind, a view, a label or an option does not fit the data.
    """
    reading = reading or ReadingSettings()
    if reading.as_options() and data.has_features:
        raise UsageError(
            f"reading.{next(iter(reading.as_options()))}: {data.name!r} holds feature rows, which are not read"
        )
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
    check_reading(kind, reading)
    options = _options(kind, seed, view, loss) | reading.as_options() | chosen_label(kind, label)
    made: FittedRanker = RANKERS[kind](base, **options)
    return made


def chosen_label(kind: str, label: str | int | None) -> dict[str, Any]:
    """Return the option that chooses a label; raise UsageError for kinds of ranker that have none."""
    if label is None:
        return {}
    if kind not in LABELLED:
        raise UsageError(f"--label {label}: a {kind} has no labels to choose from; only {', '.join(LABELLED)} have")
    return {"label": label}


def open_ranker(
    name: str | Path,
    *,
    kind: str | None = None,
    label: str | int | None = None,
    reading: ReadingSettings | None = None,
    collection: Collection | None = None,
    flag: str = "",
) -> "TunedRanker":
    """Return any ranker by its name: tuned, saved, an adapter on its base, a base as it is, a judge, or BM25.

    What was not tuned comes as a tuned ranker without first stage; see `lorank.tuned.naming` for the names.

    Args:
        name: As `lorank.tuned.naming.recognise` reads it.
        kind: The kind of ranker of a base or an adapter; None takes what it was made for.
        label: The label that is the score, of a classifier with several.
        reading: How texts are read; of a ranker that was trained, lengths and passages alone can change.
        collection: The collection whose statistics BM25 takes; None counts the documents of each call.
        flag: The option that the name was given by, which begins messages about it.

    Raises:
        UsageError: For a name that names no ranker, a base without a scoring head, whose scores would all be 0, and
            for a kind, label or reading setting that the ranker does not take.

    >>> open_ranker("minilm").ranker.kind                                                   # doctest: +SKIP
    'bi-encoder'
    """
    from lorank.tuned.peft_folder import base_of, kind_in, open_peft
    from lorank.tuned.ranker import TunedRanker

    named, reading = recognise(str(name), flag), reading or ReadingSettings()
    if named.kind == "model" and named.folder is None and "/" in named.name:
        pushed = fetch(named.name)
        named = named if pushed is None else recognise(str(pushed), flag)
    if named.kind in ("tuned", "saved", "judge", "bm25", "trees") and (kind is not None or label is not None):
        where = f"its kind and label stand in its {CARD}" if named.folder else "it has neither kind nor label to choose"
        what = "a ranker that was trained and saved" if named.folder else f"{named.kind} by name"
        raise UsageError(f"{name} is {what}; {where}")
    if named.kind == "tuned":
        assert named.folder is not None
        tuned = TunedRanker.load(named.folder)
        read_otherwise(tuned.ranker, reading, str(name))
        return tuned
    if named.kind == "saved":
        assert named.folder is not None
        saved = _class_of(named.card["kind"]).load(named.folder)
        read_otherwise(saved, reading, str(name))
        return TunedRanker(saved, calibration=read_calibration(named.folder / CARD))
    if named.kind in ("judge", "bm25", "trees"):
        if reading.as_options():
            raise UsageError(
                f"reading.{next(iter(reading.as_options()))}: {name} reads whole texts; it takes no such setting"
            )
        if named.kind == "trees":
            return TunedRanker(_trees(collection, flag))
        return TunedRanker(_bm25(collection) if named.kind == "bm25" else _judge(named.name))
    if named.kind == "peft":
        assert named.folder is not None
        found = kind or kind_in(named.folder) or kind_of(base_of(named.folder))
        _class_of(found)
        return open_peft(named.folder, found, reading, chosen_label(found, label))
    kind = kind or kind_of(named.name)
    made = _class_of(kind)
    check_reading(kind, reading)
    ranker = made(named.name, **{"dtype": "auto", **reading.as_options(), **chosen_label(kind, label)})
    check_head_is_trained(ranker)
    return TunedRanker(ranker)


def _class_of(kind: str) -> Any:
    """Return the class of a kind of ranker; raise UsageError for an unknown kind."""
    if kind not in RANKERS:
        raise unknown_name("kind", kind, [each for each in RANKERS if each not in NOT_OF_TEXTS])
    return RANKERS[kind]


def _bm25(collection: Collection | None) -> FittedRanker:
    from lorank.ranking.scorers.bm25 import BM25Statistics
    from lorank.tuned.bm25_ranker import BM25Ranker

    if collection is None:
        return BM25Ranker()
    if collection.has_features:
        raise UsageError(f"bm25 scores texts, and collection {collection.name!r} holds feature rows")
    texts = [str(text) for text in collection.documents]
    return BM25Ranker(BM25Statistics.of(texts, language=collection.search_language))


def _trees(collection: Collection | None, flag: str) -> FittedRanker:
    from lorank.tuned.text_trees import fit_text_trees

    if collection is None:
        start = f"{flag}: " if flag else ""
        raise UsageError(f"{start}lambdamart is fitted on the training split of a collection, and none is given here")
    return fit_text_trees(collection)


def _judge(name: str) -> FittedRanker:
    from lorank.ranking.judges.opening import judge_of
    from lorank.tuned.judge_ranker import JudgeRanker

    return JudgeRanker(judge_of(name), name)


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
