"""Python client of a Nullscope server. Needs httpx and pydantic; never imports torch.

    from app.client import Nullscope

    client = Nullscope("http://127.0.0.1:8000", key="ns_...")
    run = client.trace("The cat sat on the mat")                 # the models of app.views, as in the API
    client.effects("The cat sat on the mat", limit=10).rows[0].d_entropy.total
    for job in client.follow(client.start_sweep({...}).id): print(job.fraction)
    to_pandas(client.neurons(layer=3))

An answer 429 is tried again after the delay that it names; errors are ApiError with the server's code and message.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from app.requests.core import AnyIntervention
from app.views import atlas as atlas_views
from app.views import core, permalinks
from app.views import effects as effect_views
from app.views import induction as induction_views
from app.views import jobs as job_views
from app.views import notes as note_views
from app.views import sweep as sweep_views
from app.views.check import CheckView
from app.views.compare import SidesView
from app.views.neuron import Live, Sample
from app.wire import ApiError as ApiError
from app.wire import V, Wire

FINAL = frozenset({"finished", "failed", "cancelled"})


class Nullscope(Wire):
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
        super().__init__(url, key, retries=retries, timeout=timeout, transport=transport, sleep=sleep)
        self._model = model

    @property
    def model(self) -> str:
        """Key of the model that is asked."""
        if self._model is None:
            self._model = self.models().models[0].key
        return self._model

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
        return self._get(core.ModelRow, self._path)

    def load_model(self, key: str) -> core.ModelRow:
        """In the background; an administrator's call."""
        return self._post(core.ModelRow, "/models", {"key": key})

    def unload_model(self, key: str) -> core.ModelsView:
        return self._delete(core.ModelsView, f"/models/{_part(key)}")

    # the instrument

    def tokens(self, prompt: str | list[int], **options: Any) -> core.TokensView:
        return self._ask(core.TokensView, "tokens", prompt, options)

    def trace(
        self,
        prompt: str | list[int],
        *,
        interventions: Sequence[AnyIntervention | dict[str, Any]] | None = None,
        neurons: list[str] | None = None,
        **options: Any,
    ) -> core.TraceView:
        """Per-token metrics of a prompt (text or token ids), clean and intervened."""
        given = [item.model_dump() if isinstance(item, BaseModel) else item for item in interventions or ()]
        body = {"interventions": given, "neurons": neurons or [], **options}
        return self._ask(core.TraceView, "trace", prompt, body)

    def effects(self, prompt: str | list[int], **options: Any) -> core.EffectsView:
        """Every last-layer neuron ablated at one position; options as in the API (position, baseline, sort, ...)."""
        return self._ask(core.EffectsView, "effects", prompt, options)

    def heatmap(self, prompt: str | list[int], **options: Any) -> effect_views.HeatmapView:
        return self._ask(effect_views.HeatmapView, "heatmap", prompt, options)

    def joint(self, prompt: str | list[int], **options: Any) -> effect_views.JointView:
        return self._ask(effect_views.JointView, "joint", prompt, options)

    def dose(self, prompt: str | list[int], **options: Any) -> effect_views.DoseView:
        return self._ask(effect_views.DoseView, "dose", prompt, options)

    def ledger(self, prompt: str | list[int], **options: Any) -> effect_views.LedgerView:
        return self._ask(effect_views.LedgerView, "ledger", prompt, options)

    def check(self) -> CheckView:
        return self._get(CheckView, f"{self._path}/check")

    # the atlas

    def neurons(self, **query: Any) -> atlas_views.NeuronsView:
        return self._get(atlas_views.NeuronsView, f"{self._path}/neurons", query)

    def neuron(self, name: str, **query: Any) -> atlas_views.NeuronView:
        return self._get(atlas_views.NeuronView, f"{self._path}/neurons/{_part(name)}", query)

    def neuron_on(self, name: str, prompt: str | list[int], **options: Any) -> Live:
        """One neuron at each token of a prompt, and its activation held fixed."""
        return self._ask(Live, f"neurons/{_part(name)}", prompt, options)

    def neuron_sample(self, name: str) -> Sample:
        """Where in the model's sample text it is most active, and changes entropy most."""
        return self._get(Sample, f"{self._path}/neurons/{_part(name)}/sample")

    def spectrum(self, **query: Any) -> atlas_views.SpectrumView:
        return self._get(atlas_views.SpectrumView, f"{self._path}/spectrum", query)

    def frequency(self, **query: Any) -> atlas_views.FrequencyView:
        return self._get(atlas_views.FrequencyView, f"{self._path}/frequency", query)

    def nullspace(self, **query: Any) -> atlas_views.NullspaceShares:
        return self._get(atlas_views.NullspaceShares, f"{self._path}/nullspace", query)

    def walk(self, prompt: str | list[int], **options: Any) -> atlas_views.WalkView:
        """The prompt's last residual stream moved along one singular vector of W_U."""
        return self._ask(atlas_views.WalkView, "walk", prompt, options)

    def frequency_on(self, prompt: str | list[int], **options: Any) -> atlas_views.FrequencyOnPrompt:
        """KL to the unigram distribution over a prompt, and what one neuron does to it."""
        return self._ask(atlas_views.FrequencyOnPrompt, "frequency", prompt, options)

    def compare(self, **query: Any) -> SidesView:
        """Two models or checkpoints (`a="demo", b="demo@1998848"`); training=True: and the way there."""
        return self._get(SidesView, "/compare", query)

    def reproduce(self) -> atlas_views.ReproduceView:
        """The published values of the model, beside those computed here."""
        return self._get(atlas_views.ReproduceView, f"{self._path}/reproduce")

    # induction

    def induction(self, **options: Any) -> induction_views.InductionView:
        return self._post(induction_views.InductionView, f"{self._path}/induction", options)

    def heads(self, **options: Any) -> induction_views.HeadsView:
        return self._post(induction_views.HeadsView, f"{self._path}/heads", options)

    def attribution(self, neuron: str, **options: Any) -> induction_views.AttributionView:
        """A last-layer neuron's pre-activation, split over heads, MLPs and the embedding."""
        return self._post(
            induction_views.AttributionView, f"{self._path}/induction/attribution", {"neuron": neuron, **options}
        )

    def natural_repeats(self, **options: Any) -> induction_views.NaturalView:
        return self._post(induction_views.NaturalView, f"{self._path}/induction/natural", options)

    def head_ablation(self, heads: list[str], neurons: list[str], **options: Any) -> induction_views.HeadAblationView:
        body = {"heads": heads, "neurons": neurons, **options}
        return self._post(induction_views.HeadAblationView, f"{self._path}/induction/ablation", body)

    def start_head_ablation(
        self, heads: list[str], neurons: list[str], **options: Any
    ) -> induction_views.AblationJobView:
        """The same as a job; `follow` it, then ask for `head_ablation_job`."""
        body = {"heads": heads, "neurons": neurons, **options}
        return self._post(induction_views.AblationJobView, f"{self._path}/induction/ablation/jobs", body)

    def head_ablation_job(self, name: str) -> induction_views.AblationJobView:
        return self._get(induction_views.AblationJobView, f"{self._path}/induction/ablation/jobs/{_part(name)}")

    def cancel_head_ablation(self, name: str) -> induction_views.AblationJobView:
        return self._post(
            induction_views.AblationJobView, f"{self._path}/induction/ablation/jobs/{_part(name)}/cancel", {}
        )

    # sweeps and other long work

    def upload(self, name: str, content: bytes) -> sweep_views.CorpusView:
        """A text for sweeps: .jsonl with a `text` key, or .txt, either gzipped, by its name."""
        sent = self._send("POST", "/corpora", params={"name": name}, content=content)
        return sweep_views.CorpusView.model_validate(sent.json())

    def sweeps(self) -> sweep_views.SweepsView:
        return self._get(sweep_views.SweepsView, "/sweeps")

    def estimate_sweep(self, config: Mapping[str, Any]) -> sweep_views.EstimateView:
        return self._post(sweep_views.EstimateView, "/sweeps/estimate", config)

    def start_sweep(self, config: Mapping[str, Any]) -> sweep_views.SweepRef:
        return self._post(sweep_views.SweepRef, "/sweeps", config)

    def sweep(self, name: str, **query: Any) -> sweep_views.SweepView:
        return self._get(sweep_views.SweepView, f"/sweeps/{_part(name)}", query)

    def cancel_sweep(self, name: str) -> sweep_views.JobView:
        return self._post(sweep_views.JobView, f"/sweeps/{_part(name)}/cancel", {})

    def resume_sweep(self, name: str) -> sweep_views.JobView:
        return self._post(sweep_views.JobView, f"/sweeps/{_part(name)}/resume", {})

    def delete_sweep(self, name: str) -> None:
        self._send("DELETE", f"/sweeps/{_part(name)}")

    def sweep_figure(self, name: str, figure: str, **query: Any) -> sweep_views.FigureView:
        """The points of one of the paper's figures ("1", "2a", ...)."""
        return self._get(sweep_views.FigureView, f"/sweeps/{_part(name)}/figures/{_part(figure)}", query)

    def sweep_neuron(self, name: str, neuron: str) -> sweep_views.SweepNeuronView:
        return self._get(sweep_views.SweepNeuronView, f"/sweeps/{_part(name)}/neurons/{_part(neuron)}")

    def calibration(self, name: str, **query: Any) -> sweep_views.CalibrationView:
        return self._get(sweep_views.CalibrationView, f"/sweeps/{_part(name)}/calibration", query)

    def compare_sweeps(self, a: str, b: str, **query: Any) -> sweep_views.CompareView:
        return self._get(sweep_views.CompareView, "/sweeps/compare", {"a": a, "b": b, **query})

    def jobs(self, *, who: str = "mine") -> job_views.JobsView:
        return self._get(job_views.JobsView, "/jobs", {"who": who})

    def job(self, name: str) -> sweep_views.JobView:
        return self._get(sweep_views.JobView, f"/jobs/{_part(name)}")

    def cancel(self, name: str) -> sweep_views.JobView:
        return self._post(sweep_views.JobView, f"/jobs/{_part(name)}/cancel", {})

    def follow(self, name: str, *, every: float = 1.0) -> Iterator[sweep_views.JobView]:
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
        return self._get(permalinks.PermalinkView, f"/results/{_part(name)}")

    def delete_result(self, name: str) -> permalinks.ResultsView:
        return self._delete(permalinks.ResultsView, f"/results/{_part(name)}")

    def notes(self, target: str | None = None, *, offset: int = 0, limit: int = 50) -> note_views.NotesView:
        return self._get(note_views.NotesView, "/notes", {"target": target, "offset": offset, "limit": limit})

    def write_note(self, target: str, text: str) -> note_views.NoteView:
        return self._post(note_views.NoteView, "/notes", {"target": target, "text": text})

    def edit_note(self, name: str, text: str) -> note_views.NoteView:
        return self._put(note_views.NoteView, f"/notes/{_part(name)}", {"text": text})

    def delete_note(self, name: str) -> note_views.NotesView:
        return self._delete(note_views.NotesView, f"/notes/{_part(name)}")

    def note_history(self, name: str) -> note_views.HistoryView:
        return self._get(note_views.HistoryView, f"/notes/{_part(name)}/history")

    def lists(self, model: str | None = None) -> note_views.ListsView:
        return self._get(note_views.ListsView, "/lists", {"model": model})

    def neuron_list(self, name: str) -> note_views.ListView:
        return self._get(note_views.ListView, f"/lists/{_part(name)}")

    def make_list(self, name: str, neurons: Sequence[str], *, description: str = "") -> note_views.ListView:
        body = {"name": name, "model": self.model, "neurons": [*neurons], "description": description}
        return self._post(note_views.ListView, "/lists", body)

    def edit_list(self, name: str, **changes: Any) -> note_views.ListView:
        """Its name, description or neurons; what is not given stays."""
        return self._put(note_views.ListView, f"/lists/{_part(name)}", changes)

    def delete_list(self, name: str) -> note_views.ListsView:
        return self._delete(note_views.ListsView, f"/lists/{_part(name)}")

    def list_history(self, name: str) -> note_views.HistoryView:
        return self._get(note_views.HistoryView, f"/lists/{_part(name)}/history")

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

    # plumbing

    @property
    def _path(self) -> str:
        return f"/models/{_part(self.model)}"

    def _ask(self, view: type[V], question: str, prompt: str | Sequence[int], options: Mapping[str, Any]) -> V:
        given = {"text": prompt} if isinstance(prompt, str) else {"token_ids": [*prompt]}
        return self._post(view, f"{self._path}/{question}", {**given, **options})


def _part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def to_pandas(view: BaseModel) -> Any:
    """The view's table as a DataFrame with dotted columns, as its CSV has them (needs pandas)."""
    import pandas

    rows = view.csv_rows() if hasattr(view, "csv_rows") else view.model_dump(mode="json").get("rows", [])
    return pandas.json_normalize(rows)
