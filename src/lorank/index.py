"""The index: the names of all methods, read from the sources without importing them.

Importing the rooms costs seconds (torch, transformers). Names, areas and titles stand as literals in the decorators
that register methods, so this leaf reads them there. It stores nothing and can thus not be out of date; the tests
compare it with the registries that an import fills. Methods of plugins are added by `lorank.plugins`.
"""

import ast
import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorank.errors import UsageError, unknown_name
from lorank.registration import Method

SOURCES = Path(__file__).parent

FAMILY_OF = {
    "form": "form",
    "start": "start",
    "static_budget": "budget",
    "dynamic_budget": "budget",
    "register_loss": "loss",
    "enter_loss": "loss",
    "register_strategy": "strategy",
    "register_model_strategy": "strategy",
    "register_network": "feature-model",
    "combination": "combination",
    "export_format": "export",
    "path": "path",
    "click_model": "click-model",
    "propensity": "propensity",
    "calibrator": "calibrator",
    "normalisation": "normalisation",
    "perturbation": "perturbation",
    "fairness_measure": "fairness-measure",
    "debiaser": "debias",
    "estimator": "estimator",
    "interleaving": "interleaving",
    "factored": "factored",
    "shrinker": "shrink",
    "rank_policy": "rank-policy",
    "compression": "compression",
    "advantage": "advantage",
    "sampling_plan": "sampling-plan",
    "reward_mix": "reward-mix",
    "data_reuse": "reuse",
    "credit": "credit",
    "reward": "reward",
    "aggregator": "aggregator",
    "continual_method": "continual",
}
"""The decorator of a registry to its family; ``rule`` is decided by the folder, see ``_family``."""

AREA_OF = {
    "register_loss": "losses.supervised",
    "register_strategy": "rerank",
    "register_model_strategy": "rerank",
    "debiaser": "unbiased",
    "shrinker": "compress",
    "aggregator": "federated",
}
"""Decorators that also enter the catalogue, with their default area."""

TABLES = {
    "adapter": [("lowrank/presets.py", "PRESETS")],
    "scaling": [("lowrank/scaling.py", "SCALINGS")],
    "rule": [("lowrank/rules/rule.py", "RULES")],
    "optimizer": [("lowrank/projected/presets.py", "PRESETS")],
    "kind": [("ranking/scorers/__init__.py", "_KINDS")],
    "collection": [("data/load.py", "PACKAGED")],
    "base": [("ranking/scorers/pretrained.py", "PACKAGED"), ("ranking/scorers/causal_pretrained.py", "PACKAGED_GGUF")],
    "view": [("ranking/scorers/causal_views.py", "READERS")],
    "first-stage": [("training/lists/candidates.py", "FINDERS")],
    "judge": [("ranking/judges/opening.py", "JUDGES")],
    "policy": [("ranking/policies/presets.py", "POLICIES")],
    "engine": [("ranking/strategies/runs.py", "ENGINES")],
    "feature-model": [
        (f"ranking/scorers/features/{name}_trees.py", "LIBRARIES") for name in ("lightgbm", "xgboost", "catboost")
    ],
}
"""Registries that are written as dictionaries: (file, variable)."""

WORDS = {
    "continual": "continual method",
    "factored": "factored layer",
    "consensus": "consensus method",
    "combination": "way of combining adapters",
    "export": "export format",
    "first-stage": "first stage",
    "feature-model": "feature model",
    "click-model": "click model",
    "propensity": "estimator of propensities",
    "debias": "debiaser",
    "shrink": "shrinking method",
    "rank-policy": "choice of ranks",
    "sampling-plan": "sampling plan",
    "reward-mix": "mix of rewards",
    "reuse": "way of reuse",
    "aggregator": "way of aggregating",
}
"""What messages call a family, where it is not its name."""

PARTS = {"adapter": ("form", "budget")}
"""Families whose names are names of another family too: each form and each budget is an adapter of its own."""

