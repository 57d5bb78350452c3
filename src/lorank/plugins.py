"""Plugins: methods of one's own, in a file or a package of one's own, by name wherever lorank takes a name.

    import lorank

    @lorank.loss("gap", title="The gap to the best document")
    def gap(scores, labels, mask, weights=None): ...

There is one decorator per family (`FAMILIES`), all alike: ``@lorank.FAMILY(name, title=...)``. Plugins are found in
three ways, and never otherwise: installed packages with an entry point in the group ``lorank.methods``; modules and
files in ``LORANK_IMPORT`` (separated as in PATH); ``lorank COMMAND --import mine.py``. A saved folder names the modules
that its methods come from. Opening it imports those that Python finds by name; a server imports none of them, and
nothing ever runs a file that a folder names.
"""

import importlib
import importlib.util
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from lorank.errors import UsageError
from lorank.registration import catalogued

GROUP, VARIABLE = "lorank.methods", "LORANK_IMPORT"

T = TypeVar("T")


@dataclass(frozen=True)
class Family:
    """What can be registered by one decorator.

    Args:
        area: of the catalogue, where the decorator is given none.
        enter: the function of the room that takes the name and returns the room's decorator, as ``module:name``.
        registries: the dictionaries that hold the names, as ``module:name``.
        base: the class that a member must be derived from; empty where members are functions.
        families: of `lorank.index`, in which the names then are legal.
    """

    area: str
    enter: str
    registries: tuple[str, ...]
    base: str
    families: tuple[str, ...]


_FORM, _BUDGET = "lorank.lowrank.forms.form", "lorank.lowrank.budgets.core.budget"
_LOSS, _STRATEGY = "lorank.ranking.losses.core.registry", "lorank.ranking.strategies.registry"
_CONSENSUS, _NETWORK = "lorank.ranking.consensus.rules", "lorank.ranking.scorers.features.networks"
_CLICKS, _CALIBRATION = "lorank.ranking.clicks", "lorank.ranking.calibration"

FAMILIES = {
    "form": Family(
        "adapters.form", f"{_FORM}:form", (f"{_FORM}:FORMS", f"{_FORM}:ROUTED"), f"{_FORM}:Form", ("form", "adapter")
    ),
    "start": Family(
        "adapters.init",
        "lorank.lowrank.starts.start:start",
        ("lorank.lowrank.starts.start:STARTS",),
        "lorank.lowrank.starts.start:Start",
        ("start",),
    ),
    "budget": Family(
        "adapters.rank", f"{_BUDGET}:budget", (f"{_BUDGET}:DYNAMIC", f"{_BUDGET}:STATIC"), "", ("budget", "adapter")
    ),
    "rule": Family(
        "adapters.optim",
        "lorank.lowrank.rules.rule:rule",
        ("lorank.lowrank.rules.rule:RULES",),
        "lorank.lowrank.rules.rule:Rule",
        ("rule",),
    ),
    "loss": Family("losses.supervised", f"{_LOSS}:enter_loss", (f"{_LOSS}:LOSSES", f"{_LOSS}:ALIASES"), "", ("loss",)),
    "strategy": Family(
        "rerank",
        f"{_STRATEGY}:enter_strategy",
        (f"{_STRATEGY}:STRATEGIES", f"{_STRATEGY}:ALIASES"),
        "",
        ("strategy",),
    ),
    "consensus": Family(
        "consensus.rules", f"{_CONSENSUS}:rule", (f"{_CONSENSUS}:RULES", f"{_CONSENSUS}:ALIASES"), "", ("consensus",)
    ),
    "scorer": Family(
        "scorers.text",
        "lorank.ranking.scorers:enter_scorer",
        ("lorank.ranking.scorers:RANKERS",),
        "lorank.ranking.scorers.ranker:TrainableRanker",
        ("kind",),
    ),
    "feature_model": Family(
        "scorers.features", f"{_NETWORK}:register_network", (f"{_NETWORK}:NETWORKS",), "", ("feature-model",)
    ),
    "click_model": Family(
        "unbiased",
        f"{_CLICKS}.core.model:click_model",
        (f"{_CLICKS}.core.model:CLICK_MODELS", f"{_CLICKS}.core.model:ALIASES"),
        f"{_CLICKS}.core.model:ClickModel",
        ("click-model",),
    ),
    "propensity": Family(
        "unbiased",
        f"{_CLICKS}.core.propensity:propensity",
        (f"{_CLICKS}.core.propensity:PROPENSITIES",),
        "",
        ("propensity",),
    ),
    "debiaser": Family(
        "unbiased",
        f"{_CLICKS}.core.debiaser:debiaser",
        (f"{_CLICKS}.debias:DEBIASERS", f"{_CLICKS}.debias:ALIASES"),
        f"{_CLICKS}.core.debiaser:Debiaser",
        ("debias",),
    ),
    "estimator": Family(
        "unbiased", f"{_CLICKS}.core.estimate:estimator", (f"{_CLICKS}.estimators:ESTIMATORS",), "", ("estimator",)
    ),
    "interleaving": Family(
        "unbiased",
        f"{_CLICKS}.core.interleave:interleaving",
        (f"{_CLICKS}.interleaving:INTERLEAVINGS",),
        "",
        ("interleaving",),
    ),
    "calibrator": Family(
        "evaluate",
        f"{_CALIBRATION}.calibrator:calibrator",
        (f"{_CALIBRATION}:CALIBRATORS",),
        f"{_CALIBRATION}.calibrator:Calibrator",
        ("calibrator",),
    ),
    "normalisation": Family(
        "evaluate",
        f"{_CALIBRATION}.normalisations:normalisation",
        (f"{_CALIBRATION}.normalisations:NORMALISATIONS",),
        "",
        ("normalisation",),
    ),
    "perturbation": Family(
        "robust",
        "lorank.ranking.robustness.perturbation:perturbation",
        ("lorank.ranking.robustness:PERTURBATIONS",),
        "",
        ("perturbation",),
    ),
    "fairness_measure": Family(
        "fair",
        "lorank.ranking.fairness.measure:fairness_measure",
        ("lorank.ranking.fairness:FAIRNESS_MEASURES",),
        "",
        ("fairness-measure",),
    ),
}
"""Every family that can be added to from outside, by the name of its decorator."""

