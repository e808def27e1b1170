"""Tokens, folders, generation: what a loaded model says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from analysis.folder import weight_files
from analysis.model import hash_files, load
from analysis.registry import HUB_MODELS, bundled, folder_spec, resolve
from analysis.types import InputError, NotFoundError
from tests import tiny
from tests.tolerance import of_pass, within


def test_bos_is_prepended_once(tiny_model):
    model = tiny_model("gpt2")
    assert model.encode("ab")[0] == model.bos_id
    assert model.encode("ab", prepend_bos=False) == model.encode("ab")[1:]
    assert model.with_bos(model.encode("ab"), True) == model.encode("ab")


def test_every_byte_and_character_round_trips_through_token_texts(tiny_model):
    model = tiny_model("gpt2")
    text = "a <b>\n\té ☃ \x00"
    pieces = model.token_texts(model.encode(text, prepend_bos=False))
    assert "".join(pieces).encode().decode("unicode_escape").encode("latin-1").decode() == text
    assert model.vocabulary[tiny.D_VOCAB - 1] == f"[{tiny.D_VOCAB - 1}]"
    assert model.vocabulary[0] == "<pad>"


def test_special_text_in_a_prompt_is_not_a_crash(tiny_model):
    assert tiny_model("gpt2").encode("<s></s><pad>")


def test_a_folder_loads_like_the_model_that_was_saved(tmp_path):
    folder = tmp_path / "mine"
    hf = tiny.hf_model("llama", dtype=torch.float32)
    hf.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    model = load(folder_spec(folder))
    assert model.key == "mine"
    assert model.weights_sha256 == hash_files(weight_files(folder, "tiny"))
    with torch.inference_mode():
        expected = tiny.hf_model("llama", dtype=torch.float32)(input_ids=torch.tensor([tiny.token_ids(6)])).logits
    within(model.logits(model.tokens(tiny.token_ids(6))), expected, of_pass("llama", torch.float32))


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_is_no_model_names_what_is_missing(missing, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    for name in {"config.json", "tokenizer.json", "model.safetensors"} - {missing}:
        (folder / name).write_text("{}")
    with pytest.raises(NotFoundError, match=missing.split(".")[-1]):
        folder_spec(folder)


def test_names_resolve_to_keys_or_folders():
    assert resolve("demo") == bundled()
    assert resolve("gpt2") is HUB_MODELS["gpt2"]
    assert resolve(str(bundled().folder)).key == "demo"
    with pytest.raises(NotFoundError) as error:
        resolve("gtp2")
    assert "gpt2-medium" in str(error.value.hint)
    with pytest.raises(InputError):
        resolve(" ")


def test_the_allow_list_names_every_promised_model():
    promised = (
        "gpt2 gpt2-medium gpt2-large gpt2-xl pythia-160m pythia-410m pythia-1b pythia-1.4b pythia-2.8b pythia-6.9b "
        "phi-1.5 phi-2 opt-125m opt-1.3b llama-2-7b llama-3-8b mistral-7b qwen2.5-0.5b qwen2.5-1.5b gemma-2b "
        "gemma-2-2b olmo-2-1b"
    )
    assert set(HUB_MODELS) == set(promised.split())
    assert all(spec.hub and spec.folder is None for spec in HUB_MODELS.values())


def test_a_foreign_model_says_what_was_published(shared: Path):
    """llama2.c's stories260K, greedily from BOS: all 565 characters of the published text."""
    folder = shared / "models" / "stories260K"
    model = load(folder_spec(folder))
    assert model.bos_id is not None
    expected = (folder / "greedy_expected.txt").read_text().strip()
    ids = model.generate([model.bos_id], 256)
    text = model.tokenizer.decode(ids[1:], skip_special_tokens=False).strip()
    assert len(expected) == 565
    assert text[: len(expected)] == expected


def test_generation_with_a_cache_equals_one_without(tiny_model):
    model = tiny_model("llama")
    ids = tiny.token_ids(4)
    slow = list(ids)
    for _ in range(6):
        slow.append(int(model.logits(model.tokens(slow))[0, -1].argmax()))
    assert model.generate(ids, 6) == slow


def test_capturing_an_unknown_hook_is_an_error(tiny_model):
    with pytest.raises(Exception, match="nowhere"):
        tiny_model("gpt2").run(torch.tensor([[1, 5]]), capture=["blocks.0.nowhere"])
