"""What each role may do at every route, and what it takes: written by hand, from docs/hosting.md, not from the program.

Each line is one request. role: the least that gets an answer; everybody below is refused. asks: the priced questions
that it asks of a model, each with its price in PRICES; a request costs `door` beside them.
"""

from dataclasses import dataclass, field
from typing import Any

MODEL = "tiny-gpt2"
API = "/api/v1/models/{key}"
TEXT = "The cat sat on the mat"
PRICES = {
    "trace": 2, "story": 2, "effects": 4, "heatmap": 10, "joint": 10, "dose": 10, "ledger": 10, "lens": 10,
    "why": 10, "why_text": 10, "why_compare": 10, "circuit": 10, "generate": 10, "dial": 10,
    "induction": 10, "heads": 10, "attribution": 10, "head_ablation": 10, "natural_repeats": 10, "neuron_on": 10,
    "neuron_sample": 10,
    "frequency_on": 4, "walk": 2, "check": 4, "calibration": 40, "sweep estimate": 10, "sweep": 10,
    "neurons": 2, "neuron": 2, "spectrum": 2, "nullspace": 2, "side": 2,
    "figures of a sweep": 1, "checkpoint": 4, "moment of training": 1,
}  # fmt: skip
# A page that asks several at once is charged for them together.
TOGETHER = {"prompt page": ("trace", "effects")}

ROWS = {"kind": "random", "rows": 1, "length": 6}
SMALL = {"shard_rows": 1, "length": 12, "bootstrap": 20, "sample_tokens": 16}
LIVE, SAMPLE, DRIVES = ({"HX-Request": "true", "HX-Target": f"section#{name}"} for name in ("live", "sample", "drives"))


@dataclass(frozen=True)
class Ask:
    """One request. In path and query `{sweep}` is a finished sweep, `{result}` a stored trace, `{none}` is nothing."""

    role: str
    method: str
    route: str
    values: dict[str, str] = field(default_factory=dict)
    asks: tuple[str, ...] = ()
    door: float = 1
    more: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.route} {self.values or ''} {self.more.get('params', '')}"

    @property
    def cost(self) -> float:
        return self.door + sum(PRICES[part] for name in self.asks for part in TOGETHER.get(name, (name,)))


def api(role: str, method: str, route: str, *asks: str, values: dict[str, str] | None = None, **more: Any) -> Ask:
    return Ask(role, method, API + route, {"key": MODEL, **(values or {})}, asks, more=more)


def at(role: str, method: str, route: str, *asks: str, door: float = 1, values: Any = None, **more: Any) -> Ask:
    """Parameters of the route that no value is given for name nothing."""
    return Ask(role, method, route, values or {}, asks, door, more)


PUBLIC = [
    at("public", "GET", "/healthz", door=0),
    at("public", "GET", "/readyz", door=0),
    at("public", "GET", "/login", door=0),
    at("public", "POST", "/login", door=0),
    at("public", "POST", "/logout", door=0),
]

