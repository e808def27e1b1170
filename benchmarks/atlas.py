"""The atlas at the size of GPT-2 Small: all of its 36,864 neurons, then the pages once cached; memory at larger sizes.

python -m benchmarks.atlas           GPT-2 Small whole, one layer of GPT-2 XL's size, the pages
python -m benchmarks.atlas --one 7b  some neurons of a 7B model's size alone (minutes; 4 GB)
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from starlette.testclient import TestClient
from transformers import GPT2Config, GPT2LMHeadModel

from analysis import atlas, loading
from analysis.atlas import Atlas, Controls, NeuronTable
from analysis.model import Model, from_objects
from analysis.nullspace import Spectrum
from analysis.registry import ModelSpec
from app.core.residency.atlas import file_of
from app.core.residency.host import HOUSE, ModelHost
from app.core.residency.resident import Resident
from app.core.settings import Settings
from app.main import create_app
from benchmarks.measure import DEMO, finish, seconds, table
from benchmarks.memory import held

PATHS = {
    "page, last layer": "/atlas",
    "page, all neurons": "/atlas?layer=all",
    "page, all neurons, k never asked for": "/atlas?layer=all&k={k}",
    "table fragment, sorted": "/atlas?layer=all&sort=kurtosis",
    "API, 50 rows of all": "/api/v1/models/demo/neurons",
    "one neuron": "/m/demo/n/11.5",
}
SIZES: dict[str, dict[str, int]] = {
    "small": {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257},
    "xl": {"n_layer": 1, "n_embd": 1600, "n_head": 25, "vocab_size": 50257},
    "7b": {"n_layer": 1, "n_embd": 4096, "n_head": 32, "vocab_size": 32000, "n_inner": 1024},
}
NAMES = {"small": "GPT-2 Small, all layers", "xl": "GPT-2 XL, one layer of 48", "7b": "7B, 1,024 neurons"}


class _Wide:
    """A tokenizer that says it knows as many tokens as GPT-2's."""

    def __init__(self, tokenizer: Any, n: int) -> None:
        self._tokenizer, self._n = tokenizer, n

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._tokenizer(*args, **options)

    def __len__(self) -> int:
        return self._n


def random_model(size: str, spec: ModelSpec) -> Model:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(attn_implementation="eager", n_positions=64, **SIZES[size])).eval()
    tokenizer = loading.tokenizer(DEMO, DEMO.name)
    return from_objects(spec, model, _Wide(tokenizer, model.config.vocab_size), weights_sha256="0" * 64)


def computing(size: str) -> dict[str, Any]:
    """Wall-clock and processor seconds of the whole table, the longest step that others wait for, and the memory that
    it takes beside the model."""
    model = random_model(size, ModelSpec("random"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before, longest = held("VmRSS"), 0.0
    wall, busy = time.perf_counter(), time.process_time()
    last = wall
    for _ in atlas.compute(model):
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return {
        "size": size,
        "neurons": model.n_layers * model.d_mlp,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - busy,
        "longest_step_s": longest,
        "peak_bytes": held("VmHWM") - before,
        "admitted_bytes": atlas.working_bytes(model),
    }


def apart(size: str) -> dict[str, Any]:
    """`computing` in a process of its own: a peak never comes down."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.atlas", "--one", size], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def serving() -> dict[str, float]:
    """Milliseconds of processor time of each page once the table is cached."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text("A few words are enough for the means. " * 20)
        settings = Settings(
            data_dir=Path(folder),
            models=("demo",),
            device="cpu",
            effects_backend="eager",
            effects_bytes=1 << 24,
            reference_text=text,
            reference_tokens=64,
        )
        host = ModelHost(settings, loader=lambda spec, **_: random_model("small", spec))
        app = create_app(settings, host=host)
        with TestClient(app) as client:
            host.wait("demo")
            host.submit("demo", _keep_made_up, settings.data_dir, who=HOUSE, kind="atlas").result()
            app.state.atlases.job("demo").future.result()
            while client.get("/api/v1/models").json()["models"][0]["mean"] != "ready":
                time.sleep(0.2)  # else the processor time of the means is counted too
            return {name: 1e3 * _ask(client, path) for name, path in PATHS.items()}


def _keep_made_up(resident: Resident, data_dir: Path) -> None:
    atlas.save(made_up(resident.model), file_of(resident, data_dir))


def made_up(model: Model) -> Atlas:
    """A table of the right shape: how fast pages are does not depend on what stands in it."""
    g = torch.Generator().manual_seed(0)

    def column(*shape: int) -> torch.Tensor:
        return torch.rand(model.n_layers, model.d_mlp, *shape, generator=g, dtype=torch.float64) + 0.1

    names = ("norm", "norm_in", "cost", "cos_in_out", "logit_var", "skew", "kurtosis", "frequency_alignment")
    tokens = {name: (1000 * column(5)).long() for name in ("raised", "lowered")}
    by = {name: column(5) for name in ("raised_by", "lowered_by")}
    found = NeuronTable(**{name: column() for name in names}, **tokens, **by)
    d = model.d_model
    U = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    spectrum = Spectrum(U, torch.linspace(100, 0, d, dtype=torch.float64), d - 13, True)
    rows = torch.randn(model.d_mlp, d, generator=g)
    norms = rows.norm(dim=1).double()
    return Atlas(found, spectrum, spectrum, Controls(rows, norms, norms / 1000, norms / norms.max()), "made up")


def _ask(client: TestClient, path: str) -> float:
    ks = iter(range(20, 40))
    headers = {"HX-Request": "true", "HX-Target": "section#neurons"} if "sort" in path else {}

    def run() -> None:
        response = client.get(path.format(k=next(ks)), headers=headers)
        assert response.status_code == 200, response.text[:200]

    return seconds(run, repeats=4, clock=time.process_time)


def main() -> None:
    torch.set_num_threads(2)
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(computing(sys.argv[2])))
        return
    sizes = sys.argv[1:] or ["small", "xl"]
    pages = {} if sys.argv[1:] else serving()
    made = [apart(size) for size in sizes]
    header = [
        "random weights of",
        "neurons",
        "seconds",
        "of processor",
        "longest step, s",
        "peak, MiB",
        "admitted, MiB",
    ]
    rows = [
        [
            NAMES[one["size"]],
            one["neurons"],
            one["wall_s"],
            one["cpu_s"],
            one["longest_step_s"],
            one["peak_bytes"] >> 20,
            one["admitted_bytes"] >> 20,
        ]
        for one in made
    ]
    table("The table, once a model, two cores; memory beside the model", header, rows)
    if pages:
        table("Once cached, 36,864 neurons", ["", "ms of processor"], [[name, value] for name, value in pages.items()])
    finish("atlas", {"computing": made, "pages_ms": pages})


if __name__ == "__main__":
    main()
