r"""Make the linear layers of a trained model products of two factors, by any method and any choice of ranks.

    W [out, in] -> B [out, r] A [r, in],     sum over layers of r (out + in) <= ratio * sum of out in

A method says which product is nearest (the metric), ``ranks`` how many ranks each layer gets. A layer for which a
product would be larger stays as it is. Everything is computed before the model changes: an error leaves it as it was.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from lorank.errors import UsageError, unknown_name
from lorank.layers import KEY, FactoredLinear, GridLinear, describe_layers
from lorank.lowrank.module_tree import replace_modules, unwrap_model
from lorank.lowrank.shrink.core.decomposition import Decomposition
from lorank.lowrank.shrink.core.layers import layers_to_shrink
from lorank.lowrank.shrink.core.moments import Calibration, Moments, gather_moments
from lorank.lowrank.shrink.core.on_grid import grid_rank, put_on_grid
from lorank.lowrank.shrink.core.ranks import POLICIES, RankProblem, Ranks, check_ratio
from lorank.lowrank.shrink.core.shrinker import Shrinker, Weight, shrinker_named
from lorank.lowrank.shrink.core.shrunk import Shrunk, report
from lorank.lowrank.shrink.core.trial import OrderLoss, Trial, matrix_of, shape_of
from lorank.lowrank.targets import ALL_LINEAR

RATIO = 0.5
"""The share of the weights that is kept where neither ratio nor rank is stated."""


@torch.no_grad()
def factorize(
    model: nn.Module,
    method: str = "eora",
    *,
    ratio: float | None = None,
    rank: int | None = None,
    calibration: Calibration | None = None,
    ranks: str | None = None,
    order_loss: OrderLoss | None = None,
    targets: str | Iterable[str] = ALL_LINEAR,
    exclude: Iterable[str] = (),
    grid: str | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> Shrunk:
    """Make the layers of ``model`` products of two factors, in place.

    Args:
        model: Any module with linear layers, without adapters on them.
        method: The name of a method in ``SHRINKERS``: ``svd``, ``eora``, ``lord``, ``welore``, ...
        ratio: The share, above 0 and up to 1, of the layers' weights (on a grid: of their bytes) that is kept; None is
            0.5, or the method's own rank.
        rank: The same rank for every layer, in place of a ratio.
        calibration: It shows the model its inputs: a function that runs it, or batches. Methods that look at inputs
            require it.
        ranks: How ranks are chosen: ``uniform``, ``energy``, ``threshold`` or ``order``; None is the method's own way.
        order_loss: It measures how much of the order a model loses; ``order`` requires it.
        targets: The layers, as in ``attach``.
        exclude: The names of modules that are left alone.
        grid: Weights stay on this grid (``fp4``, ``fp8``), and the factors are those of the rounding error.
        seed: The seed of methods that draw.
        on_progress: It receives the number of layers that are decomposed and their total.
        options: The method's own options.

    Returns:
        What became of each layer. The model's configuration, where it has one, describes the layers from now on, and so
        does the folder that ``save_pretrained`` writes (`lorank.layers`).

    Raises:
        UsageError: For a ratio below one rank per layer, a rank above min(in, out), missing or empty calibration
            texts, and layers that are quantised, adapted, tied or shared. The model is as it was then.

    >>> model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    >>> report = factorize(model, "svd", ratio=0.5); [layer.rank for layer in report.layers], report.ratio
    ([2, 2], 0.5)
    """
    chosen = shrinker_named(method, options)
    ratio, rank = _checked_size(chosen, ratio, rank)
    policy = ranks or chosen.ranks
    if policy not in POLICIES:
        raise unknown_name("choice of ranks", policy, POLICIES)
    if policy == "order" and order_loss is None:
        raise UsageError("ranks='order' measures the order that a model keeps; give order_loss, or use `lorank shrink`")
    if chosen.calibrated and calibration is None:
        raise UsageError(f"{method} looks at what the layers read; give calibration, or take svd")
    body = unwrap_model(model)
    layers = layers_to_shrink(body, targets, exclude, chosen.tables)
    grid = grid or chosen.grid
    kept = put_on_grid(layers, grid, method) if grid is not None else {}
    if rank is not None:
        _check_rank(rank, layers)
    elif ratio is not None and ratio < 1 and not kept:
        check_ratio(RankProblem({path: shape_of(layer) for path, layer in layers.items()}, {}, {}, ratio))
    moments = gather_moments(body, layers, calibration) if chosen.calibrated and calibration is not None else {}
    parts: dict[str, Decomposition] = {}
    for index, (path, layer) in enumerate(layers.items()):
        on_progress(index, len(layers))
        parts[path] = _decompose(chosen, path, layer, kept.get(path), moments.get(path), seed + index, options)
    on_progress(len(layers), len(layers))
    trial = Trial(body, layers, parts, kept, order_loss)
    found = _choose(policy, trial, ratio, rank)
    replace_modules(body, [(layers[path], new) for path, new in trial.build(found).items()])
    if hasattr(body, "config"):
        setattr(body.config, KEY, describe_layers(body))
    if method == "welore":
        _freeze_dense(body)
    return report(chosen, policy, layers, parts, found, kept)


def _checked_size(method: Shrinker, ratio: float | None, rank: int | None) -> tuple[float | None, int | None]:
    if ratio is not None and rank is not None:
        raise UsageError(f"ratio {ratio} and rank {rank}: state one of them")
    if ratio is not None and not 0 < ratio <= 1:
        raise UsageError(f"ratio {ratio} is no share of the weights; write a number above 0 and up to 1")
    if rank is not None and rank < 1:
        raise UsageError(f"rank {rank} is no rank; write an integer from 1 up")
    if ratio is None and rank is None:
        return (None, method.rank) if method.rank is not None else (RATIO, None)
    return ratio, rank


def _check_rank(rank: int, layers: Mapping[str, nn.Module]) -> None:
    for path, layer in layers.items():
        shape = shape_of(layer)
        if rank > min(shape):
            raise UsageError(
                f"rank {rank} is above min(out, in) = {min(shape)} of layer {path} {list(shape)}; write a lower one, "
                f"or leave the layer out (exclude: {path.rpartition('.')[2]})"
            )


def _decompose(
    method: Shrinker,
    path: str,
    layer: nn.Module,
    kept: GridLinear | None,
    moments: Moments | None,
    seed: int,
    options: Mapping[str, Any],
) -> Decomposition:
    matrix = matrix_of(layer)
    if not bool(torch.isfinite(matrix).all()):
        raise UsageError(f"the weight of layer {path} holds values that are no numbers; train the model again")
    matrix = matrix if kept is None else matrix - kept.grid_weight().double()
    generator = torch.Generator().manual_seed(seed)
    return method.decompose(Weight(matrix, moments, generator, isinstance(layer, nn.Embedding)), **options)


def _choose(policy: str, trial: Trial, ratio: float | None, rank: int | None) -> Ranks:
    if trial.kept:
        return {path: rank or grid_rank(layer, ratio or RATIO, path) for path, layer in trial.kept.items()}
    if rank is not None:
        return dict.fromkeys(trial.layers, rank)
    assert ratio is not None
    if ratio >= 1:
        return dict.fromkeys(trial.layers, None)
    problem = trial.problem(ratio)
    return POLICIES[policy](problem)


def _freeze_dense(model: nn.Module) -> None:
    """Let the factors alone ask for gradients."""
    model.requires_grad_(False)
    for layer in model.modules():
        if isinstance(layer, FactoredLinear):
            layer.requires_grad_(True)
