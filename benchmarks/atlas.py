"""The atlas of a model of GPT-2 Small's size: all of its 36,864 neurons, then the page, its table and the API once
cached."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from starlette.testclient import TestClient
from transformers import GPT2Config, GPT2LMHeadModel

from analysis import atlas
from analysis.atlas import Atlas, Controls, NeuronTable
from analysis.model import Model, from_objects
from analysis.nullspace import Spectrum
from analysis.registry import ModelSpec
from app.main import create_app
from app.residency.host import ModelHost
from app.settings import Settings
from benchmarks.measure import DEMO, finish, seconds, table

PATHS = {
    "page, last layer": "/atlas",
    "page, all neurons": "/atlas?layer=all",
    "page, all neurons, k never asked for": "/atlas?layer=all&k={k}",
    "table fragment, sorted": "/atlas?layer=all&sort=kurtosis",
    "API, 50 rows of all": "/api/v1/models/demo/neurons",
    "one neuron": "/m/demo/n/11.5",
}


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


def gpt2_small(spec: ModelSpec) -> Model:
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(attn_implementation="eager")).eval()
    tokenizer = AutoTokenizer.from_pretrained(DEMO, local_files_only=True)
    return from_objects(spec, model, _Wide(tokenizer, model.config.vocab_size), weights_sha256="0" * 64)


def computing(model: Model) -> dict[str, float]:
    """Wall-clock and processor seconds of the whole table, and the longest step that others have to wait for."""
    longest = 0.0
    wall, busy = time.perf_counter(), time.process_time()
    last = wall
    for _ in atlas.compute(model):
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - busy, "longest_step_s": longest}


def serving() -> dict[str, float]:
    """Milliseconds of processor time of each page once the table is cached."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            data_dir=Path(folder), models=("demo",), device="cpu", effects_backend="eager", effects_bytes=1 << 24
        )
        host = ModelHost(settings, loader=lambda spec, **_: gpt2_small(spec))
        app = create_app(settings, host=host)
        with TestClient(app) as client:
            host.wait("demo")
            model = host.entry("demo").replicas[0][1].model
            unigram = host.entry("demo").replicas[0][1].unigram
            atlas.save(made_up(model), Path(folder) / "atlas" / f"{atlas.cache_key(model, unigram)}.safetensors")
            app.state.atlases.job("demo").future.result()
            return {name: 1e3 * _ask(client, path) for name, path in PATHS.items()}


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
    return Atlas(found, spectrum, spectrum, Controls(rows, norms, norms / 1000, norms / norms.max()))


def _ask(client: TestClient, path: str) -> float:
    ks = iter(range(20, 40))
    headers = {"HX-Request": "true", "HX-Target": "section#neurons"} if "sort" in path else {}

    def run() -> None:
        response = client.get(path.format(k=next(ks)), headers=headers)
        assert response.status_code == 200, response.text[:200]

    return seconds(run, repeats=4, clock=time.process_time)


def main() -> None:
    torch.set_num_threads(2)
    pages = serving()
    made = computing(gpt2_small(ModelSpec("random")))
    table("The table, once a model", ["seconds", ""], [[name, value] for name, value in made.items()])
    table("Once cached", ["", "ms"], [[name, value] for name, value in pages.items()])
    finish("atlas", {"computing": made, "pages_ms": pages})


if __name__ == "__main__":
    main()
