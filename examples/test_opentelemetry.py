"""OpenTelemetry: a batch processor's thread does not come along into a child, so the child needs a fresh one.

The page is about setting the processor up after the fork; by now the SDK begins anew in the child by itself:
https://opentelemetry-python.readthedocs.io/en/latest/examples/fork-process-model/README.html
"""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    """A provider whose processor exports only when it is told to."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    yield provider
    provider.shutdown()


def trace(provider, exporter, name):
    """End a span, and give the names of what was exported in this process."""
    provider.get_tracer("example").start_span(name).end()
    provider.force_flush()
    return [span.name for span in exporter.get_finished_spans()]


def test_a_child_exports_its_own_spans_and_not_those_that_its_parent_had_waiting(
    provider, exporter, spawn_fork
):
    provider.get_tracer("example").start_span("waiting").end()
    assert spawn_fork(trace, provider, exporter, "child").result() == ["child"]
    assert trace(provider, exporter, "parent") == ["waiting", "parent"]
