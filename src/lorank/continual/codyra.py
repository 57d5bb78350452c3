"""A stream by CoDyRA: each stage trains rank weights that thin themselves out, and what is left joins the weights.

The stage's model is the base with one LoRA: the ranks of this stage behind those of the stages before, which are merged
into the weights while it trains. Merged it has the shape and the speed of the base, and no query has to say which
collection it is of. The ranks that are kept are in the record of each stage; the factors of a folder grow by them.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lorank import lowrank
from lorank.continual.core.method import ContinualMethod, continual_method
from lorank.continual.core.stream import Stream
from lorank.errors import UsageError
from lorank.lowrank import Adapter
from lorank.lowrank.absorbing import absorb
from lorank.lowrank.forms.form import Factors
from lorank.ranking.scorers.ranker import FittedRanker, TrainableRanker
from lorank.training.fitting import Fitted
from lorank.training.open_recipe import open_recipe_base
from lorank.training.plan import Plan
from lorank.training.recipe import RecipeFile


@continual_method("codyra")
class CodyraStream(ContinualMethod):
    """Dynamic ranks, merged before the next stage."""

    def settle(self, recipe: RecipeFile) -> RecipeFile:
        if recipe.adapter.name not in ("auto", "lora", "codyra") or recipe.budget.name not in ("auto", "codyra"):
            raise UsageError("continual method 'codyra' brings an adapter and a budget of its own; leave both out")
        budget = replace(recipe.budget, name="codyra")
        return replace(recipe, adapter=replace(recipe.adapter, name="codyra"), budget=budget)

    def open(self, stream: Stream, number: int) -> FittedRanker:
        if number == 1:
            return super().open(stream, number)
        former = stream.read(number - 1)
        if former.adapter is not None:
            absorb(former.adapter)
        return former.ranker

    def prepare(self, stream: Stream, number: int, plan: Plan) -> Plan:
        return plan

    def finish(self, stream: Stream, number: int, fitted: Fitted, folder: Path) -> dict[str, Any]:
        tuned = fitted.tuned
        assert tuned.adapter is not None
        own = factors_of(tuned.adapter)
        kept = {path: len(factors.A) for path, factors in own.items()}
        if number > 1:
            former = stream.read(number - 1).adapter
            assert former is not None
            before = factors_of(former)
            own = {path: stack(before[path], factors) for path, factors in own.items()}
        base = open_recipe_base(stream.recipe, stream.collections[0])
        assert isinstance(base, TrainableRanker)
        heads = {name: module.state_dict() for name, module in tuned.adapter.trained.items()}
        replace(tuned, ranker=base, adapter=put_factors(base, own, heads)).save(folder / "model")
        return {"ranks": sum(kept.values()), "ranks_in_all": sum(len(factors.A) for factors in own.values())}


def factors_of(adapter: Adapter) -> dict[str, Factors]:
    """Return the plain LoRA of each layer, its scale in B."""
    found = {}
    for path, form in adapter.forms.items():
        factors = form.as_lora()
        assert factors is not None
        found[path] = Factors(factors.A.detach().clone(), factors.scaling * factors.B.detach(), 1.0)
    return found


def stack(one: Factors, two: Factors) -> Factors:
    """Return the factors of the sum of two updates of scale 1; more ranks than the matrix has are made fewer by QR.

    >>> one = Factors(torch.ones(1, 3), torch.ones(2, 1), 1.0)
    >>> stack(one, one).A.shape
    torch.Size([2, 3])
    """
    A, B = torch.cat([one.A, two.A.to(one.A)]), torch.cat([one.B, two.B.to(one.B)], 1)
    if len(A) > min(A.shape[1], len(B)):
        basis, upper = torch.linalg.qr(A.t()) if A.shape[1] <= len(B) else torch.linalg.qr(B)
        A, B = (basis.t(), B @ upper.t()) if A.shape[1] <= len(B) else (upper @ A, basis)
    return Factors(A, B, 1.0)


def put_factors(
    ranker: TrainableRanker, factors: Mapping[str, Factors], heads: Mapping[str, Mapping[str, torch.Tensor]]
) -> Adapter:
    """Put a LoRA of the given factors and heads on a ranker, and return it."""
    ranks = {path: len(each.A) for path, each in factors.items()}
    adapter = lowrank.attach(
        ranker.module,
        "lora",
        rank=max(1, *ranks.values()),
        targets=list(factors),
        trained=list(heads),
        ranks=ranks,
        alphas={path: float(max(rank, 1)) for path, rank in ranks.items()},
    )
    for path, form in adapter.forms.items():
        form.set_factors(factors[path].A, factors[path].B / form.scaling)  # type: ignore[operator]
    for name, state in heads.items():
        adapter.trained[name].load_state_dict(state)
    return adapter
