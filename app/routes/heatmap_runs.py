"""Heat maps that are being computed while a page shows what is there: started once, asked for by name."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial

from analysis.types import NotFoundError
from app.answers import kept
from app.answers.effects import heatmap_views
from app.deps import Caller
from app.requests.effects import HeatmapRequest
from app.residency.host import ModelHost
from app.views.effects import HeatmapView

KEPT = 64  # of all people: a lab of ten has several each on their pages
HEATMAP = kept.KINDS["heatmap"]


@dataclass
class Run:
    """One heat map. ``so_far`` is None until its first forward pass is done."""

    key: str
    request: HeatmapRequest
    python: str
    so_far: HeatmapView | None = None
    error: BaseException | None = None
    finished: bool = False
    dropped: threading.Event = field(default_factory=threading.Event)


class HeatmapRuns:
    """The last few runs, by the hash of what was asked; an older one stops when it is pushed out."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, caller: Caller, key: str, request: HeatmapRequest, python: str) -> str:
        """The name of the run for this request; a new one unless it is known and has not failed. python: its code."""
        self._host.entry(key)
        name = hashlib.sha256(f"{key} {request.model_dump_json()}".encode()).hexdigest()[:24]
        with self._lock:
            known = self._runs.get(name)
            if known is None or known.error is not None:
                run = self._runs[name] = Run(key, request, python)
                threading.Thread(target=self._work, args=(run, caller.person), daemon=True, name="heatmap").start()
            self._runs.move_to_end(name)
            while len(self._runs) > KEPT:
                self._runs.popitem(last=False)[1].dropped.set()
        return name

    def run(self, name: str) -> Run:
        """A run by its name; NotFoundError once it is gone."""
        with self._lock:
            found = self._runs.get(name)
        if found is None:
            raise NotFoundError("This heat map is no longer kept.", code="no_such_run", hint="Run it again.")
        return found

    async def view(self, caller: Caller, name: str, *, finished: bool) -> HeatmapView | None:
        """What there is by now; None before the first forward pass. Raises what went wrong, if it did.

        finished: the run was seen to be, so this is the whole and has a permalink.
        """
        run = self.run(name)
        if run.error is not None:
            raise run.error
        if (view := run.so_far) is None:
            return None
        return await caller.keep(kept.of_answer(HEATMAP, run.request, view), view) if finished else view

    def _work(self, run: Run, person: str) -> None:
        try:
            steps = self._host.slices(run.key, partial(heatmap_views, request=run.request), who=person, kind="heatmap")
            for view in steps:
                run.so_far = view or run.so_far
                if run.dropped.is_set():
                    break
        except Exception as error:
            run.error = error
        run.finished = True
