"""A folder is read whole or refused: nothing that is missing becomes a random number under a valid hash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis import loading, reference
from analysis.folder import INDEX, WEIGHTS
from analysis.model import load
from analysis.registry import folder_spec
from analysis.types import InputError, UnsupportedModelError
from tests import tiny

EVERY = (*tiny.ARCHITECTURES, *tiny.POST_NORM)
TIED = ("gpt2", "opt", "gemma", "gemma2", "gemma3")
LAYERS = {"gpt2": "transformer.h.", "neox": "gpt_neox.layers.", "opt": "model.decoder.layers."}
HEADS = {"neox": "embed_out.weight"}  # in the file; lm_head.weight once it is loaded
N_LAYERS = {"gpt2": "n_layer"}
WIDTH = {"gpt2": "n_inner", "opt": "ffn_dim"}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder of each tiny architecture, made once."""

    @cache
    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp("saved") / name
        tiny.hf_model(name, dtype=torch.float32).save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def folder(saved: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of such a folder, to be changed."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(saved(name), tmp_path / name))

    return make


def rename(path: Path, change: Callable[[str], str | None]) -> None:
    """Give every tensor the name that ``change`` returns; None takes it out."""
    tensors = load_file(path / WEIGHTS)
    save_file({new: value for key, value in tensors.items() if (new := change(key)) is not None}, path / WEIGHTS)


def put(path: Path, **tensors: torch.Tensor) -> None:
    save_file({**load_file(path / WEIGHTS), **tensors}, path / WEIGHTS)


def configure(path: Path, **values: Any) -> None:
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def refusal(path: Path) -> UnsupportedModelError:
    with pytest.raises(UnsupportedModelError) as caught:
        load(folder_spec(path))
    assert str(path) not in str(caught.value), "paths are the operator's business"
    return caught.value


def logits(path: Path) -> torch.Tensor:
    model = load(folder_spec(path))
    return model.logits(model.tokens(tiny.token_ids(6)))


# prefixes of wrappers


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "model."])
@pytest.mark.parametrize("name", EVERY)
def test_a_wrapper_s_prefix_is_undone(name: str, prefix: str, folder: Callable[[str], Path]) -> None:
    path = folder(name)
    expected = loading.weights(path, name, torch.float32).state_dict()
    rename(path, lambda key: prefix + key)
    found = loading.weights(path, name, torch.float32).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: f"_orig_mod.{key}",
        lambda key: f"model.{key}" if key.startswith("model.") else key,
        lambda key: key.replace("layers.1.", "layers.1._orig_mod."),
        lambda key: key.replace(".mlp.", "._fsdp_wrapped_module._checkpoint_wrapped_module.mlp."),
    ],
    ids=["compiled", "model twice, the head once", "one layer compiled", "sharded and checkpointed"],
)
def test_a_wrapped_model_answers_as_the_model_itself(change, folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    expected = logits(path)
    rename(path, change)
    assert torch.equal(logits(path), expected)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model."])
def test_a_wrapped_file_that_is_not_whole_is_refused(prefix: str, folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    rename(path, lambda key: None if "layers.1.mlp" in key else prefix + key)
    assert "3 tensors are missing (model.layers.1.mlp.down_proj.weight, " in str(refusal(path))


def test_an_unknown_prefix_is_refused_with_the_first_names(folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    rename(path, lambda key: f"student.{key}")
    message = str(refusal(path))
    assert "21 tensors are missing (lm_head.weight, model.embed_tokens.weight, " in message
    assert "and 18 more); 21 tensors are left over (student.lm_head.weight, " in message


@pytest.mark.parametrize("twin", ["_orig_mod.model.norm.weight", "norm.weight"])
def test_two_tensors_for_one_weight_are_refused(twin: str, folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    put(path, **{twin: torch.zeros(24)})
    message = str(refusal(path))
    assert "one and the same weight" in message
    assert twin in message


# missing, left over, of another shape


@pytest.mark.parametrize("name", EVERY)
def test_a_layer_that_is_gone_is_refused(name: str, folder: Callable[[str], Path]) -> None:
    path = folder(name)
    gone = LAYERS.get(name, "model.layers.") + "1."
    n_gone = sum(key.startswith(gone) for key in load_file(path / WEIGHTS))
    rename(path, lambda key: None if key.startswith(gone) else key)
    error = refusal(path)
    assert error.code == "weights_incomplete"
    assert f"{n_gone} tensors are missing ({gone}" in str(error)
    assert f"and {n_gone - 3} more" in str(error)


@pytest.mark.parametrize("name", EVERY)
def test_a_single_tensor_that_is_gone_is_refused_by_name(name: str, folder: Callable[[str], Path]) -> None:
    path = folder(name)
    gone = next(key for key in sorted(load_file(path / WEIGHTS)) if "norm" in key or "ln_f" in key)
    rename(path, lambda key: None if key == gone else key)
    assert f"1 tensor is missing ({gone})" in str(refusal(path))


@pytest.mark.parametrize("name", [name for name in EVERY if name not in TIED])
def test_an_untied_head_that_is_gone_is_refused(name: str, folder: Callable[[str], Path]) -> None:
    path, head = folder(name), HEADS.get(name, "lm_head.weight")
    rename(path, lambda key: None if key == head else key)
    assert "1 tensor is missing (lm_head.weight)" in str(refusal(path))


@pytest.mark.parametrize("name", TIED)
def test_a_tied_head_may_be_absent_but_not_with_the_embedding(name: str, folder: Callable[[str], Path]) -> None:
    path = folder(name)
    assert "lm_head.weight" not in load_file(path / WEIGHTS)
    model = loading.weights(path, name, torch.float32)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    rename(path, lambda key: None if key.endswith(("wte.weight", "embed_tokens.weight")) else key)
    assert "2 tensors are missing (lm_head.weight, " in str(refusal(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float, folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    tensors = load_file(path / WEIGHTS)
    for key, n in (("model.norm.weight", 1), ("model.layers.1.mlp.up_proj.weight", 3)):
        tensors[key].view(-1)[:n] = value
    save_file(tensors, path / WEIGHTS)
    error = refusal(path)
    assert error.code == "weights_not_finite"
    assert "hold values that are no numbers" in str(error)
    assert "model.layers.1.mlp.up_proj.weight has 3 of them, and one more does." in str(error)


@pytest.mark.parametrize("change", ["eps", "head"])
def test_logits_that_are_no_numbers_are_called_so(change: str, folder: Callable[[str], Path]) -> None:
    """The closed form was named as the fault, with an infinite tolerance."""
    path = folder("llama")
    if change == "eps":
        configure(path, rms_norm_eps=-1e6)
    else:
        put(path, **{"lm_head.weight": torch.full_like(load_file(path / WEIGHTS)["lm_head.weight"], 1e38)})
    assert "logits with NaN or infinity" in str(refusal(path))


def test_weights_too_large_for_a_narrower_dtype_are_not_called_the_file_s_fault(folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    put(path, **{"model.norm.weight": torch.full((24,), 1e30)})
    loading.weights(path, "llama", torch.float32)
    with pytest.raises(UnsupportedModelError, match="too large for float16 and would become infinite") as caught:
        loading.weights(path, "llama", torch.float16)
    assert "model.norm.weight has 24 of them." in str(caught.value)


def test_the_head_of_the_file_is_taken_though_the_config_ties_it(folder: Callable[[str], Path]) -> None:
    path = folder("gpt2")
    head = torch.randn(tiny.D_VOCAB, 24, generator=torch.Generator().manual_seed(0))
    put(path, **{"lm_head.weight": head})
    model = loading.weights(path, "gpt2", torch.float32)
    assert torch.equal(model.lm_head.weight, head)
    assert not torch.equal(model.transformer.wte.weight, head)


@pytest.mark.parametrize(("n_layers", "what"), [(3, "missing"), (1, "left over")])
@pytest.mark.parametrize("name", EVERY)
def test_another_number_of_layers_is_refused(
    name: str, n_layers: int, what: str, folder: Callable[[str], Path]
) -> None:
    path = folder(name)
    configure(path, **{N_LAYERS.get(name, "num_hidden_layers"): n_layers, "layer_types": None})
    message = str(refusal(path))
    assert f"tensors are {what} ({LAYERS.get(name, 'model.layers.')}{max(n_layers, 2) - 1}." in message


@pytest.mark.parametrize("name", EVERY)
def test_another_shape_is_refused_with_both(name: str, folder: Callable[[str], Path]) -> None:
    path = folder(name)
    configure(path, **{WIDTH.get(name, "intermediate_size"): 44})
    message = str(refusal(path))
    assert "of another shape" in message
    assert "in the file and" in message
    assert "40" in message
    assert "44" in message


def test_a_vocabulary_of_another_size_is_refused(folder: Callable[[str], Path]) -> None:
    path = folder("gpt2")
    configure(path, vocab_size=300)
    expected = (
        "1 tensor is of another shape (transformer.wte.weight is 264 x 24 in the file and 300 x 24 by config.json)"
    )
    assert expected in str(refusal(path))


@pytest.mark.parametrize(
    ("name", "buffer", "value"),
    [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(3)),
        ("gpt2", "transformer.h.0.attn.bias", torch.ones(1, 1, 48, 48, dtype=torch.uint8)),
        ("neox", "gpt_neox.layers.0.attention.masked_bias", torch.tensor(-1e9)),
    ],
)
def test_buffers_that_the_architecture_computes_may_be_in_the_file(
    name: str, buffer: str, value: torch.Tensor, folder: Callable[[str], Path]
) -> None:
    path = folder(name)
    expected = logits(path)
    put(path, **{buffer: value})
    assert torch.equal(logits(path), expected)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_weights_that_are_no_plain_numbers_are_refused(dtype: torch.dtype, folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    key = "model.layers.0.mlp.up_proj.weight"
    put(path, **{key: load_file(path / WEIGHTS)[key].to(dtype)})
    assert f"1 tensor is no plain numbers ({key})" in str(refusal(path))


def test_quantized_weights_are_refused(folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    configure(path, quantization_config={"quant_method": "fp8"})
    assert refusal(path).code == "quantized"


# what lies beside the weights


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_beside_a_model_is_neither_taken_nor_passed_over(file: str, folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    if file.endswith("safetensors"):
        save_file({"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": torch.ones(2, 24)}, path / file)
    else:
        (path / file).write_text('{"peft_type": "LORA", "base_model_name_or_path": "elsewhere/base"}')
    error = refusal(path)
    assert error.code == "adapter"
    assert f"has an adapter beside its weights ({file})" in str(error)


@pytest.mark.parametrize("with_config", [True, False])
def test_an_adapter_alone_says_what_it_is(with_config: bool, folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    (path / WEIGHTS).unlink()
    (path / "adapter_config.json").write_text("{}")
    save_file({"a": torch.ones(1)}, path / "adapter_model.safetensors")
    if not with_config:
        (path / "config.json").unlink()
    with pytest.raises(UnsupportedModelError, match="holds an adapter only") as caught:
        folder_spec(path)
    assert "Merge the adapter" in (caught.value.hint or "")


def split(path: Path) -> None:
    """The weights in two files and an index."""
    tensors = load_file(path / WEIGHTS)
    (path / WEIGHTS).unlink()
    places = {key: f"model-{1 + n % 2}-of-2.safetensors" for n, key in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file({key: tensors[key] for key in tensors if places[key] == file}, path / file)
    (path / INDEX).write_text(json.dumps({"weight_map": places}))


def test_weights_in_several_files_are_read(folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    expected = logits(path)
    split(path)
    assert torch.equal(logits(path), expected)


def test_a_file_of_several_that_is_missing_is_named(folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    split(path)
    (path / "model-2-of-2.safetensors").unlink()
    assert "model-2-of-2.safetensors, which" in str(refusal(path))


def test_a_tensor_in_two_files_is_refused(folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    split(path)
    for file in path.glob("model-*.safetensors"):
        save_file({**load_file(file), "model.norm.weight": torch.zeros(24)}, file)
    assert "one and the same weight (model.norm.weight)" in str(refusal(path))


@pytest.mark.parametrize(
    "index", ['{"weight_map": {"a": "../other.safetensors"}}', '{"weight_map": {"a": ["b"]}}', "{}"]
)
def test_an_index_names_files_beside_it(index: str, folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    (path / WEIGHTS).rename(path / "other.safetensors")
    (path / INDEX).write_text(index)
    assert "does not name files beside it" in str(refusal(path))


def test_no_other_file_is_read_than_the_weights(folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    expected = logits(path)
    tensors = {key: torch.zeros_like(value) for key, value in load_file(path / WEIGHTS).items()}
    save_file(tensors, path / "zeros.safetensors")
    save_file(tensors, path / "shard-00001-model-00001-of-00001.safetensors")
    configure(path, transformers_weights="zeros.safetensors")
    assert torch.equal(logits(path), expected)


# architectures and files that say nothing


def unsupported(path: Path, config: Any) -> str:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", trust_remote_code=False)
    model.float().save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return str(refusal(path))


def test_a_model_without_the_parts_says_which(tmp_path: Path) -> None:
    import transformers as t

    ids = {"vocab_size": tiny.D_VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    sizes = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 48,
        "intermediate_size": 40,
    }  # fmt: skip
    mixture = t.MixtralConfig(**ids, **sizes, num_key_value_heads=2, num_local_experts=4)
    assert "is a mixture of experts" in unsupported(tmp_path / "mixtral", mixture)
    assert "has no norm between" in unsupported(tmp_path / "opt", tiny.config("opt", do_layer_norm_before=False))
    mamba = t.MambaConfig(**ids, hidden_size=24, num_hidden_layers=2)
    assert "layers without an MLP" in unsupported(tmp_path / "mamba", mamba)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", "nonsense", "config.json of llama cannot be read: it is no JSON."),
        ("config.json", "[" * 100_000, "config.json of llama cannot be read: it is no JSON."),
        ("config.json", "[]", "it is no JSON object"),
        ("config.json", '{"model_type": "t5"}', "is no language model that continues a text"),
        ("config.json", '{"model_type": "later"}', "has model type `later`"),
        ("config.json", '{"model_type": "llama", "hidden_size": "24"}', "hidden_size"),
        ("config.json", '{"model_type": "llama", "num_attention_heads": 0}', "a number in it makes no sense, such as"),
        ("tokenizer_config.json", "nonsense", "tokenizer_config.json of llama cannot be read"),
        ("tokenizer.json", "{}", "The tokenizer of llama cannot be read"),
        ("tokenizer.json", "nonsense", "The tokenizer of llama cannot be read"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_sentence(
    file: str, content: str, said: str, folder: Callable[[str], Path]
) -> None:
    path = folder("llama")
    (path / file).write_text(content)
    message = str(refusal(path))
    assert said in message
    assert "\n" not in message


def test_a_name_that_transformers_does_not_know_is_one_sentence(folder: Callable[[str], Path]) -> None:
    path = folder("llama")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "hidden_act": "nosuch"}))
    message = str(refusal(path))
    assert "config.json names 'nosuch', which transformers does not know." in message
    assert "Error" not in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_becomes_of_the_files_changes_nothing_in_a_loaded_model(
    folder: Callable[[str], Path], dtype: torch.dtype
) -> None:
    """Else numbers of the new file go out under the old hash, and a file that is cut short ends the process."""
    path = folder("gpt2")
    model = load(folder_spec(path), dtype=dtype)
    ids = model.tokens(tiny.token_ids(8))
    before = model.logits(ids)
    weights = path / WEIGHTS
    tensors = {name: value + 1 for name, value in load_file(weights).items()}
    save_file(tensors, path / "other.safetensors")
    with weights.open("r+b") as file:
        file.write((path / "other.safetensors").read_bytes())
    assert torch.equal(model.logits(ids), before)
    with weights.open("r+b") as file:
        file.truncate(100)
    assert torch.equal(model.logits(ids), before)


def test_files_that_change_while_they_are_read_are_refused(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder("gpt2")
    read = loading.tokenizer

    def slow(*args: Any) -> Any:
        (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes())
        return read(*args)

    monkeypatch.setattr(loading, "tokenizer", slow)
    with pytest.raises(InputError, match="changed while they were read"):
        load(folder_spec(path))


def test_stored_means_are_in_memory_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "means.safetensors"
    reference.save(reference.ReferenceMeans(torch.ones(2, 3), "a text", 5, "a" * 64), path)
    found = reference.load(path)
    with path.open("r+b") as file:
        file.truncate(10)
    assert torch.equal(found.means, torch.ones(2, 3))
