"""Python client of a Nullscope server. Needs httpx and pydantic; never imports torch.

    from nullscope import Client

    client = Client("http://127.0.0.1:8000", key="ns_...")
    run = client.trace("The cat sat on the mat")                 # the models of app.views, as in the API
    client.effects("The cat sat on the mat", limit=10).rows[0].d_entropy.total
    for job in client.follow(client.start_sweep({...}).id): print(job.fraction)
    to_pandas(client.neurons(layer=3))

An answer 429 is tried again after the delay that it names; errors are ApiError with the server's code and message.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx
from pydantic import BaseModel

from app.compare.view import SidesView
from app.core import permalink_view as permalinks
from app.core import view as core
from app.core.jobs_view import JobView
from app.core.notes_view import NotesView, NoteView
from app.generate.view import GenerateView
from app.lab import jobs_view as job_views
from app.lab import view as note_views
from app.sweep import view as sweep_views
from nullscope.questions import Questions
from nullscope.wire import ApiError as ApiError
from nullscope.wire import Prompt, of_prompt, part

FINAL = frozenset({"finished", "failed", "cancelled"})


class Client(Questions):
    """One server, one model at a time (`model=None`: the server's first)."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        model: str | None = None,
        retries: int = 5,
        timeout: float = 300.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(url, key, model, retries=retries, timeout=timeout, transport=transport, sleep=sleep)

    # as it is written

    def writing(self, prompt: Prompt, **options: Any) -> Iterator[GenerateView]:
        """`generate` as it is written: a view a token, the last one the whole. Leaving the loop ends the writing.

        for one in client.writing("Once upon", max_new_tokens=20): print(one.text, end="")   # the last repeats it all
        """
        return self._events(GenerateView, "generate", {**of_prompt(prompt), **options})

    # the server

    def health(self) -> core.Health:
        return self._get(core.Health, "/healthz", api=False)

    def ready(self) -> core.Ready:
        """Whether it can serve; what it still waits for, if it cannot."""
        return core.Ready.model_validate(self._send("GET", "/readyz", api=False, fine=(503,)).json())

    def metrics(self) -> str:
        """Prometheus' text."""
        return self._send("GET", "/metrics", api=False).text

    def queue(self) -> job_views.QueueView:
        """My requests that wait or run, with their places; everybody's for an administrator."""
        return self._get(job_views.QueueView, "/queue")

    def models(self) -> core.ModelsView:
        return self._get(core.ModelsView, "/models")

    def model_facts(self) -> core.ModelRow:
        """What is known of the model that is asked."""
        return self._get(core.ModelRow, self.path)

    def load_model(self, key: str) -> core.ModelRow:
        """In the background; an administrator's call."""
        return self._post(core.ModelRow, "/models", {"key": key})

    def unload_model(self, key: str) -> core.ModelsView:
        return self._delete(core.ModelsView, f"/models/{part(key)}")

    def take_reference(self, name: str, content: bytes) -> core.ModelRow:
        """The model's means over another text, .txt or .jsonl by its name; an administrator's call."""
        sent = self._send("POST", f"{self.path}/reference", params={"name": name}, content=content)
        return core.ModelRow.model_validate(sent.json())

    def forget_reference(self) -> core.ModelRow:
        """Its means over the text again that it had before; an administrator's call."""
        return self._delete(core.ModelRow, f"{self.path}/reference")

    # the instrument: see nullscope.questions

    def compare(self, **query: Any) -> SidesView:
        """Two models or checkpoints (`a="demo", b="demo@1998848"`); training=True: and the way there."""
        return self._get(SidesView, "/compare", query)

    # sweeps and other long work

    def upload(self, name: str, content: bytes) -> sweep_views.CorpusView:
        """A text for sweeps: .jsonl with a `text` key, or .txt, either gzipped, by its name."""
        sent = self._send("POST", "/corpora", params={"name": name}, content=content)
        return sweep_views.CorpusView.model_validate(sent.json())

    def uploads(self) -> sweep_views.CorporaView:
        """One's own texts; everybody's for an administrator."""
        return self._get(sweep_views.CorporaView, "/corpora")

    def delete_upload(self, name: str) -> None:
        self._send("DELETE", f"/corpora/{part(name)}")

    def sweeps(self) -> sweep_views.SweepsView:
        return self._get(sweep_views.SweepsView, "/sweeps")

    def estimate_sweep(self, config: Mapping[str, Any]) -> sweep_views.EstimateView:
        return self._post(sweep_views.EstimateView, "/sweeps/estimate", config)

    def start_sweep(self, config: Mapping[str, Any]) -> sweep_views.SweepRef:
        return self._post(sweep_views.SweepRef, "/sweeps", config)

    def sweep(self, name: str, **query: Any) -> sweep_views.SweepView:
        return self._get(sweep_views.SweepView, f"/sweeps/{part(name)}", query)

    def cancel_sweep(self, name: str) -> JobView:
        return self._post(JobView, f"/sweeps/{part(name)}/cancel", {})

    def resume_sweep(self, name: str) -> JobView:
        return self._post(JobView, f"/sweeps/{part(name)}/resume", {})

    def delete_sweep(self, name: str) -> None:
        self._send("DELETE", f"/sweeps/{part(name)}")

    def sweep_figure(self, name: str, figure: str, **query: Any) -> sweep_views.FigureView:
        """The points of one of the paper's figures ("1", "2a", ...)."""
        return self._get(sweep_views.FigureView, f"/sweeps/{part(name)}/figures/{part(figure)}", query)

    def sweep_neuron(self, name: str, neuron: str) -> sweep_views.SweepNeuronView:
        return self._get(sweep_views.SweepNeuronView, f"/sweeps/{part(name)}/neurons/{part(neuron)}")

    def calibration(self, name: str, **query: Any) -> sweep_views.CalibrationView:
        return self._get(sweep_views.CalibrationView, f"/sweeps/{part(name)}/calibration", query)

    def compare_sweeps(self, a: str, b: str, **query: Any) -> sweep_views.CompareView:
        return self._get(sweep_views.CompareView, "/sweeps/compare", {"a": a, "b": b, **query})

    def jobs(self, *, who: str = "mine") -> job_views.JobsView:
        return self._get(job_views.JobsView, "/jobs", {"who": who})

    def job(self, name: str) -> JobView:
        return self._get(JobView, f"/jobs/{part(name)}")

    def cancel(self, name: str) -> JobView:
        return self._post(JobView, f"/jobs/{part(name)}/cancel", {})

    def follow(self, name: str, *, every: float = 1.0) -> Iterator[JobView]:
        """The job's state again and again, until it is final (that state is the last one)."""
        while True:
            state = self.job(name)
            yield state
            if state.state in FINAL:
                return
            self._sleep(every)

    # what the lab keeps

    def results(self, *, who: str = "mine", offset: int = 0, limit: int = 50) -> permalinks.ResultsView:
        return self._get(permalinks.ResultsView, "/results", {"who": who, "offset": offset, "limit": limit})

    def result(self, name: str) -> permalinks.PermalinkView:
        """A stored result by hash (or its unique beginning), computed again by the server."""
        from app.registry import QUESTIONS  # what its table is

        return self._get(permalinks.PermalinkView, f"/results/{part(name)}").with_table(QUESTIONS)

    def delete_result(self, name: str) -> permalinks.ResultsView:
        return self._delete(permalinks.ResultsView, f"/results/{part(name)}")

    def notes(self, target: str | None = None, *, offset: int = 0, limit: int = 50) -> NotesView:
        return self._get(NotesView, "/notes", {"target": target, "offset": offset, "limit": limit})

    def write_note(self, target: str, text: str) -> NoteView:
        return self._post(NoteView, "/notes", {"target": target, "text": text})

    def edit_note(self, name: str, text: str) -> NoteView:
        return self._put(NoteView, f"/notes/{part(name)}", {"text": text})

    def delete_note(self, name: str) -> NotesView:
        return self._delete(NotesView, f"/notes/{part(name)}")

    def note_history(self, name: str) -> note_views.HistoryView:
        return self._get(note_views.HistoryView, f"/notes/{part(name)}/history")

    def lists(self, model: str | None = None) -> note_views.ListsView:
        return self._get(note_views.ListsView, "/lists", {"model": model})

    def neuron_list(self, name: str) -> note_views.ListView:
        return self._get(note_views.ListView, f"/lists/{part(name)}")

    def make_list(self, name: str, neurons: Sequence[str], *, description: str = "") -> note_views.ListView:
        body = {"name": name, "model": self.model, "neurons": [*neurons], "description": description}
        return self._post(note_views.ListView, "/lists", body)

    def edit_list(self, name: str, **changes: Any) -> note_views.ListView:
        """Its name, description or neurons; what is not given stays."""
        return self._put(note_views.ListView, f"/lists/{part(name)}", changes)

    def delete_list(self, name: str) -> note_views.ListsView:
        return self._delete(note_views.ListsView, f"/lists/{part(name)}")

    def list_history(self, name: str) -> note_views.HistoryView:
        return self._get(note_views.HistoryView, f"/lists/{part(name)}/history")

    def pins(self) -> note_views.PinsView:
        return self._get(note_views.PinsView, "/pins")

    def pin(self, target: str) -> note_views.PinsView:
        return self._post(note_views.PinsView, "/pins", {"target": target})

    def unpin(self, target: str) -> note_views.PinsView:
        return self._delete(note_views.PinsView, "/pins", {"target": target})

    def export(self) -> note_views.ExportView:
        return self._get(note_views.ExportView, "/export")

    def take_in(self, export: note_views.ExportView) -> note_views.ImportView:
        """What another server exported; an administrator's call."""
        return self._post(note_views.ImportView, "/import", export.model_dump(mode="json"))


def to_pandas(view: BaseModel) -> Any:
    """The view's table as a DataFrame with dotted columns, as its CSV has them (needs pandas)."""
    import pandas

    rows = view.csv_rows() if hasattr(view, "csv_rows") else view.model_dump(mode="json").get("rows", [])
    return pandas.json_normalize(rows)
