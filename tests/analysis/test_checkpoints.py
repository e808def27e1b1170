"""A checkpoint file gives the numbers of the model whose weights it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from analysis import checkpoints, nullspace
from analysis.model import Model
from analysis.types import InputError
from analysis.weights import Vocabulary
from tests import tiny
from tests.tolerance import close


def test_a_checkpoint_is_measured_as_the_model_itself(tiny_model: Callable[..., Model], tmp_path: Path) -> None:
    model, hf = tiny_model("gpt2"), tiny.hf_model("gpt2")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    tensors = {f"W_out.{layer}": model.W_out(layer).contiguous() for layer in range(2)}
    tensors |= {"W_U": hf.lm_head.weight.detach().T.contiguous()}
    tensors |= {f"ln_final.{kind}": getattr(hf.transformer.ln_f, kind).detach() for kind in ("weight", "bias")}
    save_file(tensors, folder / "1200.safetensors", metadata={"eps": "1e-5", "norm": "LN"})
    (folder / "notes.safetensors").write_bytes(b"")

    assert list(checkpoints.files(tmp_path)) == [1200]
    found = checkpoints.read(folder / "1200.safetensors", known=torch.arange(tiny.N_TOKENS), k=5)
    spectrum = nullspace.spectrum(model.readout)
    terms = tiny.D_VOCAB + tiny.D_MODEL
    close(found.spectrum.S, spectrum.S, terms)
    vocabulary = Vocabulary.of(model.readout)
    for layer in range(2):
        rows = model.write_rows(layer)
        close(found.norm[layer], rows.norm(dim=1), tiny.D_MODEL)
        # A null space turns by the rounding of the spectrum over the gap that bounds it (Davis and Kahan).
        gap = float(spectrum.S[-6] - spectrum.S[-5])
        close(found.rho[layer], nullspace.rho(rows, spectrum.basis(5)), terms, scale=float(spectrum.S[0]) / gap)
        unit = rows / rows.norm(dim=1, keepdim=True)
        close(found.logit_var[layer], vocabulary.logit_var(unit), terms, scale=1)


def test_other_files_are_refused(tmp_path: Path) -> None:
    assert checkpoints.files(None) == {}
    path = tmp_path / "7.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="no checkpoint"):
        checkpoints.read(path, known=torch.arange(10))
    save_file({"W_U": torch.zeros(2, 3)}, path)
    with pytest.raises(InputError, match="no checkpoint"):
        checkpoints.read(path, known=torch.arange(3))