_CALL = re.compile(r"^@?(rule|catalogued|enter_method|" + "|".join(FAMILY_OF) + r")\(", re.MULTILINE)
_OBJECT = re.compile(r"^(?:async def|def|class)\s+(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Registration:
    """One call that registers a method: the ``decorator``, its literal arguments, and what it decorates."""

    decorator: str
    module: str
    target: str
    name: str
    keywords: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str | None:
        """The family that the call enters a name in; None for a catalogue entry alone."""
        if self.decorator == "rule":
            return "consensus" if ".ranking." in self.module else "rule"
        return FAMILY_OF.get(self.decorator)

    @property
    def method(self) -> Method | None:
        """The catalogue entry that the call makes, or None."""
        id, published = self.name, self.keywords.get("published", True)
        if self.decorator not in (*AREA_OF, "catalogued", "enter_method") or not published:
            return None
        return Method(
            published if isinstance(published, str) else id,
            self.keywords.get("area") or AREA_OF[self.decorator],
            self.keywords["title"],
            self.keywords.get("location") or f"{self.module}:{self.target}",
            self.keywords.get("reach", ""),
        )


@lru_cache(maxsize=1)
def registrations() -> tuple[Registration, ...]:
    """Return every call in lorank's sources that registers a method, in the order of files and lines."""
    return tuple(found for path in sorted(SOURCES.rglob("*.py")) for found in _registrations_in(path))


@lru_cache(maxsize=64)
def names(family: str) -> tuple[str, ...]:
    """Return the names and aliases of a family's methods in lorank itself, sorted.

    >>> [name for name in names("consensus") if name.startswith("b")]
    ['baldwin', 'borda', 'bradley-terry']
    >>> {"lora", "dora", "adalora", "pissa"} <= set(names("adapter"))
    True
    """
    found = {name for part in PARTS.get(family, ()) for name in names(part)}
    for each in registrations():
        if each.family == family:
            found |= {each.name, *each.keywords.get("aliases", ())}
    for file, variable in TABLES.get(family, ()):
        found |= set(_tables(SOURCES / file).get(variable, {}))
    return tuple(sorted(found))


def methods(area: str | None = None) -> list[Method]:
    """Return the catalogue of lorank itself as its sources state it, of one area or of all, by area and id."""
    found = {method.id: method for each in registrations() if (method := each.method) is not None}
    return sorted((m for m in found.values() if area in (None, m.area)), key=lambda m: (m.area, m.id))


def modules() -> list[str]:
    """Return the modules that register a method; importing them fills every registry."""
    return list(dict.fromkeys(each.module for each in registrations()))


def words(file: str, variable: str) -> tuple[str, ...]:
    """Return the keys of a dictionary that a file of lorank states.

    >>> words("data/free_queries.py", "SOURCES")
    ('titles', 'first-sentences')
    """
    return tuple(_tables(SOURCES / file).get(variable, {}))


def kinds() -> dict[str, str]:
    """Return the class of each kind of ranker by the kind's name.

    >>> kinds()["bi-encoder"]
    'BiEncoder'
    """
    return _tables(SOURCES / "ranking/scorers/__init__.py")["_KINDS"]


def check(family: str, name: str, flag: str = "", *, also: tuple[str, ...] = ()) -> None:
    """Raise UsageError for a name that neither lorank nor a plugin has in ``family``.

    Args:
        family: such as ``adapter``, ``loss``, ``strategy``, ``consensus``, ``kind``.
        name: what was asked for.
        flag: the option that it was given by, which begins the message.
        also: words that are legal beside the names, such as ``auto``.

    >>> check("loss", "softmx", "--loss")
    Traceback (most recent call last):
    lorank.errors.UsageError: --loss: unknown loss 'softmx'; did you mean 'softmax'? ...
    """
    from lorank import plugins

    if name in also or name in names(family):
        return
    brought = plugins.names(family)
    if name not in brought:
        message = str(unknown_name(WORDS.get(family, family), name, {*names(family), *brought, *also}))
        raise UsageError(f"{flag}: {message}" if flag else message)


def check_base(base: str, flag: str = "") -> None:
    """Raise UsageError for a base model whose name looks like a slip of the pen, before anything asks the Hub for it.

    Folders, names of the form owner/name, and words that resemble no packaged model pass.

    >>> check_base("minlm", "--base")
    Traceback (most recent call last):
    lorank.errors.UsageError: --base: unknown base 'minlm'; did you mean 'minilm'? known: ...
    """
    known = {*names("base"), *names("feature-model")}
    if base in known or "/" in base or os.sep in base or Path(base).exists():
        return
    if difflib.get_close_matches(base, known, 1, 0.75):
        check("base", base, flag, also=("<folder>", "<owner/name>", *names("feature-model")))


def check_data(source: str, flag: str = "") -> None:
    """Raise UsageError for a collection that is neither packaged, nor of ir_datasets, nor a path that exists."""
    if source.startswith("ir_datasets:") or Path(source).expanduser().exists():
        return
    if "/" in source or os.sep in source:
        raise UsageError(f"{flag}: there is nothing at {source}; give a path that exists, or a packaged collection")
    check("collection", source, flag, also=("ir_datasets:<name>", "<path>"))


def _registrations_in(path: Path) -> Iterator[Registration]:
    text = path.read_text(encoding="utf-8")
    parts = path.relative_to(SOURCES.parent).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    for match in _CALL.finditer(text):
        call = _call_at(text, match.start(1))
        target = _OBJECT.search(text, match.end())
        if call is None or not call.args:
            continue
        keywords = {k.arg: _literal(k.value, module) for k in call.keywords if k.arg}
        yield Registration(
            match.group(1), module, target.group(1) if target else "", _literal(call.args[0], module), keywords
        )


def _call_at(text: str, start: int) -> ast.Call | None:
    """Return the call whose text begins at ``start``, parsed once its last line is reached."""
    end = start
    for _ in range(40):
        end = text.find("\n", end) + 1 or len(text)
        try:
            expression = ast.parse(text[start:end].strip(), mode="eval").body
        except SyntaxError:
            continue
        while isinstance(expression, ast.Call) and isinstance(expression.func, ast.Call):
            expression = expression.func
        return expression if isinstance(expression, ast.Call) else None
    return None


def _literal(node: ast.expr, module: str) -> Any:
    """Return the value of a literal, of an f-string over ``__name__`` too; None for any other expression."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else module for part in node.values)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


@lru_cache(maxsize=32)
def _tables(path: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of the dictionaries in a file: of displays, of ``update`` with one, of assigned entries."""
    found: dict[str, dict[str, Any]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                found.setdefault(target.id, {}).update(_display(node.value))
            elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
                found.setdefault(target.value.id, {})[_literal(target.slice, "")] = None
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.args:
            function = node.value.func
            if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                found.setdefault(function.value.id, {}).update(_display(node.value.args[0]))
    return found


def _display(node: ast.expr | None) -> dict[str, Any]:
    if not isinstance(node, ast.Dict):
        return {}
    pairs = zip(node.keys, node.values, strict=True)
    return {str(key.value): _literal(value, "") for key, value in pairs if isinstance(key, ast.Constant)}
