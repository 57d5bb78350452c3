"""The folder of a tuned ranker that a server serves by itself: one ranker, or the two of a cascade.

Each step is an adapter on its base, or a whole model. The first one's scores are its mix with the first stage, the
second one's are what it has learned, by itself; see `lorank.tuned.second_stage`. A single ranker that is a whole model
is not read here: it is a base that adapters may have been trained on (`lorank.serving.adapters.whole_ranker`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorank.errors import DataError
from lorank.lowrank import adapter_files
from lorank.manifest import CARD, check_manifest
from lorank.ranking.calibration.folder import read_calibration
from lorank.ranking.scorers.folders import saved_options
from lorank.ranking.scorers.pretrained import locate_base
from lorank.serving.requests.correction import Correction
from lorank.tuned.mix import mix_from_json
from lorank.tuned.second_stage import FOLDER as SECOND_STAGE


@dataclass(frozen=True)
class Step:
    """One ranker: its folder, and how its base is opened.

    Attributes:
        home: The folder of the tuned ranker.
        kind: The kind of the ranker.
        base: The base of its adapter, or the folder of the whole model.
        options: How it reads; of a whole model none but what its own folder says.
        adapted: Whether an adapter lies beside the card, in place of a whole model.
    """

    home: Path
    kind: str
    base: str
    options: Mapping[str, Any]
    adapted: bool


@dataclass(frozen=True)
class TunedFolder:
    """What the folder says.

    Attributes:
        first: The ranker that scores every document.
        second: The ranker that corrects the best of them; None where it is no cascade.
        correction: How it corrects them; None where there is no second.
    """

    first: Step
    second: Step | None = None
    correction: Correction | None = None


def read_tuned_folder(base: str) -> TunedFolder | None:
    """Return the tuned ranker with an adapter, or the cascade, in a folder; None where ``base`` is anything else.

    Args:
        base: A run folder, a tuned ranker's folder, or anything that a server may be given as its base.

    Raises:
        DataError: Where its files are not those of one save, or say what lorank does not write.
    """
    for home in (Path(base) / "model", Path(base)):
        card = home / CARD
        if not card.is_file():
            continue
        about: Any = adapter_files.read_json(card)
        if SECOND_STAGE in about or (home / "adapter").is_dir():
            check_manifest(home, about.get("files"), card)
            try:
                return _read(home, about)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                problem = f"not what lorank writes ({error!r})"[:400]
                raise DataError(card, None, problem, "save the ranker again") from error
    return None


def _read(home: Path, about: dict[str, Any]) -> TunedFolder:
    first = _step(home, about)
    if SECOND_STAGE not in about:
        return TunedFolder(first)
    stage, second = about[SECOND_STAGE], home / SECOND_STAGE
    correction = Correction(int(stage["depth"]), mix_from_json(stage["mix"]).factor, read_calibration(home / CARD))
    return TunedFolder(first, _step(second, adapter_files.read_json(second / CARD)), correction)


def _step(home: Path, about: Any) -> Step:
    if about["base"] is None:
        return Step(home, about["kind"], str(home / "model"), {}, adapted=False)
    return Step(home, about["kind"], locate_base(about["base"], home), saved_options(about), adapted=True)
