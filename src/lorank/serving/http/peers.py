"""What several processes that serve together know of each other: each lays down its counts every second.

Whichever process is asked for /metrics or /v1/usage answers for all: samples get the label ``worker``, usage is summed.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

logger = logging.getLogger("lorank.serving")

EVERY_S = 1.0


class Peers:
    """The folder in which the processes lay down their counts; this one is number ``index``."""

    def __init__(self, folder: Path, index: int) -> None:
        self.folder, self.index = folder, index

    def publish(self, page: bytes, usage: Mapping[str, Any]) -> None:
        """Lay down this process' counts."""
        draft = self.folder / f".{self.index}"
        try:
            draft.write_text(json.dumps({"page": page.decode(), "usage": usage}))
            draft.replace(self.folder / f"{self.index}.json")
        except OSError as error:
            logger.error("the counts of this process cannot be written: %s", error)

    def others(self) -> list[tuple[int, dict[str, Any]]]:
        """Return what the other processes laid down, by their number."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            if path.stem == str(self.index):
                continue
            try:
                found.append((int(path.stem), json.loads(path.read_text())))
            except (OSError, ValueError):
                continue
        return found

    def page(self, own: bytes) -> bytes:
        """Return the page of all processes, every sample with the number of its process."""
        pages = [(self.index, own.decode()), *((number, found["page"]) for number, found in self.others())]
        registry = CollectorRegistry()
        registry.register(Together(sorted(pages)))
        return generate_latest(registry)

    def usage(self, own: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
        """Return the sums of all processes by key."""
        return sum_counts([own, *(found["usage"] for _, found in self.others())])


class Together(Collector):
    """The samples of several pages, those of one name together."""

    def __init__(self, pages: Sequence[tuple[int, str]]) -> None:
        self.pages = pages

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of all pages, with the label ``worker``."""
        together: dict[str, Metric] = {}
        for number, page in self.pages:
            for metric in text_string_to_metric_families(page):
                whole = together.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    whole.samples.append(sample._replace(labels={**sample.labels, "worker": str(number)}))
        yield from together.values()


def sum_counts(parts: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the sums of counts by name.

    >>> sum_counts([{"a": {"n": 1}}, {"a": {"n": 2}, "b": {"n": 3}}])
    {'a': {'n': 3}, 'b': {'n': 3}}
    """
    total: dict[str, dict[str, float]] = {}
    for part in parts:
        for name, counts in part.items():
            row = total.setdefault(name, {})
            for field, count in counts.items():
                row[field] = row.get(field, 0) + count
    return total
