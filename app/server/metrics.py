"""/metrics for Prometheus: read from the workers when asked, so that nothing is counted twice."""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from itertools import accumulate

from fastapi import Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.core.access.roles import door
from app.core.answering import router as routes
from app.core.drawn import Drawn
from app.core.residency.host import ModelHost
from app.core.residency.memory import measured, process_bytes
from app.core.residency.worker import BUCKETS, Times

router = routes(tags=["health"])


class Devices(Collector):
    """What the devices have done, and what waits for them."""

    def __init__(self, host: ModelHost) -> None:
        self.host = host

    def collect(self) -> Iterable[Metric]:
        depth = GaugeMetricFamily("nullscope_queue_depth", "Requests waiting or running.", labels=["device"])
        oom = CounterMetricFamily("nullscope_out_of_memory", "Requests that ran out of memory.", labels=["device"])
        refused = CounterMetricFamily("nullscope_refused", "Requests refused by a full queue.", labels=["device"])
        done = CounterMetricFamily("nullscope_runs", "Work done.", labels=["device", "kind", "outcome"])
        ran = HistogramMetricFamily("nullscope_run_seconds", "Time on the device.", labels=["device", "kind"])
        waited = HistogramMetricFamily("nullscope_wait_seconds", "Time in the queue.", labels=["device", "kind"])
        for device, worker in self.host.workers.items():
            stats = worker.stats
            depth.add_metric([device], worker.depth)
            oom.add_metric([device], stats.out_of_memory)
            refused.add_metric([device], stats.refused)
            for (kind, outcome), count in list(stats.finished.items()):
                done.add_metric([device, kind, outcome], count)
            _histogram(ran, device, stats.ran)
            _histogram(waited, device, stats.waited)
        yield from (depth, oom, refused, done, ran, waited)


def _histogram(family: HistogramMetricFamily, device: str, times: Mapping[str, Times]) -> None:
    for kind, found in list(times.items()):
        edges = ("+Inf" if edge == float("inf") else str(edge) for edge in BUCKETS)
        family.add_metric([device, kind], list(zip(edges, accumulate(found.counts), strict=True)), found.seconds)


class House(Collector):
    """Models, memory, caches, answers."""

    def __init__(self, host: ModelHost, answers: Tally[tuple[str, int]]) -> None:
        self.host = host
        self.answers = answers

    def collect(self) -> Iterable[Metric]:
        memory = GaugeMetricFamily("nullscope_models_bytes", "Memory taken by models.", labels=["device"])
        free = GaugeMetricFamily("nullscope_device_free_bytes", "Memory free on the device.", labels=["device"])
        for device, taken in self.host.memory.items():
            memory.add_metric([device], sum(taken.models.values()))
            free.add_metric([device], measured(device)[0])
        yield memory
        yield free
        kept = self.host.cache.bytes
        yield GaugeMetricFamily("nullscope_cache_bytes", "Kept of what was computed for loaded models.", value=kept)
        yield GaugeMetricFamily("nullscope_process_bytes", "Resident memory of the process.", value=process_bytes())
        models = GaugeMetricFamily("nullscope_models", "Models by state.", labels=["model", "state"])
        for key, entry in list(self.host.entries.items()):
            models.add_metric([key, entry.state], 1)
        yield models
        loads = CounterMetricFamily("nullscope_loads", "Models loaded since the start.", labels=["outcome"])
        loads.add_metric(["ok"], self.host.counts["loaded"])
        loads.add_metric(["failed"], self.host.counts["load_failed"])
        yield loads
        yield self._hits()
        requests = CounterMetricFamily("nullscope_requests", "Answers by role and status.", labels=["role", "status"])
        for (role, status), count in list(self.answers.items()):
            requests.add_metric([role, str(status)], count)
        yield requests

    def _hits(self) -> Metric:
        """in_flight: a request that waited for an equal one instead of being computed. weights: a spectrum, a table,
        ... of the weights that was kept."""
        hits = CounterMetricFamily("nullscope_cache_hits", "What was not computed again.", labels=["cache"])
        hits.add_metric(["in_flight"], self.host.flights.joined)
        hits.add_metric(["weights"], self.host.cache.hits)
        return hits


@router.get("/metrics", response_class=Response)
@door("view", price=0)
async def metrics(request: Request) -> Response:
    """Queue depth and wait, run time by kind, out-of-memory events, loads, caches, memory, requests by role."""
    return Drawn(lambda: written(request), media_type="text/plain; version=0.0.4; charset=utf-8")


def written(request: Request) -> bytes:
    """What Prometheus reads. It measures memory: not on the event loop."""
    registry = CollectorRegistry()
    registry.register(Devices(request.app.state.host))
    registry.register(House(request.app.state.host, request.app.state.gate.answers))
    return generate_latest(registry)
