"""The neuron atlas: every weight statistic of every MLP neuron, in one table that is computed once and kept.

`compute` is a generator: each step is short, so a resident model can answer others in between, and it says how far
it is. What depends on k (rho, the labels) is not in the table: it follows from the spectrum in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from analysis import code, labels, nullspace, weights
from analysis.files import replaced
from analysis.frequency import Unigram
from analysis.labels import Evidence, Label, Thresholds
from analysis.model import Model
from analysis.nullspace import Spectrum
from analysis.readout import Readout
from analysis.types import InputError
from analysis.weights import Vocabulary

__all__ = [
    "Atlas",
    "Controls",
    "Evidence",
    "NeuronTable",
    "Progress",
    "code_version",
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
    v_score: Float[Tensor, "n_layers d_mlp"]
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
    """Random directions with the norms of the last layer's neurons, measured as neurons are: what chance gives. Behind
    a norm after the MLP they are drawn before its gain, as the neurons write."""

    rows: Float[Tensor, "n d_model"]
    norm: Float[Tensor, " n"]
    logit_var: Float[Tensor, " n"]
    skew: Float[Tensor, " n"]
    kurtosis: Float[Tensor, " n"]
    frequency_alignment: Float[Tensor, " n"]

    @property
    def largest_alignment(self) -> float:
        return _largest(self.frequency_alignment)

    def largest_rho(self, basis: Float[Tensor, "d_model k"]) -> float:
        return _largest(nullspace.rho(self.rows, basis))


def _largest(values: Float[Tensor, " n"]) -> float:
    """Absolute; NaN where one is unknown."""
    return float(values.abs().max()) if not bool(values.isnan().any()) else float("nan")


@dataclass(frozen=True, slots=True)
class Atlas:
    """The table of a model with its spectra (centred over the vocabulary and not) and its controls.

    weights_sha256: of the weights that all of it was computed from.
    """

    table: NeuronTable
    spectrum: Spectrum
    uncentred: Spectrum
    controls: Controls
    weights_sha256: str

    def labels(
        self,
        layer: int,
        rows: Float[Tensor, "d_mlp d_model"],
        *,
        k: int,
        thresholds: Thresholds | None = None,
        evidence: Mapping[int, Evidence] | None = None,
    ) -> tuple[Label, ...]:
        """The labels of one layer, whose write rows these are. k: the null space in use; the rules read rho of that or
        of 1 % of d_model, whichever is larger."""
        basis = self.spectrum.basis(self.label_k(k))
        rho = nullspace.rho(rows, basis).cpu()
        return self.labels_by(layer, rho, k=k, thresholds=thresholds, evidence=evidence)

    def label_k(self, k: int) -> int:
        """The dimension of the null space that the rules read where ``k`` is in use."""
        return max(k, self.spectrum.k_share)

    def labels_by(
        self,
        layer: int,
        rho: Float[Tensor, " d_mlp"],
        *,
        k: int,
        thresholds: Thresholds | None = None,
        evidence: Mapping[int, Evidence] | None = None,
    ) -> tuple[Label, ...]:
        """The same where the weights are not at hand. rho: of the layer's neurons, for `label_k`."""
        t, spectrum, controls = self.table, self.spectrum, self.controls
        k = self.label_k(k)
        basis = spectrum.basis(k)
        chance = nullspace.chance(spectrum.d_model, k, t.d_mlp, trivial=spectrum.trivial).maximum
        columns = labels.Columns(
            t.norm[layer],
            t.logit_var[layer],
            t.skew[layer],
            t.kurtosis[layer],
            rho,
            t.frequency_alignment[layer],
            max(chance, controls.largest_rho(basis)),
            controls.largest_alignment,
            float(controls.logit_var.min()),
            _largest(controls.skew),
            float(controls.kurtosis.max()),
            k,
        )
        return labels.assign(columns, thresholds=thresholds, evidence=evidence)


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps done of steps to do, and what they are at; ``result`` comes with the last one."""

    done: int
    total: int
    stage: str
    result: Atlas | None = None


def compute(model: Model, unigram: Unigram | None = None, *, layers: Sequence[int] | None = None) -> Iterator[Progress]:
    """The atlas of a model, a short step at a time, under inference mode. Streams over ``W_U``. layers: the only ones
    that its table has; None: all."""
    wanted = range(model.n_layers) if layers is None else layers
    readout = model.readout
    widths = (
        (nullspace.block_width(readout.d_model), readout.d_vocab),
        (weights.vocabulary_width(readout.d_model), readout.n_tokens),
    )
    chunks = list(weights.steps(model.d_mlp, weights.neurons_per_step(readout)))
    total = sum(-(-n // width) for width, n in widths) + 2 + len(wanted) * len(chunks)
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
        centred = nullspace.decompose(R, readout)
        uncentred = (
            nullspace.decompose(nullspace.uncentred_triangle(R, readout), readout) if readout.vocab_centred else centred
        )
        controls = _controls(readout, vocabulary, model.write_rows(model.last_layer))
    done += 1
    yield Progress(done, total, "random controls")
    made: list[dict[str, Tensor]] = []
    for layer in wanted:
        parts = []
        for chunk in chunks:
            with torch.inference_mode():
                parts.append(_columns(model, layer, chunk, vocabulary))
            done += 1
            if done < total:
                yield Progress(done, total, f"neurons of layer {layer}")
        made.append({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    table = NeuronTable(**{name: torch.stack([layer[name] for layer in made]) for name in made[0]})
    yield Progress(total, total, "done", Atlas(table, centred, uncentred, controls, model.weights_sha256))


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
        "v_score": vocabulary.v_score(unit),
        "frequency_alignment": vocabulary.alignment(rows),
        **{field.name: getattr(moments, field.name) for field in fields(moments)},
        **{field.name: getattr(shape, field.name) for field in fields(shape)},
    }
    kept = {name: values for name, values in found.items() if values is not None}
    return {
        name: values.cpu() if values.dtype == torch.int64 else values.double().cpu() for name, values in kept.items()
    }


def _controls(
    readout: Readout, vocabulary: Vocabulary, rows: Float[Tensor, "d_mlp d_model"], *, seed: int = 0
) -> Controls:
    norms = rows[:CONTROLS].double().norm(dim=1)
    made = nullspace.random_rows(norms, readout.d_model, centred=readout.centred, seed=seed).to(rows.device)
    if readout.post_norm is not None:
        made = readout.centre(made * readout.post_norm.gain.double())
        made = made / made.norm(dim=1, keepdim=True) * norms[:, None]
    unit = made / made.norm(dim=1, keepdim=True)
    every = range(0, len(made), 512)
    shapes = [weights.moments(made[start : start + 512].to(readout.W_U), vocabulary) for start in every]
    return Controls(
        made.float().cpu(),
        norms.cpu(),
        vocabulary.logit_var(unit).cpu(),
        torch.cat([each.skew for each in shapes]).cpu(),
        torch.cat([each.kurtosis for each in shapes]).cpu(),
        vocabulary.alignment(made).cpu(),
    )


# keeping it


def code_version() -> str:
    """A hash of the code that the numbers come from."""
    return code.version("analysis.atlas")


def save(atlas: Atlas, path: Path) -> None:
    """A reader sees the whole file or none."""
    tensors = {f"table.{name}": values for name, values in _present(atlas.table).items()}
    tensors |= {f"controls.{name}": values for name, values in _present(atlas.controls).items()}
    metadata = {"weights_sha256": atlas.weights_sha256}
    for name in ("spectrum", "uncentred"):
        spectrum: Spectrum = getattr(atlas, name)
        tensors |= {f"{name}.U": spectrum.U, f"{name}.S": spectrum.S}
        metadata[name] = (
            f"{-1 if spectrum.knee is None else spectrum.knee} {int(spectrum.trivial)} {spectrum.resolution!r}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Clones: safetensors refuses tensors that share memory, as the two spectra do where the logits are capped.
    with replaced(path) as temporary:
        save_file({name: values.contiguous().clone() for name, values in tensors.items()}, temporary, metadata=metadata)


def load(path: Path) -> Atlas:
    """Read what `save` wrote; InputError when the file is something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Clones, in memory of their own: the file may be written over or removed.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118, not a mapping
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
            metadata["weights_sha256"],
        )
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(f"{path.name} holds no atlas: {error}", code="bad_atlas") from error


def _spectrum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str) -> Spectrum:
    knee, trivial, resolution = metadata[name].split()
    found = None if int(knee) < 0 else int(knee)
    return Spectrum(tensors[f"{name}.U"], tensors[f"{name}.S"], found, trivial == "1", float(resolution))


def _present(columns: NeuronTable | Controls) -> dict[str, Tensor]:
    found = {field.name: getattr(columns, field.name) for field in fields(columns)}
    return {name: values for name, values in found.items() if values is not None}
