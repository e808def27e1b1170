"""A model folder read whole, or a sentence that says why not. The only importer of transformers.

transformers fills what a file lacks with random numbers and goes on. Here it is asked what it missed, and a model of
which anything is missing, left over or of another shape is refused: its numbers would be noise under a valid hash.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open

from analysis import folder as folders
from analysis.types import NullscopeError, UnsupportedModelError

_WRAPPERS = frozenset(
    {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
)  # torch's, anywhere in a name
_SHOWN = 3
_AGAIN = "Copy the folder again, or save the model anew with save_pretrained."


def tokenizer(folder: Path, name: str) -> Any:
    """The tokenizer of a folder; UnsupportedModelError naming ``name`` when it cannot be read or brings code."""
    from transformers import AutoTokenizer

    folders.check(folder, name)
    _quiet()
    with explained(f"The tokenizer of {name} cannot be read", folder, name):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def weights(folder: Path, name: str, dtype: torch.dtype) -> Any:
    """The transformers model of a folder in ``dtype``, on the CPU, every parameter of it read from the files.

    UnsupportedModelError naming ``name`` and the first few tensors that are missing, left over or of another shape.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    folders.check(folder, name)
    _quiet()
    with explained(
        f"config.json of {name} cannot be used",
        folder,
        name,
        hint="transformers must know its model type and take its values.",
    ):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModelError(
            f"{name} is no language model that continues a text (its type is {config.model_type}).",
            hint="Serve a causal language model.",
        )
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with ExitStack() as stack, explained(f"{name} cannot be loaded", folder, name):
        files = folders.weight_files(folder, name)
        for file in files:
            folders.numbers_in(file)  # refuses one that is not whole, in the words of every door
        tensors = _tensors(stack, files, kind.base_model_prefix, name)
        # Given the tensors and no folder, it reads no other file: no adapter, no second format.
        model, info = kind.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=dtype,
            attn_implementation="eager",
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        _require_whole(name, info, _not_floating(tensors, model, kind.base_model_prefix))
        _require_finite(name, model, tensors)
        model.generation_config.eos_token_id = folders.ends(folder, name)
    return model


def from_gguf(file: Path, name: str) -> tuple[Any, Any]:
    """(transformers model in float32, tokenizer) of a GGUF file, every parameter of the model read from it.

    That every tensor of the file went into the model is not known here: transformers passes over those that it has no
    name for (see `analysis.dequantized`). UnsupportedModelError naming ``name``.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoTokenizer, GgufConfig

    _quiet()
    with TemporaryDirectory() as alone, explained(f"{name} cannot be read as GGUF", file, name, hint=None):
        link = Path(alone) / "model.gguf"  # beside it lies no adapter and no second tokenizer
        link.symlink_to(file.resolve())
        config = AutoConfig.from_pretrained(alone, gguf_file=link.name, local_files_only=True, trust_remote_code=False)
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise UnsupportedModelError(
                f"{name} is no language model that continues a text (its type is {config.model_type}).",
                hint="Serve a causal language model.",
            )
        tokens = AutoTokenizer.from_pretrained(
            alone, gguf_file=link.name, local_files_only=True, trust_remote_code=False
        )
        model, info = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(
            alone,
            gguf_file=link.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        _require_whole(name, info, [])
        _require_finite(name, model, {})
    return owned(model), tokens


def owned(model: Any) -> Any:
    """The model with every tensor in memory of its own.

    On the CPU they are the mapped files as they are read: a file that is written over would change the numbers of a
    model that is loaded, under its old hash, and one that is cut short would end the process.
    """
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()
    return model


def require_parts(bridge: Any, name: str, architecture: str) -> None:
    """UnsupportedModelError for a model without the parts that all effects here are computed from.

    bridge: TransformerLens' view of it. Needed are one matrix of neurons a layer and a norm before the unembedding.
    """
    for block in bridge.blocks:
        mlp = getattr(block, "mlp", None)
        if "MoE" in type(mlp).__name__:
            raise UnsupportedModelError(
                f"{name} ({architecture}) is a mixture of experts: its layers have no single W_out.",
                hint="The effects are computed from one MLP a layer; serve a dense model.",
            )
        if not isinstance(getattr(mlp, "W_out", None), torch.Tensor):
            raise UnsupportedModelError(
                f"{name} ({architecture}) has layers without an MLP whose weights can be read.",
                hint="The effects are computed from one MLP a layer; serve a transformer.",
            )
    if getattr(getattr(bridge, "ln_final", None), "_original_component", None) is None:
        raise UnsupportedModelError(
            f"{name} ({architecture}) has no norm between its last layer and its unembedding.",
            hint="Confidence neurons act through the scale of that norm; serve a model that has one.",
        )


def _quiet() -> None:
    """transformers writes to the terminal while it loads; a library does not."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def own_names(names: Iterable[str], base: str) -> dict[str, str]:
    """name in the file -> name without the prefixes of wrappers (torch.compile, DDP, FSDP, a module around the model).

    ``base`` is the architecture's own prefix: ``model.`` goes only where that one follows it. Nothing is lost by it,
    since the result must be complete: see `weights`.
    """
    found = {name: _unwrapped(name) for name in names}
    while any(new.startswith(f"model.{base}.") for new in found.values()):
        found = {name: _unwrapped(new.removeprefix("model.")) for name, new in found.items()}
    return found


