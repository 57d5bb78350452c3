"""Tuned rankers whose adapter is rewritten as another LoRA: squeezed, converted, or several made into one.

What is written is a folder like that of training, with the same first stage and mix. How far the scores of a few
fixed pairs moved is reported; above a limit nothing is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorank.errors import LorankError, UsageError
from lorank.lowrank import Adapter, ScoreChange, compare_scores
from lorank.lowrank.agreement import probe_scores
from lorank.lowrank.algebra import FactorSet, attach_factors, combine, combine_heads, factors_of, heads_of
from lorank.lowrank.algebra.sets import Heads
from lorank.tuned.probe import Probe
from lorank.tuned.ranker import TunedRanker


@dataclass(frozen=True)
class Rewritten:
    """What was written: the ranks and trained values before and after, and the change from each input's scores."""

    folder: Path
    ranks: tuple[int, int]
    values: tuple[int, int]
    changes: list[ScoreChange]


def squeeze(
    tuned: TunedRanker,
    out: str | Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    limit: float | None = None,
) -> Rewritten:
    """Write ``tuned`` with each update cut off at ``rank``, or at the least rank that keeps ``energy`` of it.

    A form that is no LoRA becomes one. With neither rank nor energy a LoRA stays what it is, and another form is
    refused: that is ``convert`` with its exact conversion.

    Args:
        tuned: The ranker, which has an adapter.
        out: The folder to write, which must not exist.
        rank: The highest rank, 0 or more; None leaves it to ``energy``.
        energy: The share of each update's squared norm, in (0, 1], to keep; None leaves it to ``rank``.
        limit: The largest change of a score, 0 or more, that is allowed; None allows any.

    Raises:
        LorankError: If ``out`` exists, or a score moves by more than ``limit``; nothing is written then.
    """
    out = _fresh(out)
    adapter = _adapter_of(tuned)
    before = _scores(tuned)
    ranks, values = _size(adapter)
    _replace(tuned, factors_of(adapter, rank=rank, energy=energy), heads_of(adapter))
    return _write_checked(tuned, out, ranks, values, [before], limit)


def average(
    tuned: Sequence[TunedRanker],
    out: str | Path,
    *,
    weights: Sequence[float] | None = None,
    method: str = "linear",
    rank: int | None = None,
    density: float = 0.5,
    seed: int = 0,
    limit: float | None = None,
) -> Rewritten:
    """Write one ranker made of several of the same base: the first, with all updates and heads combined.

    Args:
        tuned: two at least; their forms may differ, if they are LoRAs or ``rank`` says where to cut them off.
        out: a folder that does not exist yet.
        weights: of each; None takes equal shares. Heads are averaged with the weights over their sum.
        method: ``linear``, ``svd``, ``ties`` or ``dare``.
        rank: the highest rank of a layer; None lets the ranks add up.
        density: the share of entries that ``ties`` and ``dare`` keep.
        seed: of the entries that ``dare`` drops.
        limit: the largest change of a score, from any of the inputs, that is let through.
    """
    out = _fresh(out)
    if len(tuned) < 2:
        raise UsageError("an average needs two rankers at least")
    adapters = [_adapter_of(own) for own in tuned]
    first = tuned[0].ranker
    for own in tuned[1:]:
        if (own.ranker.kind, str(own.ranker.base)) != (first.kind, str(first.base)):
            raise UsageError(
                f"adapters of {first.kind} {first.base} and {own.ranker.kind} {own.ranker.base} do not "
                "add up; average rankers of one kind and base"
            )
    before = [_scores(own) for own in tuned]
    ranks, values = _size(adapters[0])
    sets = [factors_of(adapter, rank=rank) for adapter in adapters]
    factors = combine(sets, weights, method, rank=rank, density=density, seed=seed)
    _replace(tuned[0], factors, combine_heads([heads_of(adapter) for adapter in adapters], weights))
    return _write_checked(tuned[0], out, ranks, values, before, limit)


def _fresh(out: str | Path) -> Path:
    if Path(out).exists():
        raise LorankError(f"{out} exists; nothing is written over, give another --out")
    return Path(out)


def _adapter_of(tuned: TunedRanker) -> Adapter:
    tuned.refuse_cascade("squeezed or averaged")
    if tuned.adapter is None:
        raise UsageError("this ranker was trained whole and has no adapter")
    tuned.unmerge()
    return tuned.adapter


def _scores(tuned: TunedRanker) -> np.ndarray:
    return probe_scores(Probe(tuned.trainable), _adapter_of(tuned).model)


def _size(adapter: Adapter) -> tuple[int, int]:
    updates = adapter.forms.values()
    values = {id(p): p.numel() for form in updates for p in form.parameters() if p.requires_grad}
    return max(form.rank for form in updates), sum(values.values())


def _replace(tuned: TunedRanker, factors: FactorSet, heads: Heads) -> None:
    seed = _adapter_of(tuned).settings.seed
    model = _adapter_of(tuned).detach()
    tuned.adapter = attach_factors(model, factors, heads=heads, seed=seed)


def _write_checked(
    tuned: TunedRanker, out: Path, ranks: int, values: int, before: Sequence[np.ndarray], limit: float | None
) -> Rewritten:
    after = _scores(tuned)
    changes = [compare_scores(own, after) for own in before]
    worst = max(change.largest for change in changes)
    if limit is not None and not worst <= limit:
        raise LorankError(
            f"a score moves by {worst:.3g}, above the limit of {limit:.3g}; nothing was written. "
            "Allow more with --limit, or keep more ranks"
        )
    tuned.calibration = None  # its scores have moved: what was fitted to them and certified no longer holds
    tuned.save(out)
    new_ranks, new_values = _size(_adapter_of(tuned))
    return Rewritten(out, (ranks, new_ranks), (values, new_values), changes)