QUESTIONS = [
    api("view", "POST", "/tokens", json={"text": TEXT}),
    api("run", "POST", "/trace", "trace", json={"text": TEXT}),
    api("run", "POST", "/effects", "effects", json={"text": TEXT}),
    api("run", "POST", "/heatmap", "heatmap", json={"text": TEXT}),
    api("run", "POST", "/heatmap", "heatmap", json={"text": TEXT}, headers={"accept": "application/x-ndjson"}),
    api("run", "POST", "/joint", "joint", json={"text": TEXT, "neurons": ["1.3"]}),
    api("run", "POST", "/dose", "dose", json={"text": TEXT, "neurons": ["1.3"]}),
    api("run", "POST", "/ledger", "ledger", json={"text": TEXT}),
    api("run", "POST", "/lens", "lens", json={"text": TEXT}),
    api("run", "POST", "/generate", "generate", json={"text": TEXT, "max_new_tokens": 2}),
    api("run", "POST", "/generate", "generate", json={"text": TEXT, "max_new_tokens": 2},
        headers={"accept": "application/x-ndjson"}),
    api("run", "POST", "/generate", "generate", json={"text": TEXT, "max_new_tokens": 2},
        headers={"accept": "text/event-stream"}),
    api("run", "POST", "/dial", "dial", json={"text": TEXT, "max_new_tokens": 2, "dials": ["1.3:scale=2"]}),
    api("run", "POST", "/dial/jobs", "dial", json={"text": TEXT, "max_new_tokens": 2, "dials": ["1.3:scale=2"]}),
    api("view", "GET", "/dial/jobs/{job_id}"),
    api("run", "POST", "/dial/jobs/{job_id}/cancel"),
    api("run", "POST", "/why", "why", json={"text": TEXT}),
    api("run", "POST", "/why", "why", json={"text": TEXT, "ablate": True}),
    api("run", "POST", "/why/text", "why_text", json={"text": TEXT}),
    api("run", "POST", "/why/compare", "why_compare", json={"text": TEXT, "position": 1, "other_position": 0}),
    api("run", "POST", "/circuit", "circuit", json={"text": TEXT, "component": "1.3"}),
    *(
        call
        for path, name, more in (("why", "why", {}), ("why/text", "why_text", {}),
                                 ("circuit", "circuit", {"component": "1.3"}))
        for call in (
            api("run", "POST", f"/{path}", name, json={"text": TEXT, **more},
                headers={"accept": "application/x-ndjson"}),
            api("run", "POST", f"/{path}/jobs", name, json={"text": TEXT, **more}),
            api("view", "GET", f"/{path}/jobs/{{job_id}}"),
            api("run", "POST", f"/{path}/jobs/{{job_id}}/cancel"),
        )
    ),
    api("run", "GET", "/check", "check"),
    api("view", "GET", "/neurons"),
    api("view", "GET", "/neurons/{neuron}", values={"neuron": "1.3"}),
    api("run", "POST", "/neurons/{neuron}", "neuron_on", values={"neuron": "1.3"}, json={"text": TEXT}),
    api("run", "GET", "/neurons/{neuron}/sample", "neuron_sample", values={"neuron": "1.3"}),
    api("view", "GET", "/spectrum"),
    api("view", "GET", "/neurons", "neurons", params={"k": "3"}),
    api("view", "GET", "/neurons/{neuron}", "neuron", values={"neuron": "1.3"}, params={"k": "3"}),
    api("view", "GET", "/spectrum", "spectrum", params={"k": "3"}),
    api("view", "GET", "/nullspace", "nullspace", params={"k": "3"}),
    at("view", "GET", "/api/v1/compare", "side", "checkpoint", params={"k": "3"}),
    api("run", "GET", "/story", "story"),
    api("view", "GET", "/nullspace"),
    api("view", "GET", "/frequency"),
    api("view", "GET", "/reproduce"),
    api("run", "POST", "/walk", "walk", json={"text": TEXT}),
    api("run", "POST", "/frequency", "frequency_on", json={"text": TEXT}),
    api("run", "POST", "/induction", "induction", json={**ROWS, "controls": 0}),
    api("run", "POST", "/heads", "heads", json={"rows": 1, "length": 6}),
    api("run", "POST", "/induction/attribution", "attribution", json={**ROWS, "neuron": "1.3"}),
    api("run", "POST", "/induction/ablation", "head_ablation", json={**ROWS, "heads": ["0.0"], "neurons": ["1.3"]}),
    api("run", "POST", "/induction/natural", "natural_repeats", json={}),
    api("run", "POST", "/induction/ablation/jobs", "head_ablation",
        json={**ROWS, "heads": ["0.0"], "neurons": ["1.3"]}),
    api("view", "GET", "/induction/ablation/jobs/{job_id}"),
    api("run", "POST", "/induction/ablation/jobs/{job_id}/cancel"),
    at("view", "GET", "/api/v1/compare", "checkpoint", "moment of training", "moment of training",
       params={"training": "true"}),
]  # fmt: skip

