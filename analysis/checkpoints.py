"""The last weights of a model at moments of its training: when do its confidence neurons appear?

A file ``checkpoints/TOKENS.safetensors`` beside a model holds what the atlas needs and no more: ``W_U`` (d_model,
d_vocab), ``W_out.LAYER`` (d_mlp, d_model), ``ln_final.weight`` and ``ln_final.bias``, raw, with ``tokens``, ``eps``
and ``norm`` in the metadata.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from analysis import nullspace
from analysis.metrics import wide
from analysis.nullspace import Spectrum
from analysis.readout import Readout, fold
from analysis.types import InputError
from analysis.weights import Vocabulary


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Columns of a model's neurons at one moment; float64. k: dimension of the null space that rho was taken for."""

    tokens: int
    spectrum: Spectrum
    k: int
    norm: Float[Tensor, "n_layers d_mlp"]
    logit_var: Float[Tensor, "n_layers d_mlp"]
    rho: Float[Tensor, "n_layers d_mlp"]


def files(folder: Path | None) -> dict[int, Path]:
    """The checkpoints beside a model, by their number of training tokens, in order."""
    found = [] if folder is None else (folder / "checkpoints").glob("*.safetensors")
    return dict(sorted((int(path.stem), path) for path in found if re.fullmatch("[0-9]{1,15}", path.stem)))


def snapshot(
    tokens: int, readout: Readout, write_rows: list[Float[Tensor, "d_mlp d_model"]], k: int | None = None
) -> Snapshot:
    """Measure write rows against a readout; ``k`` None takes the knee's."""
    spectrum, vocabulary = nullspace.spectrum(readout), Vocabulary.of(readout)
    chosen = spectrum.chosen(k)
    rows = [row.double() for row in write_rows]
    norms = [row.norm(dim=1) for row in rows]
    units = [row / norm[:, None] for row, norm in zip(rows, norms, strict=True)]
    return Snapshot(
        tokens,
        spectrum,
        chosen,
        torch.stack(norms).cpu(),
        torch.stack([vocabulary.logit_var(unit) for unit in units]).cpu(),
        torch.stack([nullspace.rho(row, spectrum.basis(chosen)) for row in rows]).cpu(),
    )


def read(path: Path, *, known: Int[Tensor, " n_tokens"], k: int | None = None) -> Snapshot:
    """A checkpoint file measured; InputError when it is something else. known: ids of the tokenizer."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: wide(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118, not a mapping
        layers = sorted(int(name.partition(".")[2]) for name in tensors if name.startswith("W_out."))
        layer_norm = metadata.get("norm", "LN") == "LN"
        readout = fold(
            W_U=tensors["W_U"],
            b_U=None,
            W_out=tensors[f"W_out.{layers[-1]}"],
            gain=tensors["ln_final.weight"],
            bias=tensors.get("ln_final.bias"),
            eps=float(metadata.get("eps", "1e-5")),
            layer_norm=layer_norm,
            known=known[known < tensors["W_U"].shape[1]],
        )
        rows = [readout.centre(tensors[f"W_out.{layer}"]) for layer in layers]
    except (OSError, KeyError, IndexError, ValueError, SafetensorError) as error:
        raise InputError(f"{path.name} is no checkpoint: {error}", code="bad_checkpoint") from error
    return snapshot(int(path.stem), readout, rows, k)


def read_at(path: Path, *, known: Int[Tensor, " n_tokens"], k: int) -> Snapshot:
    """`read` for the k of another moment; rho is NaN where that parts equal singular values of this one."""
    try:
        return read(path, known=known, k=k)
    except InputError as error:
        if error.code != "k_parts_equal_values":
            raise
        found = read(path, known=known)
        return replace(found, rho=torch.full_like(found.rho, torch.nan))
