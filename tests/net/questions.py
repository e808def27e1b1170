"""What the net asks: every path of the API, every command and every page's JSON, with small fixed inputs.

An entry names itself, so that a changed answer is found in the recording by its name. `{key}` is the model's key.
Whether every path and command of the program has an entry is a test (`test_net.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TEXT = "It was the best of times, it was the worst of times"
REPEATED = "the cat sat on a mat and the dog sat on a log"
HEADS = {"demo": "1.0", "tiny-gpt2": "0.1", "tiny-llama": "0.1"}
LAST = {"demo": 3, "tiny-gpt2": 1, "tiny-llama": 1}


@dataclass(frozen=True)
class Call:
    """One request. `path` below the root; `template` is its path in the OpenAPI document."""

    name: str
    method: str
    path: str
    template: str
    body: Any = None
    params: dict[str, Any] = field(default_factory=dict)


def _post(name: str, key: str, question: str, template: str | None = None, **body: Any) -> Call:
    path = f"/api/v1/models/{key}/{question}"
    return Call(f"{key} {name}", "POST", path, f"/api/v1/models/{{key}}/{template or question}", body)


def _get(name: str, key: str, question: str, template: str | None = None, **params: Any) -> Call:
    path = f"/api/v1/models/{key}/{question}"
    return Call(f"{key} {name}", "GET", path, f"/api/v1/models/{{key}}/{template or question}", params=params)


def of_model(key: str) -> list[Call]:
    """Every question about one model."""
    last, head = LAST[key], HEADS[key]
    neuron, other, early = f"{last}.3", f"{last}.17", f"{last - 1}.5"
    prompt = {"text": TEXT if key == "demo" else "The cat sat, then left."}
    few = {"rows": 2, "length": 8, "seed": 1}
    do = [{"neuron": neuron, "mode": "zero"}, {"neuron": early, "mode": "scale", "value": 2.0, "positions": [2, 3]}]
    do_head = [{"head": head, "mode": "bos", "positions": {"start": 1, "stop": 4}}]
    clip = [{"neuron": other, "mode": "clip", "max": 0.1}]
    zeros = 7 if key == "demo" else 0  # what was built into it as exactly null, which no k may part
    parts = ("total", "direct", "ln_mediated", "ln_only", "frequency_mediated")
    return [
        Call(f"{key} model", "GET", f"/api/v1/models/{key}", "/api/v1/models/{key}"),
        _get("check", key, "check"),
        _post("tokens", key, "tokens", **prompt),
        _post("trace", key, "trace", **prompt, neurons=[neuron, early], top_k=3),
        _post("trace intervened", key, "trace", **prompt, interventions=do, top_k=2),
        _post("trace head", key, "trace", **prompt, interventions=do_head, top_k=1),
        _post("trace clip", key, "trace", **prompt, interventions=clip, top_k=1, ln_scale="median"),
        _post("trace ids", key, "trace", token_ids=[5, 9, 12, 7], prepend_bos=True, top_k=1),
        _post("effects", key, "effects", **prompt, limit=6),
        _post("effects zero", key, "effects", **prompt, baseline="zero", position=3, sort="d_loss.ln_mediated"),
        _post("effects prompt_mean", key, "effects", **prompt, baseline="prompt_mean", neurons=[neuron, other]),
        _post("effects number", key, "effects", **prompt, baseline=0.25, order="asc", limit=3, ln_scale=2.0),
        _post("effects bounds", key, "effects", **prompt, sort="temperature_share", order="desc", limit=3,
              **{"min_d_entropy.total": 0.0}),
        *(_post(f"heatmap {part}", key, "heatmap", **prompt, part=part, limit=3) for part in parts),
        _post("heatmap kl", key, "heatmap", **prompt, metric="kl", limit=2, sort="mean_abs"),
        _post("joint", key, "joint", **prompt, neurons=[neuron, other]),
        _post("dose", key, "dose", **prompt, neurons=[neuron], steps=5),
        _post("ledger", key, "ledger", **prompt, limit=4),
        _post("lens", key, "lens", **prompt, top_k=2),
        _post("lens block", key, "lens", **prompt, scale="frozen", of="block", top_k=1),
        _post("generate", key, "generate", **prompt, max_new_tokens=6, top_neurons=2, neurons=[early], alternatives=2),
        _post("generate drawn", key, "generate", **prompt, max_new_tokens=6, temperature=0.8, top_k=40,
              top_p=0.9, seed=5, interventions=do[:1], apply_to="new", alternatives=1),
        _post("dial", key, "dial", **prompt, dials=[f"{neuron},{other}:scale=3", f"{early}:value=1"], max_new_tokens=4,
              seeds=2, twins=False),  # what a search finds depends on the last digits: tests/analysis/test_dial.py
        _post("dial alone", key, "dial", **prompt, dials=[{"neurons": [neuron], "value": -2.0}], max_new_tokens=4,
              temperature=0.0, twins=False),
        _post("ledger k", key, "ledger", **prompt, limit=2, position=2, k=zeros + 3),
        _post("why", key, "why", **prompt, neurons=2),
        _post("why loss", key, "why", **prompt, target="loss", baseline="prompt", position=3, neurons=1, ablate=True),
        _post("why token", key, "why", **prompt, target={"token_id": 3}, neurons=0),
        _post("why text", key, "why/text", **prompt, limit=2),
        _post("why compare", key, "why/compare", **prompt, position=3, other_position=1, neurons=0),
        _post("circuit", key, "circuit", **prompt, component=neuron, width=3, most=4, check=True),
        _post("circuit average", key, "circuit", **prompt, component=neuron, most=4, average=True, check=True),
        _post("circuit share", key, "circuit", **prompt, component=f"L{head.replace('.', 'H')}", of="entropy",
              position=3, baseline="prompt", hops=2, width=2),
        _get("neurons", key, "neurons", limit=6),
        _get("neurons norm", key, "neurons", sort="norm", layer=last, limit=3, min_rho=0.0),
        _get("neuron", key, f"neurons/{neuron}", "neurons/{neuron}"),
        _get("neuron k", key, f"neurons/{early}", "neurons/{neuron}", k=zeros + 4),
        _post("neuron live", key, f"neurons/{neuron}", "neurons/{neuron}", **prompt),
        _post("neuron early live", key, f"neurons/{early}", "neurons/{neuron}", **prompt),
        _get("neuron sample", key, f"neurons/{neuron}/sample", "neurons/{neuron}/sample"),
        _get("story", key, "story"),
        _get("spectrum", key, "spectrum"),
        _get("spectrum raw", key, "spectrum", k=zeros + 5, vocab_centred=False),
        _get("nullspace", key, "nullspace"),
        _get("nullspace early", key, "nullspace", layer=0, k=zeros + 4),
        _get("spectrum parted", key, "spectrum", k=2),
        _post("walk", key, "walk", **prompt),
        _post("walk direction", key, "walk", **prompt, direction=2, reach=1.5, vocab_centred=False),
        _get("frequency", key, "frequency"),
        _post("frequency prompt", key, "frequency", **prompt),
        _post("frequency neuron", key, "frequency", **prompt, neuron=neuron),
        _get("reproduce", key, "reproduce"),
        _post("induction", key, "induction", **few, neurons=[early], clip=[neuron], controls=2, limit=4),
        _post("induction text", key, "induction", kind="text", text=REPEATED[:20], limit=2, controls=0),
        _post("induction random", key, "induction", kind="random", **few, corrupt=2, limit=2, controls=0),
        _post("heads", key, "heads", rows=2, length=8, pattern=head),
        _post("attribution", key, "induction/attribution", **few, neuron=neuron),
        _post("ablation", key, "induction/ablation", **few, heads=[head], neurons=[neuron], queries=3, random=1),
        _post("natural", key, "induction/natural", text=f"{REPEATED} {REPEATED}"[:44], clip=[neuron]),
        # refusals are answers too
        _post("trace empty", key, "trace", text=""),
        _post("effects early", key, "effects", **prompt, neurons=[early]),
        _post("effects far", key, "effects", **prompt, position=900),
        _post("joint unknown", key, "joint", **prompt, neurons=[f"{last}.99999"]),
        _get("neuron unknown", key, "neurons/99.1", "neurons/{neuron}"),
    ]  # fmt: skip


SWEEP = "bundled-demo"


def of_server(sweep: str) -> list[Call]:
    """Questions about the server, its models together, and the finished sweep that ships with the bundled one."""

    def get(name: str, path: str, template: str | None = None, **params: Any) -> Call:
        return Call(name, "GET", f"/api/v1{path}", f"/api/v1{template or path}", params=params)

    one, figures = "/sweeps/{sweep_id}", ("1", "2a", "2b", "2c", "2d", "2e", "2f", "3a", "3b", "3c", "4a", "4b", "4c")
    return [
        get("models", "/models"),
        get("compare", "/compare", a="demo", b="tiny-gpt2"),
        get("compare training", "/compare", a="demo", b="tiny-llama", training="true"),
        get("sweeps", "/sweeps"),
        get("sweep", f"/sweeps/{sweep}", one, limit=4),
        get("sweep sorted", f"/sweeps/{sweep}", one, sort="ln_fraction", limit=3, **{"min_total.abs_loss": 0.001}),
        get("sweep neuron", f"/sweeps/{sweep}/neurons/3.62", one + "/neurons/{neuron}"),
        get("sweep calibration", f"/sweeps/{sweep}/calibration", one + "/calibration", rows=2, controls=1, top=2),
        get("sweep compare", "/sweeps/compare", a=sweep, b=sweep, limit=3),
        *(
            get(f"figure {name}", f"/sweeps/{sweep}/figures/{name}", one + "/figures/{name}")
            for name in (*figures, "6", "7", "8")
        ),
        Call("sweep estimate", "POST", "/api/v1/sweeps/estimate", "/api/v1/sweeps/estimate",
             {"model": "tiny-gpt2", "neurons": ["1.3"], "rows": 2}),
        get("notes", "/notes"),
        get("lists", "/lists"),
        get("pins", "/pins"),
        get("queue", "/queue"),
        get("jobs", "/jobs"),
    ]  # fmt: skip


def pages(sweep: str) -> list[Call]:
    """The JSON of every page (the lab's and the jobs' say what was done before: tests/app)."""

    def page(path: str, **params: Any) -> Call:
        query = "&".join(f"{name}={value}" for name, value in params.items())
        return Call(f"page {path}?{query}", "GET", path, path, params={**params, "format": "json"})

    return [
        page("/", text=TEXT, pos=4, do="3.62:zero", watch="3.62"),
        page("/", example="entropy-neuron"),
        page("/atlas", limit=3),
        page("/atlas/3.62", text="It was the best"),
        page("/nullspace", direction=3),
        page("/frequency", neuron="3.62", text="It was the best"),
        page("/compare", a="demo", b="tiny-gpt2"),
        *(page("/effects", text="It was the best", panel=name) for name in ("heatmap", "joint", "dose", "ledger")),
        page("/why", text="It was the best", along="true"),
        page("/sweeps"),
        page(f"/sweeps/{sweep}", limit=3),
        page(f"/sweeps/{sweep}/figures", group="entropy"),
        page(f"/sweeps/{sweep}/neurons/3.62"),
        page("/induction", rows=2, length=8, seed=1),
        page("/models"),
        page("/selfcheck"),
    ]


# Commands that ask a running server, as they are typed; --url is added. Others, with the reason.
COMMANDS: dict[str, list[str]] = {
    "models": ["models"],
    "trace": ["trace", TEXT, "--neuron", "3.62", "-i", "3.62:scale=2@2-4", "-i", "L1H0:bos"],
    "effects": ["effects", TEXT, "--position", "4", "--limit", "4"],
    "heatmap": ["heatmap", "It was the best", "--limit", "3"],
    "joint": ["joint", TEXT, "-n", "3.62", "-n", "3.97"],
    "dose": ["dose", TEXT, "-n", "3.62", "--steps", "4"],
    "ledger": ["ledger", TEXT],
    "lens": ["lens", "It was the best"],
    "generate": ["generate", "It was the best", "--max-new-tokens", "5", "-n", "3.62", "--top-neurons", "1"],
    "dial": ["dial", "It was the best", "--dial", "3.62:scale=3", "--max-new-tokens", "5", "--no-twins"],
    "why": ["why", "It was the best", "--position", "3", "--neurons", "2", "--ablate"],
    "why-text": ["why-text", "It was the best", "--limit", "2"],
    "why-compare": ["why-compare", "It was the best", "--position", "3", "--other-position", "1", "--neurons", "0"],
    "circuit": ["circuit", "It was the best", "--component", "3.62", "--hops", "2", "--width", "2", "--check"],
    "induction": ["induction", "--rows", "2", "--length", "8", "--limit", "3", "--clip", "3.62", "--controls", "2"],
    "induction heads": ["induction", "--heads", "--rows", "2", "--length", "8", "--pattern", "1.0"],
    "induction who": ["induction", "--who", "3.62", "--rows", "2", "--length", "8"],
    "induction ablate": ["induction", "--ablate", "1.0", "-n", "3.62", "--rows", "2", "--length", "8"],
    "induction natural": ["induction", f"{REPEATED} {REPEATED}", "--natural-repeats"],
    "neurons": ["neurons", "--limit", "4"],
    "neuron": ["neuron", "3.62"],
    "neuron live": ["neuron", "3.62", "It was the best"],
    "neuron sample": ["neuron", "3.62", "--sample"],
    "story": ["story"],
    "spectrum": ["spectrum"],
    "nullspace": ["nullspace"],
    "walk": ["walk", "It was the best"],
    "frequency": ["frequency"],
    "frequency text": ["frequency", "It was the best"],
    "compare": ["compare", "demo", "tiny-gpt2"],
    "check": ["check"],
}  # fmt: skip
# What is left out of the net, and where it is tested instead.
LEFT_OUT = {
    "serve": "starts a server (tests/app/test_cli.py)",
    "get": "writes a folder (tests/app/test_gguf.py)",
    "count": "writes a file (tests/app/test_cli.py)",
    "reproduce": "needs published weights (tests/app/test_published.py)",
    "sweep": "works on folders (tests/app/test_sweep_cli.py)",
    "examples": "recomputes what the suite recomputes (tests/demo)",
    "users": "writes keys (tests/app/test_access.py)",
    "texts": "uploads of this data folder (tests/app/test_storage.py)",
    "backup": "copies a database (tests/app/test_ops.py)",
    "restore": "replaces a database (tests/app/test_ops.py)",
    "doctor": "speaks of this machine (tests/app/test_ops.py)",
}
CHANGES = "changes the server's state (tests/app)"
LEFT_OUT_PATHS = {
    "/healthz": "no number",
    "/readyz": "no number",
    "/metrics": "counts of this process",
    "POST /api/v1/models": CHANGES,
    "DELETE /api/v1/models/{key}": CHANGES,
    "POST /api/v1/models/{key}/reference": CHANGES,
    "DELETE /api/v1/models/{key}/reference": CHANGES,
    **{
        f"{method} /api/v1/models/{{key}}/{path}/jobs{end}": CHANGES
        for path in ("dial", "induction/ablation", "why", "why/text", "circuit")
        for method, end in (("POST", ""), ("GET", "/{job_id}"), ("POST", "/{job_id}/cancel"))
    },
}
# Whole families whose calls write: notes, lists, pins, jobs, results, uploads, exports.
WRITING = ("/notes", "/lists", "/pins", "/jobs", "/results", "/corpora", "/export", "/import")
