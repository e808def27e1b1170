"""/metrics for Prometheus: read from the workers when asked, so that nothing is counted twice."""

from collections import Counter as Tally
from collections.abc import Iterable

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.residency.host import ModelHost

router = APIRouter(tags=["health"])


class Workers(Collector):
    """What the devices have done."""

    def __init__(self, host: ModelHost, roles: Tally[tuple[str, int]]) -> None:
        self.host = host
        self.roles = roles

    def collect(self) -> Iterable[Metric]:
        depth = GaugeMetricFamily("nullscope_queue_depth", "Requests waiting or running.", labels=["device"])
        oom = CounterMetricFamily("nullscope_out_of_memory", "Requests that ran out of memory.", labels=["device"])
        refused = CounterMetricFamily("nullscope_refused", "Requests refused by a full queue.", labels=["device"])
        memory = GaugeMetricFamily("nullscope_models_bytes", "Memory taken by models.", labels=["device"])
        done = CounterMetricFamily("nullscope_runs", "Work done.", labels=["device", "kind", "outcome"])
        ran = CounterMetricFamily("nullscope_run_seconds", "Time on the device.", labels=["device", "kind"])
        waited = CounterMetricFamily("nullscope_wait_seconds", "Time in the queue.", labels=["device", "kind"])
        for device, worker in self.host.workers.items():
            stats = worker.stats
            depth.add_metric([device], worker.depth)
            oom.add_metric([device], stats.out_of_memory)
            refused.add_metric([device], stats.refused)
            memory.add_metric([device], sum(self.host.memory[device].models.values()))
            for (kind, outcome), count in list(stats.finished.items()):
                done.add_metric([device, kind, outcome], count)
            for family, values in ((ran, stats.run_seconds), (waited, stats.wait_seconds)):
                for kind, seconds in list(values.items()):
                    family.add_metric([device, kind], seconds)
        models = GaugeMetricFamily("nullscope_models", "Models by state.", labels=["model", "state"])
        for key, entry in list(self.host.entries.items()):
            models.add_metric([key, entry.state], 1)
        requests = CounterMetricFamily("nullscope_requests", "Answers by role and status.", labels=["role", "status"])
        for (role, status), count in list(self.roles.items()):
            requests.add_metric([role, str(status)], count)
        yield from (depth, oom, refused, memory, done, ran, waited, models, requests)


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """Queue depth and wait, run time by kind, out-of-memory events, models, memory, requests by role."""
    registry = CollectorRegistry()
    registry.register(Workers(request.app.state.host, request.app.state.gate.answers))
    return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")
