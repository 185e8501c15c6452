"""What this server counts while it runs, for Prometheus; each meter is moved where the thing itself happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "PREDICTIONS", "REQUESTS", "RESTARTS", "SECONDS", "SESSIONS", "TASKS", "Reading", "text"]

disable_created_metrics()  # type: ignore[no-untyped-call]  # when each began: half of all lines, and nobody asks
_registry = CollectorRegistry()
ProcessCollector(registry=_registry)
PlatformCollector(registry=_registry)

REQUESTS = Counter("loupe_requests", "Answers of the server", ["method", "route", "status"], registry=_registry)
SECONDS = Histogram(
    "loupe_request_seconds",
    "From a request to the end of its answer",
    ["route"],
    registry=_registry,
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
SESSIONS = Gauge("loupe_sessions", "Pages that are open: WebSockets", registry=_registry)
PREDICTIONS = Counter("loupe_predictions", "Pictures of people that a network has answered", registry=_registry)
TASKS = Gauge("loupe_worker_tasks", "Calls that a model worker has been asked and has not answered", ["worker"], registry=_registry)
RESTARTS = Counter("loupe_worker_restarts", "Model workers that had died and were started again", ["worker"], registry=_registry)


class Reading(Collector):
    """Figures that are read from database and run folders at the moment of asking, and not counted here."""

    def __init__(self) -> None:
        self.found: list[Metric] = []

    def gauge(self, name: str, help: str, label: str, values: Mapping[Any, float]) -> None:
        self._add(GaugeMetricFamily(name, help, labels=[label]), values)

    def counter(self, name: str, help: str, label: str, values: Mapping[Any, float]) -> None:
        self._add(CounterMetricFamily(name, help, labels=[label]), values)

    def _add(self, family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[Any, float]) -> None:
        for value, n in values.items():
            family.add_metric([value], n)
        self.found.append(family)

    def collect(self) -> Iterable[Metric]:
        return self.found


def text(reading: Reading) -> bytes:
    """Everything, in Prometheus' own format."""
    now = CollectorRegistry()
    now.register(reading)
    return generate_latest(_registry) + generate_latest(now)