WITH_TEXT = {"text": TEXT}
PAGES = [
    at("run", "GET", "/", "prompt page", params=WITH_TEXT),
    at("run", "POST", "/", "prompt page", data=WITH_TEXT),
    at("view", "POST", "/", data={"text": ""}),
    at("view", "POST", "/count", data=WITH_TEXT),
    at("view", "POST", "/state", data={"act": "clear"}),
    at("run", "GET", "/effects", "trace", "heatmap", params={"panel": "heatmap", "text": "A dog"}),
    at("run", "GET", "/effects", "trace", "effects", "joint", params={"panel": "joint", **WITH_TEXT}),
    at("run", "POST", "/effects", "trace", "heatmap", data={"text": "Two dogs"}),
    at("run", "POST", "/effects", "trace", "effects", "joint", data={"panel": "joint", **WITH_TEXT}),
    at("run", "POST", "/effects", "trace", "effects", "dose", data={"panel": "dose", **WITH_TEXT}),
    at("run", "GET", "/effects", "trace", "effects", "dose", params={"panel": "dose", **WITH_TEXT}),
    at("run", "POST", "/effects", "trace", "ledger", data={"panel": "ledger", **WITH_TEXT}),
    at("run", "GET", "/effects", "trace", "lens", params={"panel": "lens", **WITH_TEXT}),
    at("run", "GET", "/effects", "trace", "ledger", params={"panel": "ledger", **WITH_TEXT}),
    at("run", "GET", "/why", "why", "trace", params=WITH_TEXT),
    # What the page has once computed for somebody is theirs: another token each time.
    at("run", "POST", "/why", "why", "trace", data={"pos": "0", **WITH_TEXT}),
    at("run", "POST", "/why", "why", "trace", "why_text",
       data={"along": "true", "ablate": "true", "pos": "1", **WITH_TEXT}),
    at("run", "POST", "/write", "generate", data={"n": "2", **WITH_TEXT}),
    at("run", "POST", "/write", "generate", data={"n": "2", **WITH_TEXT}, headers={"accept": "text/event-stream"}),
    at("run", "POST", "/write", "dial", data={"n": "2", "panel": "dial", "d1": "1.3", **WITH_TEXT}),
    at("run", "POST", "/write", "dial", data={"n": "2", "panel": "job", "d1": "1.3", **WITH_TEXT}),
    at("view", "GET", "/write/jobs/{job_id}"),
    at("view", "GET", "/write"),
    at("run", "POST", "/why", "why", "trace", "why_compare", data={"vs": "0", "pos": "2", **WITH_TEXT}),
    at("run", "POST", "/why", "why", "trace", "circuit",
       data={"follow": "1.3", "patch": "true", "pos": "3", **WITH_TEXT}),
    at("run", "POST", "/why", "why", "trace", "lens", data={"lens": "kl_final", "pos": "4", **WITH_TEXT}),
    at("run", "POST", "/why", "why", "trace", data={"job": "why", "ablate": "true", **WITH_TEXT}),
    at("view", "GET", "/why/runs/{name}"),
    at("view", "GET", "/why/jobs/{kind}/{job_id}", values={"kind": "circuit"}),
    at("view", "GET", "/effects/heatmap/{name}"),
    at("view", "GET", "/atlas"),
    at("view", "GET", "/atlas", "neurons", params={"k": "3"}),
    at("view", "GET", "/nullspace", "nullspace", params={"k": "3"}),
    at("view", "GET", "/m/{model}/n/{neuron}", "neuron", values={"model": MODEL, "neuron": "1.3"}, params={"k": "3"}),
    at("view", "GET", "/compare", "side", "checkpoint", params={"k": "3"}),
    at("view", "GET", "/m/{model}/atlas-progress", values={"model": MODEL}, params={"to": "/atlas"}),
    at("view", "GET", "/m/{model}/n/{neuron}", values={"model": MODEL, "neuron": "1.3"}),
    *(
        at("run", method, route, *asks, values={"model": MODEL, "neuron": neuron}, **more)
        # Another neuron at the second address: who asks for the sample again follows a run that is paid for.
        for route, neuron in (("/m/{model}/n/{neuron}", "1.3"), ("/atlas/{neuron}", "1.4"))
        for method, asks, more in (
            ("GET", ("neuron_on",), {"params": WITH_TEXT}),
            ("POST", ("neuron_on",), {"data": WITH_TEXT}),
            ("GET", ("neuron_on",), {"headers": LIVE}),
            ("GET", ("neuron_sample",), {"headers": SAMPLE}),
            ("POST", ("circuit",), {"data": {"at": "all", **WITH_TEXT}, "headers": DRIVES}),
            ("GET", ("neuron_on", "neuron_sample"), {"params": {"format": "json"}}),
        )
    ),
    at("view", "GET", "/atlas/{neuron}", values={"neuron": "1.3"}),
    at("view", "GET", "/nullspace"),
    at("run", "GET", "/nullspace", "walk", params=WITH_TEXT),
    at("run", "GET", "/nullspace", "walk", params={"direction": "0"}),
    at("run", "POST", "/nullspace", "walk", data=WITH_TEXT),
    at("view", "GET", "/frequency"),
    at("run", "GET", "/frequency", "frequency_on", params=WITH_TEXT),
    at("run", "GET", "/frequency", "frequency_on", params={"neuron": "1.3"}),
    at("run", "POST", "/frequency", "frequency_on", data=WITH_TEXT),
    at("view", "GET", "/compare", "checkpoint"),
    at("run", "GET", "/induction", "induction", params={**ROWS, "controls": "0"}),
    at("run", "POST", "/induction", "induction", data={**ROWS, "controls": "0"}),
    at("run", "GET", "/induction/{panel}", "heads", values={"panel": "heads"}),
    at("run", "POST", "/induction/{panel}", "heads", values={"panel": "heads"}),
    at("run", "POST", "/induction/{panel}", "attribution", values={"panel": "who"}, data={**ROWS, "who": "1.3"}),
    at("run", "POST", "/induction/{panel}", "head_ablation", values={"panel": "ablation"},
       data={**ROWS, "heads": "0.0", "who": "1.3"}),
    at("run", "POST", "/induction/{panel}", "natural_repeats", values={"panel": "natural"}),
    at("run", "POST", "/induction/ablation/start", "head_ablation", data={**ROWS, "heads": "0.0", "who": "1.3"}),
    at("view", "GET", "/induction/jobs/{job_id}"),
    at("run", "POST", "/induction/jobs/{job_id}/cancel"),
    at("run", "GET", "/selfcheck", "check"),
]  # fmt: skip

