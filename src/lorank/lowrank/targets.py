"""Which layers of a model are adapted, and what rank and scale each gets."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import nn
from torch.nn.utils import parametrize

from lorank.errors import UsageError
from lorank.lowrank.layer import Adapted
from lorank.lowrank.matrix_view import VIEWED, is_adaptable
from lorank.lowrank.module_tree import find_paths

T = TypeVar("T")

ALL_LINEAR = "all-linear"


def is_named(path: str, name: str) -> bool:
    """Return whether ``name`` is ``path`` or a suffix of it after a dot.

    >>> is_named("encoder.layer.0.query", "query"), is_named("encoder.subquery", "query")
    (True, False)
    """
    return path == name or path.endswith("." + name)


def is_within(path: str, name: str) -> bool:
    """Return whether ``path`` or one of the modules that hold it is called ``name``.

    >>> is_within("bert.pooler.dense", "pooler"), is_within("bert.pooler.dense", "dense.bert")
    (True, False)
    """
    parts = path.split(".")
    return any(is_named(".".join(parts[:end]), name) for end in range(1, len(parts) + 1))


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the linear and the adapted linear layers of ``model`` by path, in the model's order."""
    return {path: layer for path, layer in adaptable_layers(model).items() if is_linear(layer)}


def is_linear(layer: nn.Module) -> bool:
    """Return whether a layer that takes updates is a linear one, with updates on it or not."""
    return not isinstance(layer.base if isinstance(layer, Adapted) else layer, VIEWED)


def adaptable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers of ``model`` that take updates, and those that have some, by path, in the model's order."""
    found: dict[str, nn.Module] = {}
    inside: set[int] = set()
    for path, module in model.named_modules():
        if parametrize.is_parametrized(module):
            inside.update(id(part) for part in module.parametrizations.modules())
        if isinstance(module, Adapted):
            inside.update(id(part) for part in module.modules() if part is not module)
            found[path] = module
        elif path and id(module) not in inside and is_adaptable(module):
            found[path] = module
    return found


def resolve_modules(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """Return the modules called ``names`` (paths or suffixes) by path; a name that fits none is an error."""
    modules = dict(model.named_modules(remove_duplicate=False))
    first = {id(module): path for path, module in model.named_modules()}
    found: dict[str, nn.Module] = {}
    for name in names:
        named = (module for path, module in modules.items() if path and is_named(path, name))
        fitting = {first[id(module)]: module for module in named}
        if not fitting:
            raise UsageError(f"the model has no module called {name!r}; its top level is {_children(model)}")
        found.update(fitting)
    return {
        path: module
        for path, module in found.items()
        if not any(path != other and path.startswith(other + ".") for other in found)
    }


def select_targets(
    model: nn.Module,
    targets: str | Iterable[str] = ALL_LINEAR,
    exclude: Iterable[str] = (),
    trained: Iterable[str] = (),
) -> dict[str, nn.Module]:
    """Return the layers to adapt by path.

    Args:
        model: any module with linear layers.
        targets: ``"all-linear"`` (every linear layer but the output head and those outside the model's
            ``base_model``), a regular expression that the whole path must match, or names: each a path or a
            suffix of one after a dot. Embeddings and convolutions are adapted where one of the latter two fits them.
        exclude: names of modules that are left alone with all they hold.
        trained: names of modules that are trained whole, left alone as well.

    A layer that stands at several paths is one layer: any of its paths names it, and its first is the key.

    Raises:
        UsageError: where a name or the expression fits no layer that takes an update.
    """
    exclude, trained = list(exclude), list(trained)
    layers = adaptable_layers(model)
    barred = [*resolve_modules(model, trained)]
    places = find_paths(model)
    free = {
        path: layer
        for path, layer in layers.items()
        if not any(place == head or place.startswith(head + ".") for head in barred for place in places[path])
        and not any(is_within(place, name) for name in exclude for place in places[path])
    }
    if isinstance(targets, str):
        chosen = (
            _body(model, {path: layer for path, layer in free.items() if is_linear(layer)}, places)
            if targets == ALL_LINEAR
            else {path: own for path, own in free.items() if any(re.fullmatch(targets, at) for at in places[path])}
        )
        if not chosen:
            raise UsageError(
                f"targets {targets!r} fits no layer that takes an update and is not trained whole or excluded; "
                f"the model's are called {_suffixes(layers)}"
            )
        return chosen
    chosen = {}
    for name in targets:
        fitting = {path: own for path, own in free.items() if any(is_named(at, name) for at in places[path])}
        if not fitting:
            raise UsageError(
                _describe_other(model, name)
                or f"target {name!r} names no layer that takes an update and is not trained whole or excluded; "
                f"the model's are called {_suffixes(layers)}"
            )
        chosen.update(fitting)
    return {path: layer for path, layer in free.items() if path in chosen}


def _describe_other(model: nn.Module, name: str) -> str | None:
    """Return why the target ``name`` takes no update, where it names a layer with a weight of another kind."""
    for path, module in model.named_modules(remove_duplicate=False):
        if path and is_named(path, name) and isinstance(module, OTHERS):
            return (
                f"target {name!r} is of type {type(module).__name__} ({path}), and updates stand on linear layers, "
                f"embeddings and convolutions; leave it as it is, or train it whole with trained=[{name!r}]"
            )
    return None


OTHERS = (nn.EmbeddingBag, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Bilinear)
"""Layers with a weight that take no update here."""

PLAIN = re.compile(r"\w+(\.\w+)*")
"""A pattern that is a name, or the end of one."""


def pattern_value(patterns: Mapping[str, T] | None, path: str, default: T) -> T:
    """Return the value of the first key of ``patterns`` that matches the end of ``path``, as PEFT does.

    >>> pattern_value({"layer.0.query": 4, "query": 2}, "bert.layer.1.query", 8)
    2
    """
    key = matching_pattern(patterns or {}, path)
    return default if key is None else (patterns or {})[key]


def matching_pattern(patterns: Iterable[str], path: str) -> str | None:
    """Return the first of ``patterns`` with ``re.match(rf"(.*\\.)?({key})$", path)``, or None."""
    return next((key for key in patterns if _matches(key, path)), None)


def _matches(key: str, path: str) -> bool:
    if PLAIN.fullmatch(key):  # a name: no need to look for it as an expression
        return path == key or path.endswith("." + key)
    return re.match(rf"(.*\.)?({key})$", path) is not None


def check_patterns(option: str, patterns: Mapping[str, object] | None, paths: Iterable[str]) -> None:
    """Raise where a key of ``patterns`` matches none of ``paths``."""
    paths = list(paths)
    for key in patterns or {}:
        if not any(re.match(rf"(.*\.)?({key})$", path) for path in paths):
            raise UsageError(f"{option}: {key!r} matches none of the {len(paths)} adapted layers, e.g. {paths[0]!r}")


def _body(
    model: nn.Module, layers: dict[str, nn.Module], places: Mapping[str, tuple[str, ...]]
) -> dict[str, nn.Module]:
    prefix = getattr(model, "base_model_prefix", "")
    head = getattr(model, "get_output_embeddings", lambda: None)()
    inside = prefix + "." if prefix and hasattr(model, prefix) else ""
    return {
        path: layer
        for path, layer in layers.items()
        if any(place.startswith(inside) for place in places[path])
        and layer is not head
        and getattr(layer, "base", layer) is not head
    }


def _suffixes(layers: Iterable[str]) -> str:
    return ", ".join(sorted({path.rpartition(".")[2] for path in layers}))


def _children(model: nn.Module) -> str:
    return ", ".join(name for name, _ in model.named_children())