REGISTERED: dict[str, set[str]] = {}
"""Names that plugins brought, by family of `lorank.index`."""

SOURCES: dict[str, str] = {}
"""Modules that were imported as plugins, each with what it was asked for by: its own name, or a file."""

_begun = False


def decorator(family: str) -> Callable[..., Callable[[T], T]]:
    """Return the decorator of ``family``, which `lorank` has as an attribute of that name.

    >>> decorator("consensus").__name__
    'consensus'
    """
    about = FAMILIES[family]

    def register(name: str, *, title: str = "", area: str = "", **options: Any) -> Callable[[T], T]:
        def enter(member: T) -> T:
            _check(family, name, member)
            whole = title or _first_line(member, name)
            _at(about.enter)(name, **_of_the_room(about, whole), **options)(member)
            for kind in about.families:
                REGISTERED.setdefault(kind, set()).update({name, *options.get("aliases", ())})
            catalogued(name, area=area or about.area, title=whole)(member)
            return member

        return enter

    register.__name__ = register.__qualname__ = family
    register.__doc__ = (
        f"Decorate a {family.replace('_', ' ')} to register it under ``name``; the page *Contracts* says what it "
        "must be.\n\n``title`` is shown by `lorank methods`; ``area`` defaults to "
        f"{about.area}; further options are those of {about.enter.replace(':', '.')}."
    )
    return register


def _of_the_room(about: Family, title: str) -> dict[str, Any]:
    """Return the options that a room's decorator takes beside those of a plugin: the title, and that the catalogue
    entry is made here."""
    known = inspect.signature(_at(about.enter)).parameters
    return {key: value for key, value in (("title", title), ("published", False)) if key in known}


def load() -> None:
    """Import the plugins of this installation and of ``LORANK_IMPORT``, once per process.

    Raises UsageError for what ``LORANK_IMPORT`` names in vain; an installed package that fails to import is left out
    with a warning, since it may have nothing to do with the present work.
    """
    global _begun
    if _begun:
        return
    _begun = True
    for point in entry_points(group=GROUP):
        try:
            SOURCES.setdefault(point.module, point.module)
            point.load()
        except Exception as error:  # noqa: BLE001  (somebody else's code may raise anything)
            warnings.warn(f"plugin {point.name} ({point.value}) is left out: {error!r}", stacklevel=2)
    for source in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        import_source(source)


