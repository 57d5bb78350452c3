"""What the spectra of a tuned ranker say: new directions, the rank of its vectors, and training queries of doubt.

A query's list is scored by the base of the run before training, and the loss is differentiated with respect to the
factors of the run's adapter: a list whose labels are wrong pulls hard, in few directions
(`lorank.lowrank.spectra.gradients`).
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lorank.data.collection import Collection
from lorank.data.folds import hold_out_dev
from lorank.errors import UsageError
from lorank.lowrank.shrink.attention_segments import attention_segments, has_plain_scores
from lorank.lowrank.shrink.dynamic_attention import learned_ranks
from lorank.lowrank.spectra import (
    adapter_spectra,
    attention_bounds,
    closest_cosines,
    gradient_spectra,
    intruder_curve,
    is_bounded_by_rows,
    rankme,
)
from lorank.progress import StageCallback
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.scorers.text_ranker import TextRanker
from lorank.training.lists.list_loss import list_loss, seed_of
from lorank.training.plan import build_plan, resolve_recipe
from lorank.training.settings import Recipe
from lorank.tuned.ranker import TunedRanker

SPECTRA = "spectra.json"
"""What a run folder calls the file that the report draws its spectra from."""
MOST_TEXTS = 2000
LEADING = 10


@dataclass(frozen=True)
class DoubtfulQuery:
    """A training query with the spectrum of its gradient; the first of a list pulls hardest."""

    id: str
    text: str
    nuclear_norm: float
    effective_rank: float
    loss: float


def adapter_folder(folder: Path) -> Path | None:
    """Return the adapter of a PEFT folder, a model folder or a run folder, None where there is none."""
    if (folder / "adapter_config.json").is_file():
        return folder
    for home in (folder / "model" / "adapter", folder / "adapter"):
        if any((home / name).is_file() for name in ("adapter_config.json", "lorank.json")):
            return home
    own = folder / "lorank.json"
    return folder if own.is_file() and not (folder / "model").is_dir() else None


def layer_spectra(folder: Path) -> list[dict[str, Any]]:
    """Return the layers of the folder's adapter, see `adapter_spectra`; none where whole weights were trained."""
    home = adapter_folder(folder)
    return [] if home is None else adapter_spectra(home)


@torch.no_grad()
def find_intruders(tuned: TunedRanker, on_progress: StageCallback = lambda what, done, total: None) -> dict[str, Any]:
    """Return the intruder dimensions of all adapted layers: the curve over thresholds, and counts by layer at 0.5.

    Raises:
        UsageError: Where whole weights were trained, or no single matrix stands for an update.
    """
    adapter = tuned.adapter
    if adapter is None:
        raise UsageError(
            "intruder dimensions compare weights with and without an adapter, and this ranker has none; in Python, "
            "lowrank.spectra.intruder_dimensions compares any two weights"
        )
    if not adapter.mergeable:
        raise UsageError(f"no one matrix stands for an update of adapter {adapter.settings.method!r}")
    adapter.unmerge()
    cosines = {}
    for done, (path, layer) in enumerate(adapter.layers.items()):
        on_progress("compare weights", done, len(adapter.layers))
        base = layer.frozen.weight.float()
        cosines[path] = closest_cosines(base, base + layer.delta().to(base), LEADING)
    on_progress("compare weights", len(cosines), len(cosines))
    return {
        "k": LEADING,
        "looked_at": sum(len(each) for each in cosines.values()),
        "curve": intruder_curve(cosines.values()),
        "layers": {path: int((own < 0.5).sum()) for path, own in cosines.items()},
    }