STORED = {"name": "{result}"}
LAB = [
    at("view", "GET", "/metrics", door=0),
    at("view", "GET", "/api/v1/openapi.json"),
    at("view", "GET", "/api/v1/models"),
    api("view", "GET", ""),
    at("view", "GET", "/models"),
    at("view", "GET", "/docs"),
    at("run", "GET", "/tour", "story"),
    at("view", "GET", "/docs/{name}", values={"name": "methods"}),
    at("admin", "POST", "/api/v1/models", json={"key": "none"}),
    api("admin", "DELETE", "", values={"key": "none"}),
    api("admin", "POST", "/reference", values={"key": "none"}, params={"name": "x.txt"}, content=b"x"),
    api("admin", "DELETE", "/reference"),
    at("admin", "POST", "/models/{key}/reference"),
    at("admin", "POST", "/models/load", data={"key": "none"}),
    at("admin", "POST", "/models/{key}/unload"),
    at("view", "GET", "/api/v1/results"),
    at("view", "GET", "/api/v1/results/{name}", values=STORED),
    at("view", "GET", "/r/{name}", values=STORED),
    at("view", "GET", "/r/{name}/notebook.ipynb", values=STORED),
    at("view", "GET", "/r/{name}/page.html", values=STORED),
    at("run", "DELETE", "/api/v1/results/{name}"),
    at("run", "POST", "/r/{name}"),
    at("run", "POST", "/r/{name}/delete"),
    at("run", "POST", "/r/{name}/caption"),
    at("run", "POST", "/share", "prompt page", data=WITH_TEXT),
    at("view", "GET", "/api/v1/notes"),
    at("run", "POST", "/api/v1/notes", json={"target": f"neuron:{MODEL}/1.3", "text": "seen"}),
    at("run", "PUT", "/api/v1/notes/{name}", json={"text": "seen"}),
    at("run", "DELETE", "/api/v1/notes/{name}"),
    at("view", "GET", "/api/v1/notes/{name}/history"),
    at("view", "GET", "/api/v1/lists"),
    at("run", "POST", "/api/v1/lists", json={"name": "mine", "model": MODEL}),
    at("view", "GET", "/api/v1/lists/{name}"),
    at("run", "PUT", "/api/v1/lists/{name}", json={"name": "mine"}),
    at("run", "DELETE", "/api/v1/lists/{name}"),
    at("view", "GET", "/api/v1/lists/{name}/history"),
    at("view", "GET", "/api/v1/pins"),
    at("run", "POST", "/api/v1/pins", json={"target": f"neuron:{MODEL}/1.3"}),
    at("run", "DELETE", "/api/v1/pins", params={"target": f"neuron:{MODEL}/1.3"}),
    at("view", "GET", "/api/v1/export"),
    at("admin", "POST", "/api/v1/import", json={}),
    at("view", "GET", "/lab"),
    at("view", "GET", "/lab/notes/{name}"),
    at("run", "POST", "/lab/notes", data={"target": f"{MODEL}/1.3", "text": "seen"}),
    at("run", "POST", "/lab/notes/{name}", data={"text": "seen"}),
    at("run", "POST", "/lab/notes/{name}/delete"),
    at("run", "POST", "/lab/lists", data={"name": "mine", "model": MODEL}),
    at("run", "POST", "/lab/lists/{name}", data={"title": "mine"}),
    at("run", "POST", "/lab/lists/{name}/delete"),
    at("run", "POST", "/lab/pins", data={"target": f"neuron:{MODEL}/1.3"}),
    at("run", "POST", "/lab/pins/delete", data={"target": f"neuron:{MODEL}/1.3"}),
    at("view", "GET", "/lab/export"),
    at("admin", "POST", "/lab/import"),
    at("view", "GET", "/api/v1/queue"),
    at("view", "GET", "/api/v1/jobs"),
    at("view", "GET", "/api/v1/jobs/{job_id}"),
    at("run", "POST", "/api/v1/jobs/{job_id}/cancel"),
    at("view", "GET", "/jobs"),
    at("run", "POST", "/jobs/{job_id}/cancel"),
]

