"""What Prometheus reads at /metrics. No label names a caller or an adapter: their number has no bound, and the page
needs no key."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """The counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"lorank_{name}", what, labels, registry=registry)

        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"lorank_{name}", what, registry=registry)

        self.requests = counter("requests", "Requests answered.", "route", "status")
        self.refusals = counter("refusals", "Requests refused, by the code of the message.", "code")
        self.documents = counter("documents", "Documents of answered requests.")
        self.tokens = counter("tokens", "Tokens that the model read.")
        self.truncated = counter("truncated_documents", "Documents read in part only.")
        self.failures = counter("failures", "Failures that are faults of the server; the log has the trace.")
        self.cache_hits = gauge("cache_hits", "Documents whose score was known, since the start.")
        self.cache_misses = gauge("cache_misses", "Documents whose score was not known, since the start.")
        self.cache_entries = gauge("cache_entries", "Scores in the cache.")
        self.waiting = gauge("waiting_requests", "Requests that wait to be scored.")
        self.speed = gauge("speed", "Estimated tokens scored a second, lately.")
        self.adapters = gauge("adapters", "Adapters that can be asked for.")
        self.seconds = Histogram(
            "lorank_request_seconds", "From the first byte to the last.", ["route"], buckets=SECONDS, registry=registry
        )
        self.batch_seconds = Histogram("lorank_batch_seconds", "Time of one batch.", buckets=SECONDS, registry=registry)
        self.batch_requests = Histogram(
            "lorank_batch_requests", "Requests in one batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=registry
        )
        self.batch_documents = Histogram(
            "lorank_batch_documents", "Documents in one batch.", buckets=(1, 4, 16, 64, 256, 1024), registry=registry
        )

    def batch(self, requests: int, documents: int, seconds: float) -> None:
        """Count one batch."""
        self.batch_requests.observe(requests)
        self.batch_documents.observe(documents)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
