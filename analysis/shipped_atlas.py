"""The atlas of a model as it ships without the weights: what `analysis.atlas` computed of every layer, some megabytes.

    write(path, model, atlas, counts)        # once, beside the weights
    found = read(path)                       # anywhere: columns, spectrum, labels' inputs, the tokens' texts
    found.atlas                              # an `Atlas` to six digits: float32 columns

Two things need the weights and are not here: rho for another k than the two that are stored, and the spectrum that is
not centred over the vocabulary (`whole` adds it where the readout is). The random controls are drawn again from their
norms. All of it is of one set of weights and counts, which it names by their hashes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis import nullspace
from analysis.atlas import Atlas, Controls, NeuronTable, code_version
from analysis.files import atomic_file
from analysis.frequency import Unigram
from analysis.model import Model
from analysis.nullspace import Spectrum
from analysis.readout import Readout
from analysis.types import InputError, UnsupportedModelError

FILE = "atlas.npz"
FORMAT = 1


@dataclass(frozen=True)
class ShippedAtlas:
    """What a file holds. rho: by k, (n_layers, d_mlp). token_texts: by id. facts: what its numbers go back to: model,
    weights_sha256, counts_sha256, unigram, dequantized, dtype, code_version, versions, folding, d_vocab."""

    atlas: Atlas
    rho: Mapping[int, Float[Tensor, "n_layers d_mlp"]]
    token_texts: Sequence[str]
    facts: Mapping[str, Any]

    def of(self, model: Model, counts_sha256: str | None) -> bool:
        """Whether these are the numbers of a loaded model."""
        wanted = (model.weights_sha256, counts_sha256)
        return (self.facts["weights_sha256"], self.facts["counts_sha256"]) == wanted

    def whole(self, readout: Readout) -> Atlas:
        """The atlas with its spectrum that is not centred over the vocabulary, beside the weights."""
        if not readout.vocab_centred:
            return self.atlas
        spectrum = self.atlas.spectrum
        R = nullspace.uncentred_triangle((spectrum.U * spectrum.S).T, readout)
        return replace(self.atlas, uncentred=nullspace.decompose(R, readout))


def write(path: Path, model: Model, atlas: Atlas, counts: Unigram | None, versions: Mapping[str, str]) -> None:
    """The file of a model's atlas. UnsupportedModelError behind a norm after the MLP, whose controls cannot be drawn
    again from their norms."""
    if model.readout.post_norm is not None:
        raise UnsupportedModelError(f"The controls of {model.key} depend on its weights; nothing is shipped of them.")
    spectrum, readout = atlas.spectrum, model.readout
    arrays: dict[str, np.ndarray] = {"spectrum.U": _narrow(spectrum.U), "spectrum.S": spectrum.S.numpy()}
    for group, columns in (("table", atlas.table), ("controls", atlas.controls)):
        for field in fields(columns):
            values = getattr(columns, field.name)
            if values is not None and field.name != "rows":
                arrays[f"{group}.{field.name}"] = _narrow(values)
    for k in sorted({spectrum.k, spectrum.k_share}):
        basis = spectrum.basis(k)
        rows = [nullspace.rho(model.write_rows(layer), basis).cpu() for layer in range(model.n_layers)]
        arrays[f"rho.{k}"] = _narrow(torch.stack(rows))
    texts = model.token_texts(range(model.d_vocab))
    facts = {
        "format": FORMAT,
        "model": model.key,
        "weights_sha256": atlas.weights_sha256,
        "counts_sha256": None if counts is None else counts.sha256,
        "unigram": None if counts is None else counts.source,
        "dequantized": model.spec.dequantized,
        "dtype": str(model.dtype).removeprefix("torch."),
        "code_version": code_version(),
        "versions": dict(versions),
        "folding": {
            "centred": readout.centred,
            "vocab_centred": readout.vocab_centred,
            "post_norm": False,
            "soft_cap": readout.soft_cap is not None,
        },
        "d_vocab": model.d_vocab,
        "knee": spectrum.knee,
        "resolution": spectrum.resolution,
    }
    for name, value in (("texts", list(texts)), ("facts", facts)):
        arrays[name] = np.frombuffer(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _narrow(values: Tensor) -> np.ndarray:
    """Ids in as few bytes as hold them, numbers in float32."""
    if values.dtype != torch.int64:
        return values.float().cpu().numpy()
    small = int(values.max()) < 1 << 16
    return values.cpu().numpy().astype(np.uint16 if small else np.int32)


def read(path: Path) -> ShippedAtlas:
    """What `write` wrote (never pickled); InputError when the file is something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        texts, facts = (json.loads(arrays.pop(name).tobytes().decode("utf-8", "surrogatepass")) for name in _NOTES)
        if facts["format"] != FORMAT:
            raise InputError(f"{path.name} is of another version of this program.", code="bad_atlas")
        wide = {name: _wide(values) for name, values in arrays.items()}
        spectrum = Spectrum(
            wide["spectrum.U"], wide["spectrum.S"], facts["knee"], facts["folding"]["centred"], facts["resolution"]
        )
        controls = {name.partition(".")[2]: values for name, values in wide.items() if name.startswith("controls.")}
        drawn = nullspace.random_rows(controls["norm"], spectrum.d_model, centred=spectrum.trivial).float()
        table = {name.partition(".")[2]: values for name, values in wide.items() if name.startswith("table.")}
        atlas = Atlas(
            NeuronTable(**table), spectrum, spectrum, Controls(rows=drawn, **controls), facts["weights_sha256"]
        )
        rho = {int(name.partition(".")[2]): values for name, values in wide.items() if name.startswith("rho.")}
        return ShippedAtlas(atlas, rho, texts, facts)
    except (OSError, KeyError, TypeError, ValueError, BadZipFile) as error:
        raise InputError(f"{path.name} holds no atlas: {error}", code="bad_atlas") from error


_NOTES = ("texts", "facts")


def _wide(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64 if values.dtype.kind in "iu" else np.float64))
