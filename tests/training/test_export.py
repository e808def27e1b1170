"""The exported folder is a GPT-2 folder: transformers' own GPT-2 gives our logits, and the program's loader accepts
it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis import model as models
from analysis import registry
from tests.tolerance import SENSITIVITY, close, near
from training.export import export
from training.model import GPT, Shape
from training.recipe import Recipe
from training.spectra import spectra
from training.texts import write_whole
from training.tokenizer import train_tokenizer

SHAPE = Shape(d_vocab=300, n_ctx=24, n_layers=2, n_heads=2, d_model=16, d_mlp=40, slots=3, dropout=0.1)


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def exported(request: pytest.FixtureRequest, run_folder: Path, tmp_path: Path) -> tuple[GPT, Path]:
    torch.manual_seed(0)
    shape = replace(SHAPE, tied=request.param)
    ours = GPT(shape).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours.close_slots()
    state = {name: value.half() for name, value in ours.state_dict().items()}
    ours.load_state_dict(state)
    save_file(state, tmp_path / "weights.safetensors")
    tokenizer = train_tokenizer(iter(["one two three two three three"] * 3), SHAPE.d_vocab)
    write_whole(run_folder / "tokenizer.json", tokenizer.to_str().encode())
    Recipe(shape=shape).save(run_folder)
    export(tmp_path / "weights.safetensors", run_folder, tmp_path / "model")
    return ours, tmp_path / "model"


def test_transformers_gives_our_logits(exported: tuple[GPT, Path]) -> None:
    ours, folder = exported
    theirs = models.load(registry.folder_spec(folder, prepend_bos=True))
    tokens = torch.randint(SHAPE.d_vocab, (3, SHAPE.n_ctx))
    with torch.no_grad():
        n = max(SHAPE.d_mlp, SHAPE.n_ctx)  # the longest sum inside
        close(theirs.logits(tokens), ours.logits(tokens), n, scale=SENSITIVITY)


def test_slots_are_null_directions_of_what_is_shipped(exported: tuple[GPT, Path]) -> None:
    unembedding = load_file(exported[1] / "model.safetensors")["lm_head.weight"]
    assert not unembedding[:, -SHAPE.slots :].any()


def test_bos_is_token_zero(exported: tuple[GPT, Path]) -> None:
    model = models.load(registry.folder_spec(exported[1], prepend_bos=True))
    assert model.bos_id == 0
    assert model.encode("one two")[0] == 0


def test_spectra_of_two_runs_after_the_same_tokens(exported: tuple[GPT, Path], run_folder: Path) -> None:
    """The latest snapshot that both have, against the singular values of the folded and centred unembedding."""
    ours, _ = exported
    for name, tokens in (("without", (0, 8, 16)), ("dropped", (0, 8))):
        folder = run_folder.parent / name
        (folder / "snapshots").mkdir(parents=True)
        for n in tokens:
            factor = 1 + n / 8 if name == "without" else 3.0
            state = {key: value.clone().half() for key, value in ours.state_dict().items()}
            state["unembed"] *= factor
            save_file(state, folder / "snapshots" / f"{n:012d}.safetensors")
        for file in ("tokenizer.json", "unigrams.npy", "recipe.json"):
            (folder / file).write_bytes((run_folder / file).read_bytes())
    found, after = spectra(run_folder.parent / "without", run_folder.parent / "dropped")
    folded = ours.ln_f.weight.double()[:, None] * ours.unembed.double().T
    folded = folded - folded.mean(0)
    expected = torch.linalg.svdvals(folded - folded.mean(1, keepdim=True)).detach().numpy()
    assert after == 8
    # A snapshot holds halves; singular values are off by the rounding of the largest.
    assert found[0] == near(2 * expected, 1, scale=2 * expected[0], dtype=torch.float16)
    assert found[1] == near(3 * expected, 1, scale=3 * expected[0], dtype=torch.float16)
    (run_folder.parent / "dropped" / "snapshots" / "000000000008.safetensors").unlink()
    (run_folder.parent / "dropped" / "snapshots" / "000000000000.safetensors").unlink()
    with pytest.raises(ValueError, match="same number of tokens"):
        spectra(run_folder.parent / "without", run_folder.parent / "dropped")