def _unwrapped(name: str) -> str:
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while len(parts) > 1 and parts[0] == "module":
        parts.pop(0)
    return ".".join(parts)


def _tensors(stack: ExitStack, files: Sequence[Path], base: str, name: str) -> dict[str, Any]:
    """The tensors of all files under the model's own names, not read yet; they can be while ``stack`` is open."""
    opened = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
    places = [(file, key) for file in opened for key in file.keys()]  # noqa: SIM118, not a mapping
    names = own_names((key for _, key in places), base)
    count = Counter(names[key].removeprefix(f"{base}.") for _, key in places)
    if twice := sorted({key for _, key in places if count[names[key].removeprefix(f"{base}.")] > 1}):
        raise UnsupportedModelError(
            f"Several tensors of {name} stand for one and the same weight ({_few(twice)}).",
            code="weights_incomplete",
            hint=_AGAIN,
        )
    return {names[key]: file.get_slice(key) for file, key in places}


def _not_floating(tensors: dict[str, Any], model: Any, base: str) -> list[str]:
    """Names of parameters that the file holds as integers or in eight bits: quantized, and useless without scales."""
    there = model.state_dict().keys()
    places = {name: (name, f"{base}.{name}", name.removeprefix(f"{base}.")) for name in tensors}
    plain = ("F64", "F32", "F16", "BF16")
    return [
        name
        for name, tensor in tensors.items()
        if tensor.get_dtype() not in plain and not there.isdisjoint(places[name])
    ]


def _require_whole(name: str, info: dict[str, Any], quantized: Sequence[str]) -> None:
    """UnsupportedModelError unless every parameter came from the file and every tensor of the file went into one."""
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    shapes = [
        f"{key} is {_shape(there)} in the file and {_shape(asked)} by config.json"
        for key, there, asked in sorted(info["mismatched_keys"])
    ]
    kinds = {
        "missing": missing, "left over": unexpected, "of another shape": shapes, "no plain numbers": quantized,
    }  # fmt: skip
    wrong = [f"{_tensors_of(found)} {what} ({_few(found)})" for what, found in kinds.items() if found]
    if wrong:
        raise UnsupportedModelError(
            f"The weights of {name} are not those of its config.json: {'; '.join(wrong)}.",
            code="weights_incomplete",
            hint=f"What is missing would be random numbers. {_AGAIN}",
        )


def _require_finite(name: str, model: Any, tensors: Mapping[str, Any]) -> None:
    """UnsupportedModelError for a parameter with a NaN or an infinity, which would spread to every number.

    tensors: the file's, which say whether the values are its own or became infinite in a narrower dtype; empty where
    the model holds them as they are in the file.
    """
    found = {key: n for key, tensor in model.named_parameters() if (n := _not_finite(tensor))}
    if not found:
        return
    there = {key: n for key, part in tensors.items() if (n := _not_finite(part[...]))} if tensors else found
    first, *more = sorted(there or found)
    which = f"{folders.shortened(first)} has {(there or found)[first]:,} of them"
    which += f", and so do {len(more)} more" if len(more) > 1 else ", and one more does" if more else ""
    if there:
        raise UnsupportedModelError(
            f"The weights of {name} hold values that are no numbers (NaN or infinite): {which}.",
            code="weights_not_finite",
            hint=f"Training may have diverged before they were saved. {_AGAIN}",
        )
    kind = str(next(model.parameters()).dtype).removeprefix("torch.")
    raise UnsupportedModelError(
        f"The weights of {name} hold values that are too large for {kind} and would become infinite: {which}.",
        code="weights_not_finite",
        hint="Serve it in float32.",
    )


def _not_finite(tensor: torch.Tensor) -> int:
    return int((~tensor.detach().isfinite()).sum())


def _tensors_of(names: Sequence[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"


def _few(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(map(folders.shortened, names[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


def _shape(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


@contextmanager
def explained(what: str, folder: Path, name: str, hint: str | None = _AGAIN) -> Iterator[None]:
    """Whatever a library raises inside becomes one sentence after ``what``, without the folder's path."""
    try:
        yield
    except (NullscopeError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"{what}: {_reason(error).replace(str(folder), name)}", code="unreadable_model", hint=hint
        ) from error


def _reason(error: Exception) -> str:
    """The first sentence that an error says; with the kind of error where the text alone would say nothing."""
    if isinstance(error, KeyError):  # of a table of activations, norms, ...: Python says the name alone
        return f"config.json names {folders.shortened(str(error), 60)}, which transformers does not know."
    if isinstance(error, ArithmeticError):  # Python names the operation, not the value
        return "a number in it makes no sense, such as a size of 0."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    text = re.sub(r"^\w+Error: ", "", text).split(". ")[0].rstrip(".")
    text = folders.shortened(text, 300)
    return f"{text}." if " " in text else f"{type(error).__name__} {text}."
