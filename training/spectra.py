"""The unembedding's spectrum with and without dropout: `python -m training.spectra` writes dropout_spectrum.npy, .json.

Two runs of one recipe, one with dropout, are compared after the same number of tokens: the latest that both have a
snapshot of. Row 0 without, row 1 with dropout: singular values of the folded and centred W_U, largest first, float64.
"""

import json
import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from jaxtyping import Float64

from analysis import model as models
from analysis import nullspace, registry
from training.export import export


def spectra(without: Path, dropped: Path) -> tuple[Float64[np.ndarray, "2 d_model"], int]:
    """Both spectra, and after how many tokens. ValueError where no snapshot is common."""
    common = {path.name for path in (without / "snapshots").glob("*.safetensors")}
    common &= {path.name for path in (dropped / "snapshots").glob("*.safetensors")}
    if not common:
        raise ValueError(f"{without} and {dropped} have no snapshot after the same number of tokens.")
    name, found = max(common), []
    for run in (without, dropped):
        with tempfile.TemporaryDirectory() as folder:
            export(run / "snapshots" / name, run, Path(folder))
            model = models.load(registry.folder_spec(Path(folder), prepend_bos=True))
        found.append(nullspace.spectrum(model.readout).S.double().numpy())
    return np.stack(found), int(Path(name).stem)


@click.command()
@click.option("--run", type=click.Path(path_type=Path, exists=True), default=Path("training/runs/demo"))
@click.option("--dropped", type=click.Path(path_type=Path, exists=True), default=Path("training/runs/demo-dropout"))
@click.option("--model", "folder", type=click.Path(path_type=Path, exists=True), default=Path("models/demo"))
def main(run: Path, dropped: Path, folder: Path) -> None:
    """Write both spectra beside the model."""
    torch.set_num_threads(1)
    found, tokens = spectra(run, dropped)
    np.save(folder / "dropout_spectrum.npy", found)
    (folder / "dropout_spectrum.json").write_text(json.dumps({"tokens": tokens, "dropout": 0.1}) + "\n")
    open_ = found[:, found.min(0) > 1e-6 * found.max()]  # the slots and the direction of the centring left out
    largest, smallest = open_[:, 0].round(2).tolist(), open_[:, -3:].round(2).tolist()
    click.echo(f"after {tokens:,} tokens, without and with dropout: largest {largest}, smallest {smallest}")


if __name__ == "__main__":
    main()
