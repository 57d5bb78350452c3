"""The folder of a cascade, as a server reads it: two tuned rankers, and how the second corrects the first.

Each step is an adapter on its base, or a whole model. The first one's scores are its mix with the first stage, the
second one's are what it has learned, by itself; see `lorank.tuned.second_stage`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorank.errors import DataError
from lorank.lowrank import adapter_files
from lorank.manifest import CARD, check_manifest
from lorank.ranking.calibration.folder import Calibration, read_calibration
from lorank.ranking.scorers.folders import saved_options
from lorank.ranking.scorers.pretrained import locate_base
from lorank.tuned.mix import mix_from_json
from lorank.tuned.second_stage import FOLDER as SECOND_STAGE


@dataclass(frozen=True)
class Step:
    """One ranker of a cascade: its folder, and how its base is opened.

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
class CascadeFolder:
    """What the folder of a cascade says.

    Attributes:
        first: The ranker that scores every document.
        second: The ranker that corrects the best of them.
        depth: How many documents of a list the second one reads.
        factor: Its weight over the spread of its scores, above 0.
        calibration: From final scores to probabilities; None where there is none.
    """

    first: Step
    second: Step
    depth: int
    factor: float
    calibration: Calibration | None


def read_cascade(base: str) -> CascadeFolder | None:
    """Return the cascade in a run folder or a tuned ranker's folder; None where ``base`` is anything else.

    Args:
        base: A folder, or the name of a model.

    Raises:
        DataError: Where it is a cascade whose files are not those of one save.
    """
    for home in (Path(base) / "model", Path(base)):
        card = home / CARD
        about: Any = adapter_files.read_json(card) if card.is_file() else None
        if isinstance(about, dict) and SECOND_STAGE in about:
            check_manifest(home, about.get("files"), card)
            return _read(home, about)
    return None


def _read(home: Path, about: dict[str, Any]) -> CascadeFolder:
    card, second = home / CARD, home / SECOND_STAGE
    try:
        stage = about[SECOND_STAGE]
        return CascadeFolder(
            _step(home, about),
            _step(second, adapter_files.read_json(second / CARD)),
            int(stage["depth"]),
            mix_from_json(stage["mix"]).factor,
            read_calibration(card),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(card, None, f"not what lorank writes ({error!r})"[:400], "save the ranker again") from error


def _step(home: Path, about: Any) -> Step:
    if about["base"] is None:
        return Step(home, about["kind"], str(home / "model"), {}, adapted=False)
    return Step(home, about["kind"], locate_base(about["base"], home), saved_options(about), adapted=True)