def use(sources: Iterable[str]) -> None:
    """Import plugins by file or module name, for this process and for those that it starts."""
    for source in sources:
        import_source(source)
        known = [each for each in os.environ.get(VARIABLE, "").split(os.pathsep) if each]
        whole = str(Path(source).resolve()) if _is_file(source) else source
        if whole not in known:
            os.environ[VARIABLE] = os.pathsep.join([*known, whole])


def import_source(source: str) -> ModuleType:
    """Import ``source``, a Python file or the name of a module, and return the module.

    Raises UsageError for a file that is not there, a name that Python does not find, and code that fails.
    """
    try:
        module = _import_file(Path(source)) if _is_file(source) else importlib.import_module(source)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"--import {source}: {type(error).__name__}: {error}") from error
    SOURCES[module.__name__] = source
    return module


def names(family: str) -> set[str]:
    """Return the names that plugins bring to a family of `lorank.index`; they are imported for it."""
    load()
    return REGISTERED.get(family, set())


def modules_of(*members: object) -> dict[str, str]:
    """Return the modules outside lorank that hold these classes or functions, each with what imports it.

    >>> modules_of(Family, dict)
    {}
    """
    found = {getattr(member, "__module__", "builtins") for member in members}
    return {
        module: SOURCES.get(module, module)
        for module in sorted(found)
        if module.partition(".")[0] not in ("lorank", "builtins", "torch")
    }


def import_named(modules: Mapping[str, str], folder: Path) -> None:
    """Import the modules that ``folder`` says its methods come from, as ``modules_of`` gave them.

    Only modules that Python finds by name, and outside of ``folder``, are imported. Raises UsageError for any other.
    """
    load()
    for module, source in modules.items():
        if module in sys.modules:
            continue
        if _is_file(source) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", module):
            raise UsageError(needed(module, source, folder))
        try:
            spec = importlib.util.find_spec(module)
        except ImportError:
            spec = None
        origin = None if spec is None else spec.origin
        if origin is None or Path(origin).resolve().is_relative_to(folder.resolve()):
            raise UsageError(needed(module, source, folder))
        import_source(module)


def needed(module: str, source: str, folder: Path) -> str:
    """Return what to tell the user of a folder whose methods come from a module that was not imported."""
    return (
        f"{folder}: its methods come from {source!r}, which is not imported; if you trust that code, give "
        f"--import {source if _is_file(source) else module}, or set {VARIABLE}"
    )


def _is_file(source: str) -> bool:
    return source.endswith(".py") or "/" in source or os.sep in source


def _import_file(path: Path) -> ModuleType:
    path, name = path.expanduser().resolve(), path.stem
    present = sys.modules.get(name)
    if present is not None:
        if Path(getattr(present, "__file__", None) or "").resolve() == path:
            return present
        raise UsageError(f"--import {path}: a module {name!r} is imported already; call the file something else")
    if not path.is_file() or not name.isidentifier():
        why = "its name is not that of a module" if path.is_file() else "there is no such file"
        raise UsageError(f"--import {path}: {why}; give a Python file such as mine.py, or the name of a module")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _check(family: str, name: str, member: object) -> None:
    about = FAMILIES[family]
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise UsageError(f"@lorank.{family}({name!r}): a name is written in lower case, digits, dots and dashes")
    if not callable(member):
        raise UsageError(f"@lorank.{family}({name!r}) decorates a class or a function, not a {type(member).__name__}")
    if about.base and not (isinstance(member, type) and issubclass(member, _at(about.base))):
        raise UsageError(f"@lorank.{family}({name!r}): it must be derived from {about.base.replace(':', '.')}")
    for registry in (*about.registries, "lorank.catalogue:METHODS"):
        if name in _at(registry):
            raise UsageError(f"@lorank.{family}({name!r}): the name is taken already; choose another")


def _at(address: str) -> Any:
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module), name)


def _first_line(member: object, name: str) -> str:
    text = (getattr(member, "__doc__", None) or "").strip().splitlines()
    return text[0].rstrip(".") if text else name