FINISHED = {"sweep_id": "{sweep}"}
TWO = {"a": "{sweep}", "b": "{sweep}"}
FORM = {"rows": "1", "length": "12"}
SWEEPS = [
    at("view", "GET", "/api/v1/sweeps"),
    at("run", "POST", "/api/v1/sweeps", "sweep", json=SMALL),
    at("run", "POST", "/api/v1/sweeps/estimate", "sweep estimate", json=SMALL),
    at("view", "GET", "/api/v1/sweeps/compare", params=TWO),
    at("view", "GET", "/api/v1/sweeps/{sweep_id}", values=FINISHED),
    at("run", "POST", "/api/v1/sweeps/{sweep_id}/cancel"),
    at("run", "POST", "/api/v1/sweeps/{sweep_id}/resume"),
    at("run", "DELETE", "/api/v1/sweeps/{sweep_id}"),
    at("view", "GET", "/api/v1/sweeps/{sweep_id}/figures/{name}", "figures of a sweep",
       values={**FINISHED, "name": "1"}),
    at("view", "GET", "/api/v1/sweeps/{sweep_id}/neurons/{neuron}", values={**FINISHED, "neuron": "1.3"}),
    at("run", "GET", "/api/v1/sweeps/{sweep_id}/calibration", "calibration", values=FINISHED,
       params={"controls": "1", "rows": "1"}),
    at("view", "GET", "/api/v1/corpora"),
    at("run", "DELETE", "/api/v1/corpora/{text_id}"),
    at("run", "POST", "/api/v1/corpora", params={"name": "a.txt"}, content=b"The cat sat."),
    at("view", "GET", "/sweeps"),
    at("run", "POST", "/sweeps/text", files={"file": ("a.txt", b"The cat sat.")}),
    at("run", "POST", "/sweeps/texts/{text_id}/delete"),
    at("run", "POST", "/sweeps/estimate", "sweep estimate", data=FORM),
    at("run", "POST", "/sweeps", "sweep", data=FORM),
    at("view", "GET", "/sweeps/compare", params=TWO),
    at("view", "GET", "/sweeps/{sweep_id}", "figures of a sweep", values=FINISHED),
    at("run", "POST", "/sweeps/{sweep_id}/cancel"),
    at("run", "POST", "/sweeps/{sweep_id}/resume"),
    at("run", "POST", "/sweeps/{sweep_id}/share", values=FINISHED),
    at("run", "POST", "/sweeps/{sweep_id}/delete"),
    at("view", "GET", "/sweeps/{sweep_id}/figures", "figures of a sweep", values=FINISHED),
    at("view", "GET", "/sweeps/{sweep_id}/figures/{name}", "figures of a sweep", values={**FINISHED, "name": "1"}),
    at("view", "GET", "/sweeps/{sweep_id}/neurons/{neuron}", values={**FINISHED, "neuron": "1.3"}),
    at("run", "GET", "/sweeps/{sweep_id}/calibration", "calibration", values=FINISHED,
       params={"controls": "1", "rows": "1"}),
]  # fmt: skip

TABLE = [*PUBLIC, *QUESTIONS, *PAGES, *LAB, *SWEEPS]
