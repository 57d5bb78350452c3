"""How each catalogued method is reached: from Python, by a recipe's key, by a command's option, and if not, why not.

A method of a family is chosen by its name in all three. Any other method says it in its entry (``reach`` of
`lorank.catalogue.Method`).
"""

from dataclasses import dataclass

from lorank import index, plugins
from lorank.catalogue import Method

_RERANKING = "reranking is no training run, so it has no recipe"
_FEDERATING = "a federation is a training run per client and round; each client has its recipe"
_MERGING = "merging orders is no training run, so it has no recipe"

WAYS = {
    "continual": (
        'continual.make_method("{}")',
        'continual.name = "{}"',
        "train --then MORE --continual {}",
    ),
    "scaling": ('lowrank.attach(model, "lora", scaling="{}")', 'adapter.scaling = "{}"', "train --scaling {}"),
    "start": ('lowrank.attach(model, "lora", start="{}")', 'adapter.start = "{}"', "train --start {}"),
    "rule": ('lowrank.make_rule("{}")', 'rule.name = "{}"', "train --rule {}"),
    "optimizer": (
        'lowrank.optimizer("{}", model.parameters(), lr=...)',
        'optimizer.name = "{}"',
        "train --adapter full --optimizer {}",
    ),
    "compression": (
        'lowrank.compression.make_compression("{}", model, steps=n)',
        'compress.name = "{}"',
        "train --compress {}",
    ),
    "budget": ('lorank.fit(..., adapter="{}")', 'budget.name = "{}"', "train --budget {}"),
    "adapter": ('lowrank.attach(model, "{}")', 'adapter.name = "{}"', "train --adapter {}"),
    "factored": (
        'lowrank.make_factored(model, "{}")',
        'factored.name = "{}" (of `lorank pretrain`)',
        "pretrain --method {}",
    ),
    "loss": ('ranking.loss("{}")', 'loss.name = "{}"', "train --loss {}"),
    "debias": ('ranking.clicks.debias.make_debiaser("{}")', 'debias.name = "{}"', "train --debias {}"),
    "policy": (
        'ranking.policies.presets.find_policy("{}")',
        'policy.name = "{}"',
        "train --kind causal --policy {}",
    ),
    "kind": ('ranking.scorers.RANKERS["{}"]', 'kind = "{}"', "train --kind {}"),
    "feature-model": ('ranking.scorers.features.feature_model("{}")', 'base = "{}"', "train --base {}"),
    "shrink": (
        'lowrank.factorize(model, "{}")',
        "- shrinking is no training run, so it has no recipe",
        "shrink --method {}",
    ),
    "strategy": ('ranking.rerank(..., strategy="{}")', f"- {_RERANKING}", "rerank --strategy {}"),
    "consensus": ('ranking.aggregate(..., method="{}")', f"- {_MERGING}", "aggregate --method {}"),
    "aggregator": (
        'federated.make_aggregator("{}")',
        f"- {_FEDERATING}",
        "federate simulate --method {}",
    ),
    "combination": (
        'lowrank.combine(..., method="{}")',
        "- combining adapters is no training run, so it has no recipe",
        "adapter average --method {}",
    ),
}
"""By family of `lorank.index`: the call, the recipe key, the command; "- reason" where there is none."""


@dataclass(frozen=True)
class Reach:
    """The ways to one method; ``why_not`` says why a way is empty."""

    python: str
    recipe: str = ""
    command: str = ""
    why_not: str = ""

    def __str__(self) -> str:
        ways = [
            f"Python: {self.python}",
            self.recipe and f"recipe: {self.recipe}",
            self.command and f"lorank {self.command}",
        ]
        return "; ".join(filter(None, [*ways, self.why_not]))


def reach(method: Method) -> Reach | None:
    """Return the ways to a catalogued method, or None where its entry says nothing and no family holds it.

    >>> reach(next(m for m in index.methods() if m.id == "dora")).command
    'train --adapter dora'
    >>> reach(next(m for m in index.methods() if m.id == "psec")).why_not.startswith("Python alone")
    True
    """
    module, _, name = method.location.partition(":")
    python = f"from {module} import {name}"
    if method.reach:
        return Reach(python, why_not=method.reach)
    known = _names_of(method)
    for family, (call, recipe, command) in WAYS.items():
        for each in known:
            if each in index.names(family) or each in plugins.REGISTERED.get(family, ()):
                why = recipe[2:] if recipe.startswith("- ") else ""
                key = "" if why else recipe.format(each)
                return Reach(call.format(each), key, command.format(each), why)
    return None


def _names_of(method: Method) -> list[str]:
    """Return the id, and the names under which the same object is registered."""
    others = [each.name for each in index.registrations() if f"{each.module}:{each.target}" == method.location]
    kinds = [kind for kind, owner in index.kinds().items() if owner == method.location.partition(":")[2]]
    return [method.id, *kinds, *others]
