"""A tuned ranker whose model holds all of it (trained whole, merged, or shrunk): what its folder adds to the model.

The model is served as a base, and what lies beside it counts there too: scores are a z + (g / s) c with the folder's
first stage, and probabilities where it is calibrated, as `lorank rank` gives them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorank.lowrank import adapter_files
from lorank.manifest import CARD
from lorank.ranking.calibration.folder import Calibration, read_calibration
from lorank.serving.adapters.package import load_first_stage, read_mix, refuse_written
from lorank.tuned.first_stage import FirstStage
from lorank.tuned.mix import ALONE, Mix

MODEL_FILE = "config.json"
"""What every model folder holds."""


@dataclass(frozen=True)
class WholeRanker:
    """The model's place, and how its scores are mixed and calibrated.

    Attributes:
        model: The folder or name of the model.
        mix: How its score joins the first stage.
        first_stage: The first stage; None where the mix adds none.
        calibration: From scores to probabilities; None where there is none.
    """

    model: str
    mix: Mix = ALONE
    first_stage: FirstStage | None = None
    calibration: Calibration | None = None


def read_whole_ranker(base: str) -> WholeRanker:
    """Return the whole model in a run folder or a tuned ranker's folder; any other base stands for itself.

    Args:
        base: A folder, or the name of a model.

    Raises:
        DataError: Where what lies beside the model cannot be read, and of a ranker that orders by what it writes.
    """
    folder = Path(base)
    if not folder.is_dir() or (folder / MODEL_FILE).is_file():
        return WholeRanker(base)
    for home in (folder / "model", folder):
        if (home / CARD).is_file() and (home / "model" / MODEL_FILE).is_file():
            return read_home(home)
    return WholeRanker(base)


def read_home(home: Path) -> WholeRanker:
    """Return what the folder of a tuned ranker whose ``model/`` holds all of it adds to the model."""
    card = home / CARD
    about: Any = adapter_files.read_json(card)
    refuse_written(about, card)
    model, calibration = str(home / "model"), read_calibration(card)
    if not isinstance(about, dict) or "mix" not in about:
        return WholeRanker(model, calibration=calibration)
    mix = read_mix(about, card)
    stage = None if mix.first_stage == 0.0 else load_first_stage(home / "first_stage")[0]
    return WholeRanker(model, mix, stage, calibration)
