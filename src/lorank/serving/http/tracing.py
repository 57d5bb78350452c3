"""OpenTelemetry traces: a span for each request, with one for its time in the queue and one for its batches.

Spans are made when the answer is out, from the times that were noted; so nothing is traced where nobody asks for it,
and a collector that is slow or away costs no request anything. A client's ``traceparent`` becomes the parent.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from lorank.errors import UsageError
from lorank.serving.requests.record import RequestRecord

NANOSECONDS = 1_000_000_000


class Tracer(Protocol):
    """Takes note of requests that were answered."""

    def record(
        self, headers: Mapping[str, str], fields: Mapping[str, Any], noted: RequestRecord, seconds: float
    ) -> None:
        """Note one request.

        Args:
            headers: The headers of the request.
            fields: The fields of its log line.
            noted: What was noted on its way.
            seconds: The time from its headers to the end of the answer.
        """
        ...

    def close(self) -> None:
        """Send what was noted."""
        ...


class OpenTelemetry:
    """Sends spans by ``exporter``, in batches and from a thread of its own."""

    def __init__(self, exporter: Any) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.provider = TracerProvider(resource=Resource.create({"service.name": "lorank"}))
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self.provider.get_tracer("lorank.serving")
        self.parent_of = TraceContextTextMapPropagator().extract

    def record(
        self, headers: Mapping[str, str], fields: Mapping[str, Any], noted: RequestRecord, seconds: float
    ) -> None:
        """Note one request as a span, with one for its time in the queue and one for its batches.

        Args:
            headers: The headers of the request, among them the client's ``traceparent``.
            fields: The fields of its log line, which become the span's attributes.
            noted: What was noted on its way.
            seconds: The time from its headers to the end of the answer.
        """
        from opentelemetry import trace

        began = int(noted.began * NANOSECONDS)
        given = headers.get("traceparent")
        context = self.parent_of({"traceparent": given} if given else {})
        attributes = {
            f"lorank.{key}": value
            for key, value in fields.items()
            if value is not None and key not in ("method", "route", "status")
        }
        span = self.tracer.start_span(
            f"{fields['method']} {fields['route']}",
            context=context,
            kind=trace.SpanKind.SERVER,
            start_time=began,
            attributes={
                "http.request.method": fields["method"],
                "http.route": fields["route"],
                "http.response.status_code": fields["status"],
                **attributes,
            },
        )
        if noted.queued is not None:
            inside, at = trace.set_span_in_context(span), int(noted.queued * NANOSECONDS)
            for name, part in (("queue", noted.queue_s), ("score", noted.score_s)):
                child = self.tracer.start_span(name, context=inside, start_time=at)
                at += int(part * NANOSECONDS)
                child.end(at)
        if fields["status"] >= 500:
            span.set_status(trace.StatusCode.ERROR)
        span.end(began + int(seconds * NANOSECONDS))

    def close(self) -> None:
        """Send what was noted, and end the thread."""
        self.provider.shutdown()


def open_tracer(endpoint: str) -> OpenTelemetry:
    """Return a tracer that sends to an OTLP endpoint over HTTP, such as ``http://localhost:4318/v1/traces``."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OpenTelemetry(OTLPSpanExporter(endpoint=endpoint))
    except ImportError as error:
        raise UsageError(f"traces need {error.name}: pip install 'lorank[tracing]'") from error
