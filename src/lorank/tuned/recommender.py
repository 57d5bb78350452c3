"""A recommender in a folder: the items that it knows, its settings, and what was learned."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lorank.data.interactions import Interactions
from lorank.errors import DataError, UsageError, unknown_name
from lorank.files import replaced_folder
from lorank.manifest import add_manifest, check_manifest
from lorank.ranking.recommendation.ada_retrieval import AdaRetrieval
from lorank.ranking.recommendation.recommender import best_items
from lorank.ranking.recommendation.sasrec import SASRec, SequenceSettings
from lorank.ranking.types import Run

CARD, WEIGHTS = "recommender.json", "model.safetensors"
TRAINING = "training.json"
"""What decided the run that made the recommender; it stands in the folder from the run's beginning."""
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
        """Write the folder in one step; a recommender that stands there is replaced, anything else is refused.

        Metrics and checkpoints of the run that is made there stay.
        """
        folder = Path(folder)
        ours = (folder / CARD).is_file() or (folder / TRAINING).is_file()
        if folder.exists() and any(folder.iterdir()) and not ours:
            raise UsageError(f"{folder} holds something other than a recommender; name another folder")
        card = {"format": 1, "method": self.method, "settings": asdict(self.settings), "repeats": self.repeats}
        with replaced_folder(folder, keep_others=True) as new:
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
        if known[name] is str:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or (known[name] is int and value != int(value)):
            raise UsageError(f"--option {name}={value}: give a {'whole ' if known[name] is int else ''}number")
    return SequenceSettings(**{name: known[name](value) for name, value in options.items()})
