"""A tiny random model in a folder, and the app serving it. Nothing here waits by the clock."""

import html
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from app.core.residency.host import ModelHost
from app.core.settings import Settings
from app.main import create_app
from tests import tiny


@pytest.fixture(scope="session", autouse=True)
def unhurried() -> Iterator[None]:
    """An answer waits for its permalink, and a writer for another, as long as a busy machine takes. What a test says of
    a clock it sets itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.core.store.keeping.PATIENCE", 36_000.0)
        patch.setattr("app.core.store.database.BUSY_SECONDS", 600.0)
        yield


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-gpt2 as a model folder: float32 weights, tokenizer, token counts, sample text."""
    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    tiny.hf_model("gpt2", dtype=torch.float32).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    rng = np.random.default_rng(0)
    np.save(folder / "unigrams.npy", rng.integers(0, 1000, tiny.N_TOKENS))
    rows = [{"text": f"The {word} sat on the mat, and then it left."} for word in ("cat", "dog", "gnu")]
    (folder / "sample.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def with_checkpoint(model_folder: Path, to: Path) -> Path:
    """A copy of the model folder with a checkpoint of itself at half the norm, after 1200 tokens."""
    folder = shutil.copytree(model_folder, to)
    weights = load_file(folder / "model.safetensors")
    tensors = {f"W_out.{layer}": weights[f"transformer.h.{layer}.mlp.c_proj.weight"] / 2 for layer in range(2)}
    W_U = weights.get("lm_head.weight", weights["transformer.wte.weight"])
    tensors |= {f"ln_final.{kind}": weights[f"transformer.ln_f.{kind}"] for kind in ("weight", "bias")}
    (folder / "checkpoints").mkdir()
    save_file(
        {name: value.contiguous() for name, value in (tensors | {"W_U": W_U.T}).items()},
        folder / "checkpoints" / "1200.safetensors",
        metadata={"eps": "1e-5", "norm": "LN"},
    )
    return folder


@pytest.fixture
def make_settings(model_folder: Path, tmp_path: Path) -> Callable[..., Settings]:
    def make(**changes: object) -> Settings:
        given = {
            "data_dir": tmp_path / "data",
            "models": (str(model_folder),),
            "device": "cpu",
            "effects_backend": "eager",
        }
        if "demo" not in changes.get("models", ()):  # type: ignore[operator]
            given["reference_tokens"] = 500  # a folder without a sample has its means over the bundled one
        return Settings(**{**given, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_client(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., TestClient]]:
    """A client of an app with the model loaded; settings as keyword arguments.

    `clock` is the one that limits are measured by: with `still`, nothing that was spent flows back during a test.
    """
    opened: dict[Path, TestClient] = {}

    def make(*, wait: bool = True, clock: Callable[[], float] = time.monotonic, **changes: object) -> TestClient:
        settings = make_settings(**changes)
        if before := opened.pop(settings.data_dir, None):  # one server at a time has a data folder: this is a restart
            before.__exit__(None, None, None)
        client = opened[settings.data_dir] = TestClient(create_app(settings, clock=clock))
        client.__enter__()
        if wait:
            host: ModelHost = client.app.state.host  # type: ignore[attr-defined]
            for entry in host.entries.values():
                entry.settled.wait()
                entry.means_settled.wait()
        return client

    yield make
    for client in opened.values():
        client.__exit__(None, None, None)


@pytest.fixture
def make_door(make_settings: Callable[..., Settings]) -> Callable[..., TestClient]:
    """A client of an app whose models are never loaded: for what is decided before any model is asked."""

    def make(**changes: object) -> TestClient:
        app = create_app(make_settings(**changes), clock=still)
        app.state.database.open()
        return TestClient(app)

    return make


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def still() -> float:
    """A clock that stands."""
    return 0.0


@pytest.fixture(scope="module")
def client(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One app for the tests that only read."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        models=(str(model_folder),),
        device="cpu",
        effects_backend="eager",
        max_tokens=40,
        max_top_k=20,
    )
    with TestClient(create_app(settings)) as opened:
        for entry in opened.app.state.host.entries.values():  # type: ignore[attr-defined]
            entry.means_settled.wait()
        yield opened


def copied_python(page: str) -> list[str]:
    """The Python that the panels of a page offer to copy."""
    return [html.unescape(code) for code in re.findall(r"<code>((?:import|from) .*?)</code>", page, re.S)]
