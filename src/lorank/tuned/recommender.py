"""A recommender in a folder: the items that it knows, its settings, and what was learned."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lorank.data.interactions import Interactions
from lorank.errors import DataError, UsageError, unknown_name
from lorank.files import replaced_folder
from lorank.manifest import add_manifest, check_manifest
from lorank.progress import StageCallback
from lorank.ranking.losses import loss as named_loss
from lorank.ranking.recommendation.ada_retrieval import AdaRetrieval, train_adapters
from lorank.ranking.recommendation.recommender import best_items, next_item_measures
from lorank.ranking.recommendation.sasrec import SASRec, SequenceSettings, train_sasrec
from lorank.ranking.types import Run

CARD, WEIGHTS = "recommender.json", "model.safetensors"
METHODS = ("sasrec", "ada-retrieval")


@dataclass
class TunedRecommender:
    """A recommender and the items that it knows.

    Attributes:
        method: ``sasrec`` or ``ada-retrieval``.
        model: The recommender.
        items: The names of the items; the first has place 1.
        settings: What made it.
        repeats: Whether an item that a user chose may be found again.
    """

    method: str
    model: SASRec | AdaRetrieval
    items: list[str]
    settings: SequenceSettings
    repeats: bool = False

    def recommend(self, log: Interactions, top: int) -> Run:
        """Return the best ``top`` items of each user of a log, as a run whose queries are the users."""
        known = log.of(self.items)
        if not known.users:
            raise UsageError("no user of the log has an item that the recommender knows")
        found, scores = best_items(self.model, known.sequences, len(self.items), top, repeats=self.repeats)
        return {
            user: {self.items[i - 1]: s for i, s in zip(places, values, strict=True) if s > -np.inf}
            for user, places, values in zip(known.users, found.tolist(), scores.tolist(), strict=True)
        }

    def save(self, folder: str | Path) -> None:
        """Write the folder in one step; a recommender that stands there is replaced, anything else is refused."""
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()) and not (folder / CARD).is_file():
            raise UsageError(f"{folder} holds something other than a recommender; name another folder")
        card = {"format": 1, "method": self.method, "settings": asdict(self.settings), "repeats": self.repeats}
        with replaced_folder(folder) as new:
            save_file({name: value.contiguous() for name, value in self.model.state_dict().items()}, new / WEIGHTS)
            text = json.dumps(card | {"items": self.items}, indent=1, ensure_ascii=False)
            (new / CARD).write_text(text + "\n", "utf-8")
            add_manifest(new, CARD)

    @classmethod
    def load(cls, folder: str | Path) -> "TunedRecommender":
        """Read what ``save`` wrote; raise DataError where it is missing or damaged."""
        folder = Path(folder)
        try:
            card = json.loads((folder / CARD).read_text("utf-8"))
            items, settings = list(card["items"]), SequenceSettings(**card["settings"])
            model = _made(card["method"], len(items), settings, 0)
            check_manifest(folder, card.get("files"), folder / CARD)
            model.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            remedy = "make one with `lorank recommend train`"
            raise DataError(folder / CARD, None, f"no recommender here ({error})", remedy) from error
        return cls(card["method"], model.eval(), items, settings, bool(card["repeats"]))


def _made(method: str, items: int, settings: SequenceSettings, seed: int) -> SASRec | AdaRetrieval:
    base = SASRec(items, settings, seed=seed)
    return base if method == "sasrec" else AdaRetrieval(base, settings, seed=seed)


def sequence_settings(options: dict[str, Any]) -> SequenceSettings:
    """Return the settings of ``options``; raise UsageError for a name or a type that they do not have."""
    known: dict[str, type] = {name: type(value) for name, value in asdict(SequenceSettings()).items()}
    for name, value in options.items():
        if name not in known:
            raise unknown_name("--option", name, known)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or (known[name] is int and value != int(value)):
            raise UsageError(f"--option {name}={value}: give a {'whole ' if known[name] is int else ''}number")
    return SequenceSettings(**{name: known[name](value) for name, value in options.items()})


def train_recommender(
    log: Interactions,
    method: str,
    settings: SequenceSettings,
    *,
    loss: str = "softmax",
    repeats: bool = False,
    seed: int = 0,
    vectors: np.ndarray | None = None,
    on_progress: StageCallback,
) -> tuple[TunedRecommender, dict[str, dict[str, float]]]:
    """Return a recommender that learned from all but each user's last item, and how it finds these last items.

    Args:
        log: What each user chose; users of fewer than three items are not judged.
        method: ``sasrec`` or ``ada-retrieval``.
        settings: How it is built and learns.
        loss: The name of a loss of lists.
        repeats: Whether an item that a user chose may be found again.
        seed: The seed of everything random.
        vectors: The vectors of the log's items, float32 [items, dim], which stay as they are; None learns them.
        on_progress: It receives the stage, the steps done and all steps.

    Returns:
        The recommender, and the recall and nDCG of the ``settings.top`` best items of: the most chosen items, the
        recommender of one round, and the method where it is another.
    """
    function = named_loss(loss)
    known = [row for row in log.sequences if len(row) > 3]
    if not known:
        raise UsageError("no user has four interactions: two to learn from, one that stops training, one to judge by")
    history, last = [row[:-1] for row in known], np.array([row[-1] for row in known])
    every, top = len(log.items), settings.top
    judge: Callable[[Any], dict[str, float]] = lambda model: next_item_measures(  # noqa: E731
        best_items(model, history, every, top, repeats=repeats)[0], last
    )
    found = {"popularity": next_item_measures(_popular(history, every, top, repeats), last)}
    if vectors is not None:
        settings = replace(settings, dim=vectors.shape[1], rank=0)
    base = SASRec(every, settings, seed=seed, vectors=None if vectors is None else torch.from_numpy(vectors))
    more: dict[str, Any] = {"seed": seed, "repeats": repeats}
    train_sasrec(base, history, settings, function, on_progress=partial(on_progress, "train sasrec"), **more)
    found["sasrec"] = judge(base)
    model: SASRec | AdaRetrieval = base
    if method == "ada-retrieval":
        model = AdaRetrieval(base, settings, seed=seed)
        train_adapters(model, history, settings, function, on_progress=partial(on_progress, "train adapters"), **more)
        found[method] = judge(model)
    return TunedRecommender(method, model.eval(), list(log.items), settings, repeats), found


def _popular(rows: Sequence[np.ndarray], items: int, top: int, repeats: bool) -> np.ndarray:
    """Return the most chosen items of each user, int64 [users, top], those it chose left out unless they may repeat."""
    counts = np.bincount(np.concatenate(rows), minlength=items + 1).astype(float)
    found = []
    for row in rows:
        own = counts.copy()
        own[0] = -1
        if not repeats:
            own[row] = -1
        found.append(np.argsort(-own, kind="stable")[: min(top, items)])
    return np.array(found)
