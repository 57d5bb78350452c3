"""One name for every feature model, networks and libraries of trees alike, with its options checked by type."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lorank.errors import UsageError, unknown_name
from lorank.ranking.scorers.features.descent import Descent
from lorank.ranking.scorers.features.networks import NETWORKS
from lorank.ranking.scorers.features.ranker import FeatureRanker
from lorank.ranking.scorers.features.trees import LIBRARIES, Growth, TreeRanker

OF_TREES = ("objective", "hessian")


def feature_models() -> list[str]:
    """Return the names of all feature models.

    >>> [name in feature_models() for name in ("linear", "tsprank", "lightgbm")]
    [True, True, True]
    """
    return [*NETWORKS, *LIBRARIES]


def model_options(name: str) -> dict[str, Any]:
    """Return all options of a feature model and their defaults: of its build, of its transform, of how it learns.

    >>> model_options("boosted")["patience"], model_options("lightgbm")["trees"], "lr" in model_options("mlp")
    (15, 500, False)
    """
    if name in LIBRARIES:
        return {**_defaults(TreeRanker, OF_TREES), **asdict(Growth())}
    if name not in NETWORKS:
        raise unknown_name("feature model", name, feature_models())
    network, descent = NETWORKS[name], asdict(Descent())
    return {
        **_defaults(FeatureRanker, ("transform",)),
        **network.options,
        **{key: descent[key] for key in network.reads},
    }


def feature_model(name: str, *, seed: int = 0, **options: Any) -> FeatureRanker | TreeRanker:
    """Return an untrained ranker of feature rows by its name: ``mlp``, ``tsprank``, ``lightgbm``, ...

    Args:
        name: One of :func:`feature_models`.
        seed: Of everything random.
        options: Any of :func:`model_options`; raises UsageError for others and for values of another type.

    >>> feature_model("tsprank", learning="global", epochs=20).settings.epochs
    20
    """
    known = model_options(name)
    options = {key: _convert_type(key, value, known, name) for key, value in options.items()}
    if name in LIBRARIES:
        return TreeRanker(name, seed=seed, **options)
    settings = {key: options.pop(key) for key in NETWORKS[name].reads if key in options}
    return FeatureRanker(model=name, seed=seed, settings=Descent(**settings), **options)


def _defaults(owner: type, names: tuple[str, ...]) -> dict[str, Any]:
    parameters = inspect.signature(owner).parameters
    return {name: parameters[name].default for name in names}


def _convert_type(key: str, value: Any, known: Mapping[str, Any], model: str) -> Any:
    """Return the value in its option's type: whole floats count as integers, lists as tuples."""
    if key not in known:
        raise unknown_name(f"option of feature model {model!r}:", key, known)
    kind = type(known[key])
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (kind is float or (kind is int and value == int(value))):
        return kind(value)
    if not isinstance(value, kind):
        raise UsageError(
            f"option {key} of feature model {model!r} is {value!r}; give {_FORM[kind]}, such as {known[key]!r}"
        )
    return value


_FORM = {int: "a whole number", float: "a number", str: "a word", tuple: "a list", bool: "true or false"}
