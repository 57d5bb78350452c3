"""What Prometheus reads at /metrics, by its conventions: counters end in _total, times are histograms in seconds.

No label names a caller or an adapter unless the operator allows it: their number has no bound, and the page needs no
key. What other parts count themselves is read when the page is made (`Gathered`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


@dataclass(frozen=True)
class Value:
    """One number of the page, or several of one name that a label tells apart."""

    name: str
    what: str
    value: float | Mapping[str, float]
    label: str = ""
    counts: bool = False


class Metrics:
    """The counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"lorank_{name}", what, labels, registry=registry)

        def histogram(name: str, what: str, *labels: str, buckets: Iterable[float] = SECONDS) -> Histogram:
            return Histogram(f"lorank_{name}", what, labels, buckets=tuple(buckets), registry=registry)

        self.requests = counter("requests", "Requests answered.", "route", "status")
        self.refusals = counter("refusals", "Requests refused, by the code of the message.", "code")
        self.documents = counter("documents", "Documents of answered requests.")
        self.tokens = counter("tokens", "Tokens that the model read.")
        self.truncated = counter("truncated_documents", "Documents read in part only.")
        self.failures = counter("failures", "Failures that are faults of the server; the log has the trace.")
        self.seconds = histogram("request_seconds", "From the headers to the end of the answer.", "route")
        self.queue_seconds = histogram("queue_seconds", "From the queue's door to the first batch.")
        self.batch_seconds = histogram("batch_seconds", "Time of one batch.")
        self.batch_requests = histogram(
            "batch_requests", "Requests in one batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
        )
        self.batch_documents = histogram(
            "batch_documents", "Documents in one batch.", buckets=(1, 4, 16, 64, 256, 1024)
        )
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)

    def batch(self, requests: int, documents: int, seconds: float) -> None:
        """Count one batch."""
        self.batch_requests.observe(requests)
        self.batch_documents.observe(documents)
        self.batch_seconds.observe(seconds)

    def gather(self, values: Callable[[], Iterable[Value]], build: dict[str, str]) -> None:
        """Show what ``values`` returns whenever the page is made, and what ``build`` says of the server."""
        self.registry.register(Gathered(values, build))

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class Gathered(Collector):
    """Numbers that are kept elsewhere."""

    def __init__(self, values: Callable[[], Iterable[Value]], build: dict[str, str]) -> None:
        self.values, self.build = values, build

    def describe(self) -> list[Metric]:
        """Return nothing: the numbers are not asked for when the collector is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return the numbers as they are now."""
        yield InfoMetricFamily("lorank_build", "What runs here.", value=self.build)
        for value in self.values():
            family = CounterMetricFamily if value.counts else GaugeMetricFamily
            metric = family(f"lorank_{value.name}", value.what, labels=[value.label] if value.label else [])
            parts = value.value if isinstance(value.value, Mapping) else {"": value.value}
            for label, number in parts.items():
                metric.add_metric([label] if value.label else [], number)
            yield metric
