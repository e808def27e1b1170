"""Write a run's weights as a Hugging Face GPT-2 folder: `python -m training.export --run RUN --to models/demo`.

The tensors keep GPT-2's own names and its Conv1D layout (inputs first), so every tool that loads GPT-2 loads this
folder.
"""

import json
import shutil
from pathlib import Path

import click
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.model import Shape
from training.recipe import Recipe
from training.tokenizer import END

BLOCK_NAMES = {
    "ln_1": "ln_1", "ln_2": "ln_2", "qkv": "attn.c_attn", "attn_out": "attn.c_proj",
    "mlp_in": "mlp.c_fc", "mlp_out": "mlp.c_proj",
}  # fmt: skip


def gpt2_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our parameter names and layout turned into GPT-2's; `nn.Linear` weights [out, in] become Conv1D's [in, out]."""
    weights = {}
    for name, value in state.items():
        if name.startswith("blocks."):
            _, layer, part, kind = name.split(".")
            conv = kind == "weight" and not part.startswith("ln")
            weights[f"transformer.h.{layer}.{BLOCK_NAMES[part]}.{kind}"] = (value.T if conv else value).contiguous()
        elif name == "unembed":
            weights["lm_head.weight"] = value
        else:
            weights[f"transformer.{name}"] = value
    return weights


def gpt2_config(shape: Shape) -> dict[str, object]:
    """config.json; dropout acts in training only, so it is not part of the exported model."""
    return {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
        "dtype": "float16",
        "vocab_size": shape.d_vocab, "n_positions": shape.n_ctx, "n_embd": shape.d_model, "n_inner": shape.d_mlp,
        "n_layer": shape.n_layers, "n_head": shape.n_heads, "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": shape.tied,
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0,
        "use_cache": True,
    }  # fmt: skip


TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END, "unk_token": END,
    "model_max_length": 1_000_000_000, "clean_up_tokenization_spaces": False,
}  # fmt: skip


def latest_snapshot(run: Path) -> Path:
    return max((run / "snapshots").glob("*.safetensors"))


def export(weights: Path, run: Path, folder: Path) -> None:
    """A complete model folder from one snapshot of a run and the run's tokenizer and counts."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.to(torch.float16) for name, value in gpt2_weights(load_file(weights)).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    generation = {"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 0}
    documents = {
        "config.json": gpt2_config(Recipe.of(run).shape),
        "tokenizer_config.json": TOKENIZER_CONFIG,
        "generation_config.json": generation,
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=2) + "\n")
    for name in ("tokenizer.json", "unigrams.npy"):
        shutil.copyfile(run / name, folder / name)


@click.command()
@click.option("--run", type=click.Path(path_type=Path, exists=True), default=Path("training/runs/demo"))
@click.option(
    "--snapshot", type=click.Path(path_type=Path, exists=True), help="Weights to export; default: the run's latest."
)
@click.option("--to", "folder", type=click.Path(path_type=Path), default=Path("models/demo"))
def main(run: Path, snapshot: Path | None, folder: Path) -> None:
    """Write the model folder."""
    weights = snapshot or latest_snapshot(run)
    export(weights, run, folder)
    click.echo(f"{weights.name} -> {folder}, {(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