def vector_rank(ranker: Any, texts: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Return RankMe of a bi-encoder's vectors of at most ``MOST_TEXTS`` texts.

    Args:
        ranker: A bi-encoder.
        texts: The texts, of which some are drawn where there are more.
        seed: The seed of the draw.

    Raises:
        UsageError: For a ranker without vectors.
    """
    if not isinstance(ranker, BiEncoder):
        raise UsageError(f"a {getattr(ranker, 'kind', 'ranker')} has no vectors of texts; RankMe is of bi-encoders")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(texts))[:MOST_TEXTS])
    vectors = torch.from_numpy(ranker.encode([texts[i] for i in chosen]))
    return {
        "value": rankme(vectors),
        "dimensions": vectors.shape[1],
        "texts": len(chosen),
        "bounded": is_bounded_by_rows(vectors),
    }


LATENCY_WEIGHT = 0.1
"""What the whole width of a head costs when ranks are learned, where a relative error of 1 costs 1."""
SEGMENT_TEXTS = 1
"""How many queries and documents are read for the ranks of attention, each."""


def check_attention(
    ranker: Any, data: Collection, error: float = 0.01, most: int = 32, latency_weight: float = LATENCY_WEIGHT
) -> dict[str, Any]:
    """Return whether attention's scores are small enough for LoRA gradients in almost linear time, layer by layer.

    Where scores are q k^T alone, the ranks that a policy learns for them are given too, on the first texts read.

    Args:
        ranker: A ranker of texts.
        data: The collection, of whose queries and documents some are read together.
        error: The relative error of attention's weights that is let through, above 0.
        most: How many queries are read, each with two documents.
        latency_weight: What the whole width of a head costs, 0 or more, where a relative error of 1 costs 1.

    Raises:
        UsageError: For a ranker without attention layers, and a collection without texts.
    """
    if not isinstance(ranker, TextRanker) or data.has_features:
        raise UsageError("attention is that of a ranker that reads texts, on a collection of texts; give these")
    queries = [text for split in data.splits.values() for text in split.queries.values()][:most]
    documents = [str(text) for text in data.documents[: 2 * most]]
    if not queries or not documents:
        raise UsageError(f"collection {data.name!r} has no queries or no documents to read")
    pairs = np.array([(i, j % len(documents)) for i in range(len(queries)) for j in (2 * i, 2 * i + 1)])
    module: Any = ranker.module

    def read(chosen: np.ndarray) -> None:
        """Read the texts one by one: encoders that run without padding hold a batch as one row of tokens."""
        for query, document in chosen:
            ranker.score_pairs([queries[query]], [documents[document]], np.array([(0, 0)]))

    found = attention_bounds(module, lambda: read(pairs))
    rows = [
        {
            "path": each.path,
            "bound": max(each.bounds),
            "heads": len(each.bounds),
            "below": each.below,
            "degree": each.degree(error),
            "columns": each.columns(error),
        }
        for each in found
    ]
    shown = {"error": error, "tokens": found[0].length, "threshold": found[0].threshold, "layers": rows}
    if any(has_plain_scores(each) for each in module.modules()):
        kept = attention_segments(module, lambda: read(pairs[:SEGMENT_TEXTS]), 2 * SEGMENT_TEXTS)
        generator = torch.Generator().manual_seed(0)
        ranks = [asdict(learned_ranks(s, latency_weight=latency_weight, generator=generator)) for s in kept.values()]
        shown["ranks"] = {"latency_weight": latency_weight, "layers": dict(zip(kept, ranks, strict=True))}
    return shown


def find_doubtful_queries(
    ranker: TrainableRanker,
    data: Collection,
    recipe: Recipe,
    *,
    most: int = 200,
    on_progress: StageCallback = lambda what, done, total: None,
) -> list[DoubtfulQuery]:
    """Return training queries by the nuclear norm of their gradients, largest first: the first deserve a look.

    Args:
        ranker: The base, before training; an adapter is put on it.
        data: The collection, with a training split.
        recipe: The recipe of the run, whose loss and lists are taken.
        most: How many queries are looked at, drawn by the recipe's seed.
        on_progress: Receives the stages.

    Raises:
        UsageError: Where there is no training split.
    """
    if "train" not in data.splits:
        raise UsageError(f"collection {data.name!r} has no training split, and training queries are what is looked at")
    if "dev" not in data.splits:
        data = hold_out_dev(data, 0.15, recipe.seed)
    lists = replace(recipe.lists, shared=False)
    recipe, budget = resolve_recipe(ranker, data, replace(recipe, lists=lists))
    with tempfile.TemporaryDirectory() as folder:
        plan = build_plan(ranker, data, recipe, budget, Path(folder), None, on_progress)
    ranker.module.eval()
    chosen = [each for each in plan.lists.epoch(0) if each.labels.max() > each.labels.min()][:most]
    own = [p for group in plan.weights.parameter_groups() for p in group["params"] if p.dim() > 1]
    device = next(ranker.module.parameters()).device

    def loss(place: int) -> Tensor:
        on_progress("look at queries", place, len(chosen))
        batch = plan.lists.collate([chosen[place]])
        seed = seed_of(recipe.seed, place, 0, 0)
        return list_loss(ranker, plan.inputs, batch, plan.loss, recipe.training, seed, device)

    spectra = gradient_spectra([partial(loss, place) for place in range(len(chosen))], own)
    on_progress("look at queries", len(chosen), len(chosen))
    texts = data.train.queries
    found = [
        DoubtfulQuery(each.query_id, texts.get(each.query_id, ""), *vars(spectrum).values())
        for each, spectrum in zip(chosen, spectra, strict=True)
    ]
    return sorted(found, key=lambda each: (-each.nuclear_norm, each.id))


def as_rows(queries: Sequence[DoubtfulQuery], most: int) -> list[dict[str, Any]]:
    """Return the first queries as JSON data."""
    return [asdict(each) for each in queries[:most]]


def effective_ranks(module: nn.Module) -> dict[str, float]:
    """Return the effective rank of every linear layer's weight in any model, by path.

    >>> effective_ranks(nn.Sequential(nn.Identity()))
    {}
    """
    from lorank.lowrank.spectra import effective_rank

    with torch.no_grad():
        return {
            path: effective_rank(torch.linalg.svdvals(layer.weight.float()))
            for path, layer in module.named_modules()
            if isinstance(layer, nn.Linear)
        }
