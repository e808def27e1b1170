"""The neuron atlas: every weight statistic of every MLP neuron, in one table that is computed once and kept.

`compute` is a generator: each step is short, so a resident model can answer others in between, and it says how far
it is. What depends on k (rho, the labels) is not in the table: it follows from the spectrum in milliseconds.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from analysis import labels, nullspace, weights
from analysis.frequency import Unigram
from analysis.labels import Evidence, Label, Thresholds
from analysis.model import Model
from analysis.nullspace import Spectrum
from analysis.readout import Readout
from analysis.weights import Vocabulary

__all__ = [
    "Atlas",
    "Controls",
    "Evidence",
    "NeuronTable",
    "Progress",
    "cache_key",
    "compute",
    "load",
    "save",
    "working_bytes",
]

Step = TypeVar("Step")

CONTROLS = 4096
"""Random directions at most that stand beside a layer."""


@dataclass(frozen=True, slots=True)
class NeuronTable:
    """Columns (n_layers, d_mlp), float64, on the CPU; definitions in `analysis.weights`. NaN where undefined.

    raised, lowered: the tokens whose logits a neuron's activation moves most, with the logits per unit of activation.
    norm_gate, cos_gate_in, cos_gate_out: None where the MLP is not gated.
    """

    norm: Float[Tensor, "n_layers d_mlp"]
    norm_in: Float[Tensor, "n_layers d_mlp"]
    cost: Float[Tensor, "n_layers d_mlp"]
    cos_in_out: Float[Tensor, "n_layers d_mlp"]
    logit_var: Float[Tensor, "n_layers d_mlp"]
    skew: Float[Tensor, "n_layers d_mlp"]
    kurtosis: Float[Tensor, "n_layers d_mlp"]
    frequency_alignment: Float[Tensor, "n_layers d_mlp"]
    raised: Int[Tensor, "n_layers d_mlp tokens"]
    raised_by: Float[Tensor, "n_layers d_mlp tokens"]
    lowered: Int[Tensor, "n_layers d_mlp tokens"]
    lowered_by: Float[Tensor, "n_layers d_mlp tokens"]
    norm_gate: Float[Tensor, "n_layers d_mlp"] | None = None
    cos_gate_in: Float[Tensor, "n_layers d_mlp"] | None = None
    cos_gate_out: Float[Tensor, "n_layers d_mlp"] | None = None

    @property
    def n_layers(self) -> int:
        return self.norm.shape[0]

    @property
    def d_mlp(self) -> int:
        return self.norm.shape[1]


@dataclass(frozen=True, slots=True)
class Controls:
    """Random directions with the norms of the last layer's neurons, measured as neurons are: what chance gives."""

    rows: Float[Tensor, "n d_model"]
    norm: Float[Tensor, " n"]
    logit_var: Float[Tensor, " n"]
    frequency_alignment: Float[Tensor, " n"]

    @property
    def largest_alignment(self) -> float:
        known = self.frequency_alignment.abs()
        return float(known.max()) if not bool(known.isnan().any()) else float("nan")


