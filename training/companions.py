"""What the pages need beside the weights: `python -m training.companions --run RUN --model models/demo`.

* reference_means.safetensors: mean activation of every neuron over sample.jsonl, the baseline of mean ablation;
* checkpoints/TOKENS.safetensors: the run after so many training tokens (about 0, 5, 10, 25 and 50 percent; 100 is the
model itself):
  W_U [d_model, d_vocab], W_out.LAYER [d_mlp, d_model] and the final norm, raw and in float16. With them a page shows
  when neurons appear.
"""

import json
from pathlib import Path

import click
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from analysis import model as models
from analysis import reference, registry
from app.core.residency import means
from app.core.settings import Settings
from training.export import gpt2_weights, latest_snapshot
from training.recipe import Recipe

PERCENTS = (0, 5, 10, 25, 50)


def sample_texts(folder: Path) -> list[str]:
    """The documents of sample.jsonl, in order."""
    return [json.loads(line)["text"] for line in (folder / "sample.jsonl").read_text(encoding="utf-8").splitlines()]


def save_means(model: models.Model, sample: Path, folder: Path) -> None:
    """Over the rows that a server takes, so that its numbers are the same whether it finds the file or not."""
    rows = means.rows(Settings(), model, sample)
    *_, last = reference.compute(model, rows, source=sample.name)
    assert last.result is not None
    reference.save(last.result, folder / means.BESIDE_MODEL)


def slim(weights: dict[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """What a checkpoint keeps of GPT-2's tensors, under the names of the field."""
    kept = {f"W_out.{layer}": weights[f"transformer.h.{layer}.mlp.c_proj.weight"] for layer in range(n_layers)}
    kept["W_U"] = weights["lm_head.weight"].T
    kept |= {f"ln_final.{kind}": weights[f"transformer.ln_f.{kind}"] for kind in ("weight", "bias")}
    return {name: value.half().contiguous() for name, value in kept.items()}


def save_checkpoints(run: Path, folder: Path) -> None:
    """The snapshots nearest to each of PERCENTS, in place of those of another run."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.safetensors"):
        old.unlink()
    recipe = Recipe.of(run)
    snapshots = sorted((run / "snapshots").glob("*.safetensors"))
    for percent in PERCENTS:
        wanted = int(latest_snapshot(run).stem) * percent / 100
        nearest = min(snapshots, key=lambda path: abs(int(path.stem) - wanted))
        tokens = int(nearest.stem)
        metadata = {"tokens": tokens, "step": tokens // recipe.tokens_a_step, "eps": "1e-5", "norm": "LN"}
        save_file(
            slim(gpt2_weights(load_file(nearest)), recipe.shape.n_layers),
            folder / f"{tokens}.safetensors",
            metadata={name: str(value) for name, value in metadata.items()},
        )


@click.command()
@click.option("--run", type=click.Path(path_type=Path, exists=True), default=Path("training/runs/demo"))
@click.option("--model", "folder", type=click.Path(path_type=Path, exists=True), default=Path("models/demo"))
def main(run: Path, folder: Path) -> None:
    """Write the reference means and the checkpoints."""
    torch.set_num_threads(1)
    save_means(models.load(registry.folder_spec(folder, prepend_bos=True)), folder / "sample.jsonl", folder)
    save_checkpoints(run, folder / "checkpoints")


if __name__ == "__main__":
    main()
