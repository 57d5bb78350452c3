"""Named experiments that come with lorank, with the figures that were recorded: run again, do they agree?

A figure is a row's mean, or its difference from the baseline, which is far better known. It agrees where the new one
lies in the recorded interval, the 95% bootstrap interval over groups of queries. Data and seeds are the same, so that
another machine differs by rounding and by what training makes of it.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorank.compare.records import to_records
from lorank.compare.results import ExperimentResult
from lorank.compare.running import ComparisonResult
from lorank.errors import UsageError, unknown_name

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
    """Return what was recorded of a named experiment: ``made`` (date, machine, versions), ``figures``, and ``needs``.

    ``needs`` says of each thing that does not come with lorank what it is.
    """
    experiment_path(name)
    recorded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return recorded


def read_named(name: str, data: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of a named experiment, with the paths of the data that it needs in their places.

    Args:
        name: The experiment.
        data: The path of each thing that its record says it needs, by the name that it has there.

    Raises:
        UsageError: For a thing that is needed and not given, or given and not needed, and a path that is not there.
    """
    needs: Mapping[str, str] = read_recorded(name).get("needs", {})
    for given, path in data.items():
        if given not in needs:
            raise UsageError(f"--data {given}={path}: {name} needs {', '.join(needs) or 'no data of yours'}")
        if not Path(path).exists():
            raise UsageError(f"--data {given}={path}: there is nothing at this path; give {needs[given]}")
    missing = [f"--data {thing}=PATH, {what}" for thing, what in needs.items() if thing not in data]
    if missing:
        raise UsageError(f"{name} needs data that is not ours to ship; give {'; '.join(missing)}")
    content = tomllib.loads(experiment_path(name).read_text(encoding="utf-8"))
    filled: dict[str, Any] = _fill(content, {f"{{{thing}}}": path for thing, path in data.items()})
    return filled


def _fill(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(each, places) for key, each in value.items()}
    if isinstance(value, list):
        return [_fill(each, places) for each in value]
    return places.get(value, value) if isinstance(value, str) else value


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
    records = found.records()
    several = len({each["collection"] for each in recorded["figures"]}) > 1  # of one, its name is that of a path
    new = {(each["collection"] if several else None, each["row"], each["measure"]): each for each in records}
    agreements = []
    for each in recorded["figures"]:
        now = new.get((each["collection"] if several else None, each["row"], each["measure"]), {})
        for figure, low, high in (("mean", "low", "high"), ("difference", "difference_low", "difference_high")):
            if each[figure] is not None and each[low] is not None:
                place = each["collection"], each["row"], each["measure"], figure
                agreements.append(Agreement(*place, each[figure], each[low], each[high], now.get(figure)))
    return agreements
