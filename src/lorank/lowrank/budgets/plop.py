r"""PLoP: adapt the kinds of layer whose weights are least aligned with what they read.

    NFN(W) = sqrt(E ||W z||^2 / E ||W u||^2),   z the layer's inputs, u Gaussian of the same norm

E ||W u||^2 = ||W||_F^2 E ||z||^2 / in in closed form, so that nothing is drawn. NFN is about 1 for a W that knows
nothing of its inputs and above 1 for one that amplifies them. A kind of layer (the last part of its path) has the mean
NFN of its layers. The half of the kinds with the lowest means share the ranks equally, the others get none.

Hayou, Ghosh and Yu, PLoP: Precise LoRA Placement for Efficient Finetuning of Large Models, 2025, arXiv:2506.20629.

*Deviations*: [~] the ratio is of root mean squares, with the Gaussian's in closed form, not a mean of ratios over
draws; how many kinds are adapted is ours.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import static_budget
from lorank.lowrank.budgets.static import uniform
from lorank.lowrank.forms.form import Site
from lorank.lowrank.starts import Statistics


def feature_norm(weight: Tensor, inputs: Tensor) -> float:
    """Return NFN of a weight [out, in] on ``inputs`` [n, in].

    >>> round(feature_norm(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]])), 4)   # the square root of 2
    1.4142
    """
    W, z = weight.detach().to(torch.float64), inputs.to(torch.float64)
    random = W.square().sum() * z.square().sum() / W.shape[1]
    return float(((z @ W.T).square().sum() / random).sqrt()) if random > 0 else 1.0


def placement(sites: Sequence[Site], statistics: Mapping[str, Statistics]) -> dict[str, float]:
    """Return the mean NFN of each kind of layer, lowest first: that is where updates are placed."""
    scores: dict[str, list[float]] = {}
    for site in sites:
        kind = kind_of(site.path)
        scores.setdefault(kind, []).append(feature_norm(site.base.weight, statistics[site.path]["inputs"]))
    means = {kind: sum(own) / len(own) for kind, own in scores.items()}
    return dict(sorted(means.items(), key=lambda item: (item[1], item[0])))


def kind_of(path: str) -> str:
    """Return the path without what counts blocks: its parts after the last number.

    >>> kind_of("encoder.layer.3.attention.output.dense"), kind_of("pooler.dense")
    ('attention.output.dense', 'pooler.dense')
    """
    parts = path.split(".")
    last = max((k for k, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[last + 1 :]) or path


@static_budget("plop", needs=["inputs"])
@catalogued(
    "plop",
    area="adapters.rank",
    title="PLoP: Precise LoRA Placement for Efficient Finetuning of Large Models",
)
def plop(sites: Sequence[Site], statistics: Mapping[str, Statistics], total: int) -> dict[str, int]:
    """Return equal ranks for the layers of the chosen kinds, 0 for the others."""
    kinds = list(placement(sites, statistics))
    chosen = set(kinds[: math.ceil(len(kinds) / 2)])
    adapted = uniform([site for site in sites if kind_of(site.path) in chosen], {}, total)
    return {site.path: adapted.get(site.path, 0) for site in sites}
