"""Named experiments that come with lorank, with the figures that were recorded: run again, do they agree?

A figure is a row's mean, or its difference from the baseline, which is far better known. It agrees where the new one
lies in the recorded interval, the 95% bootstrap interval over groups of queries. Data and seeds are the same, so that
another machine differs by rounding and by what training makes of it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorank.compare.records import to_records
from lorank.compare.results import ExperimentResult
from lorank.compare.running import ComparisonResult
from lorank.errors import unknown_name

FOLDER = Path(__file__).parent / "experiments"
KEPT = (
    *("row", "collection", "measure", "mean", "low", "high"),
    *("baseline", "difference", "difference_low", "difference_high", "queries", "groups", "seeds"),
)
"""What is kept of a record."""


@dataclass(frozen=True)
class Agreement:
    """One recorded figure beside the new one.

    Attributes:
        collection: The collection.
        row: The row.
        measure: The measure.
        figure: "mean", or "difference" from the baseline.
        recorded: What was recorded.
        low: The lower end of its interval.
        high: The upper end of its interval.
        found: The new figure; None where the row has no result.
    """

    collection: str
    row: str
    measure: str
    figure: str
    recorded: float
    low: float
    high: float
    found: float | None

    @property
    def agrees(self) -> bool:
        """Whether the new figure lies in the recorded interval."""
        return self.found is not None and self.low <= self.found <= self.high


def experiment_names() -> list[str]:
    """Return the names of the experiments that come with lorank.

    >>> "pydocs" in experiment_names()
    True
    """
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def experiment_path(name: str) -> Path:
    """Return the file of a named experiment; raise UsageError for an unknown name."""
    if name not in experiment_names():
        raise unknown_name("experiment", name, experiment_names())
    return FOLDER / f"{name}.toml"


def read_recorded(name: str) -> dict[str, Any]:
    """Return what was recorded of a named experiment: ``made`` (date, machine, versions) and ``figures``."""
    experiment_path(name)
    recorded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return recorded


def record_figures(result: ExperimentResult) -> dict[str, Any]:
    """Return the figures of a result, as they are recorded."""
    records = [record for record in to_records(result) if record["failed"] is None]
    made = {key: value for key, value in result.provenance.items() if key != "command"}
    return {"made": made, "figures": [{key: record[key] for key in KEPT} for record in records]}


def compare_with_recorded(found: ComparisonResult, recorded: Mapping[str, Any]) -> list[Agreement]:
    """Return each recorded figure beside the new one.

    Args:
        found: What the experiment found now.
        recorded: What `read_recorded` returned.
    """
    new = {(each["collection"], each["row"], each["measure"]): each for each in found.records()}
    agreements = []
    for each in recorded["figures"]:
        now = new.get((each["collection"], each["row"], each["measure"]), {})
        for figure, low, high in (("mean", "low", "high"), ("difference", "difference_low", "difference_high")):
            if each[figure] is not None and each[low] is not None:
                place = each["collection"], each["row"], each["measure"], figure
                agreements.append(Agreement(*place, each[figure], each[low], each[high], now.get(figure)))
    return agreements
