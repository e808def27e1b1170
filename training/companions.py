"""What the pages need beside the weights: `python -m training.companions --run RUN --model models/demo`.

* reference_means.safetensors: mean activation of every neuron over sample.jsonl, the baseline of mean ablation;
* checkpoints/NNN.safetensors: the run after NNN percent of its tokens (100 is the model itself): every layer's MLP output weights,
  the unembedding and the final norm, in float16, under GPT-2's names and layout. With them a page shows when neurons appear.
"""

import json
from pathlib import Path

import click
import torch
from safetensors.torch import load_file, save_file

from analysis import model as models
from analysis import reference, registry
from training.export import gpt2_weights, latest_snapshot

PERCENTS = (0, 5, 10, 25, 50)
KEPT = ("mlp.c_proj.weight", "lm_head.weight", "ln_f.weight", "ln_f.bias")


def sample_texts(folder: Path) -> list[str]:
    """The documents of sample.jsonl, in order."""
    return [json.loads(line)["text"] for line in (folder / "sample.jsonl").read_text(encoding="utf-8").splitlines()]


def save_means(folder: Path) -> None:
    model = models.load(registry.folder_spec(folder, prepend_bos=True))
    rows = reference.rows_of(model, sample_texts(folder))
    *_, last = reference.compute(model, rows, source="sample.jsonl")
    assert last.result is not None
    reference.save(last.result, folder / "reference_means.safetensors")


def save_checkpoints(run: Path, folder: Path) -> None:
    """The snapshots nearest to each of PERCENTS."""
    folder.mkdir(exist_ok=True)
    total = int(latest_snapshot(run).stem)
    snapshots = sorted((run / "snapshots").glob("*.safetensors"))
    for percent in PERCENTS:
        nearest = min(snapshots, key=lambda path: abs(int(path.stem) - total * percent / 100))
        kept = {name: value for name, value in gpt2_weights(load_file(nearest)).items() if name.endswith(KEPT)}
        save_file(kept, folder / f"{percent:03d}.safetensors", metadata={"tokens": str(int(nearest.stem))})


@click.command()
@click.option("--run", type=click.Path(path_type=Path, exists=True), default=Path("training/runs/demo"))
@click.option("--model", "folder", type=click.Path(path_type=Path, exists=True), default=Path("models/demo"))
def main(run: Path, folder: Path) -> None:
    """Write the reference means and the checkpoints."""
    torch.set_num_threads(1)
    save_means(folder)
    save_checkpoints(run, folder / "checkpoints")


if __name__ == "__main__":
    main()