@dataclass(frozen=True, slots=True)
class Atlas:
    """The table of a model with its spectra (centred over the vocabulary and not) and its controls."""

    table: NeuronTable
    spectrum: Spectrum
    uncentred: Spectrum
    controls: Controls

    def labels(
        self,
        layer: int,
        rho: Float[Tensor, " d_mlp"],
        chance: float,
        *,
        thresholds: Thresholds | None = None,
        evidence: Mapping[int, Evidence] | None = None,
    ) -> tuple[Label, ...]:
        """The labels of one layer, for the rho and the chance maximum of the k in use."""
        t = self.table
        columns = labels.Columns(
            t.norm[layer],
            t.logit_var[layer],
            t.skew[layer],
            t.kurtosis[layer],
            rho.double().cpu(),
            t.frequency_alignment[layer],
            chance,
            self.controls.largest_alignment,
        )
        return labels.assign(columns, thresholds=thresholds, evidence=evidence)


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps done of steps to do, and what they are at; ``result`` comes with the last one."""

    done: int
    total: int
    stage: str
    result: Atlas | None = None


def compute(model: Model, unigram: Unigram | None = None) -> Iterator[Progress]:
    """The atlas of a model, a short step at a time, under inference mode. Streams over ``W_U``."""
    readout = model.readout
    widths = (
        (max(2 * readout.d_model, 512), readout.d_vocab),
        (weights.vocabulary_width(readout.d_model), readout.n_tokens),
    )
    chunks = list(weights.steps(model.d_mlp, weights.neurons_per_step(readout)))
    total = sum(-(-n // width) for width, n in widths) + 2 + model.n_layers * len(chunks)
    done, R, vocabulary = 0, None, None
    for R in _inferred(nullspace.triangle(readout.W_U)):  # noqa: B007, the last one is used
        done += 1
        yield Progress(done, total, "spectrum of W_U")
    for vocabulary in _inferred(Vocabulary.steps(readout, unigram)):  # noqa: B007, likewise
        done += 1
        yield Progress(done, total, "second moments of W_U")
    assert R is not None
    assert vocabulary is not None
    with torch.inference_mode():
        centred = nullspace.decompose(R, trivial=readout.centred)
        uncentred = (
            nullspace.decompose(nullspace.uncentred_triangle(R, readout), trivial=readout.centred)
            if readout.vocab_centred
            else centred
        )
        controls = _controls(readout, vocabulary, model.write_rows(model.last_layer))
    done += 1
    yield Progress(done, total, "random controls")
    layers: list[dict[str, Tensor]] = []
    for layer in range(model.n_layers):
        parts = []
        for chunk in chunks:
            with torch.inference_mode():
                parts.append(_columns(model, layer, chunk, vocabulary))
            done += 1
            if done < total:
                yield Progress(done, total, f"neurons of layer {layer}")
        layers.append({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    table = NeuronTable(**{name: torch.stack([layer[name] for layer in layers]) for name in layers[0]})
    yield Progress(total, total, "done", Atlas(table, centred, uncentred, controls))


def working_bytes(model: Model) -> int:
    """What `compute` takes beside the model, at most: a dozen d_model² in float64 (the triangle, its SVD), the random
    controls, the rows of a layer, the table itself twice."""
    d, m = model.d_model, model.d_mlp
    table = 2 * 8 * model.n_layers * m * (len(fields(NeuronTable)) + 4 * weights.EXTREMES)
    return 8 * (16 * d * d + 5 * CONTROLS * d) + 3 * 8 * m * d + table + (64 << 20)


def _inferred(steps: Iterator[Step]) -> Iterator[Step]:
    """Each step under inference mode, but not what the caller does between them."""
    while True:
        with torch.inference_mode():
            try:
                made = next(steps)
            except StopIteration:
                return
        yield made


def _columns(model: Model, layer: int, chunk: slice, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """Every column of some neurons of one layer, on the CPU."""
    rows = model.write_rows(layer, chunk)
    norm = rows.double().norm(dim=1)
    unit = torch.where(norm[:, None] > 0, rows.double() / norm[:, None], 0)
    moments = weights.moments(rows, vocabulary)
    shape = weights.shape(model, layer, chunk)
    found: dict[str, Tensor | None] = {
        "norm": norm,
        "logit_var": vocabulary.logit_var(unit),
        "frequency_alignment": vocabulary.alignment(rows),
        **{field.name: getattr(moments, field.name) for field in fields(moments)},
        **{field.name: getattr(shape, field.name) for field in fields(shape)},
    }
    kept = {name: values for name, values in found.items() if values is not None}
    return {
        name: values.cpu() if values.dtype == torch.int64 else values.double().cpu() for name, values in kept.items()
    }


def _controls(readout: Readout, vocabulary: Vocabulary, rows: Float[Tensor, "d_mlp d_model"]) -> Controls:
    norms = rows[:CONTROLS].double().norm(dim=1)
    made = nullspace.random_rows(norms, readout.d_model, centred=readout.centred).to(rows.device)
    unit = made / made.norm(dim=1, keepdim=True)
    return Controls(made.float().cpu(), norms.cpu(), vocabulary.logit_var(unit).cpu(), vocabulary.alignment(made).cpu())


# keeping it


@cache
def code_version() -> str:
    """A hash of the code that the numbers come from."""
    folder = Path(__file__).parent
    names = ("atlas", "nullspace", "readout", "weights")
    return hashlib.sha256(b"".join((folder / f"{name}.py").read_bytes() for name in names)).hexdigest()[:12]


def cache_key(model: Model, unigram: Unigram | None) -> str:
    """What the table depends on: weights, dtype, token counts, code."""
    counts = "none" if unigram is None else hashlib.sha256(unigram.counts.cpu().numpy().tobytes()).hexdigest()[:12]
    dtype = str(model.dtype).removeprefix("torch.")
    return f"{model.weights_sha256[:32]}-{dtype}-{counts}-{code_version()}"


def save(atlas: Atlas, path: Path) -> None:
    """Write to a temporary name and rename: a reader sees the whole file or none."""
    tensors = {f"table.{name}": values for name, values in _present(atlas.table).items()}
    tensors |= {f"controls.{name}": values for name, values in _present(atlas.controls).items()}
    metadata = {}
    for name in ("spectrum", "uncentred"):
        spectrum: Spectrum = getattr(atlas, name)
        tensors |= {f"{name}.U": spectrum.U, f"{name}.S": spectrum.S}
        metadata[name] = f"{-1 if spectrum.knee is None else spectrum.knee} {int(spectrum.trivial)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    # Clones: safetensors refuses tensors that share memory, as the two spectra do where the logits are capped.
    save_file({name: values.contiguous().clone() for name, values in tensors.items()}, temporary, metadata=metadata)
    os.replace(temporary, path)


def load(path: Path) -> Atlas | None:
    """Read what `save` wrote; None when there is nothing that can be read, so that it is computed again."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
        groups: dict[str, dict[str, Tensor]] = {"table": {}, "controls": {}}
        for name, values in tensors.items():
            group, _, column = name.partition(".")
            if group in groups:
                groups[group][column] = values
        return Atlas(
            NeuronTable(**groups["table"]),
            _spectrum(tensors, metadata, "spectrum"),
            _spectrum(tensors, metadata, "uncentred"),
            Controls(**groups["controls"]),
        )
    except (OSError, KeyError, TypeError, ValueError, SafetensorError):
        return None


def _spectrum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str) -> Spectrum:
    knee, trivial = map(int, metadata[name].split())
    return Spectrum(tensors[f"{name}.U"], tensors[f"{name}.S"], None if knee < 0 else knee, bool(trivial))


def _present(columns: NeuronTable | Controls) -> dict[str, Tensor]:
    found = {field.name: getattr(columns, field.name) for field in fields(columns)}
    return {name: values for name, values in found.items() if values is not None}
