"""A tiny random model in a folder, and the app serving it. Nothing here waits by the clock."""

import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from app.main import create_app
from app.residency.host import ModelHost
from app.settings import Settings
from tests import tiny


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


@pytest.fixture
def make_settings(model_folder: Path, tmp_path: Path) -> Callable[..., Settings]:
    def make(**changes: object) -> Settings:
        given = {
            "data_dir": tmp_path / "data",
            "models": (str(model_folder),),
            "device": "cpu",
            "effects_backend": "eager",
        }
        return Settings(**{**given, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_client(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., TestClient]]:
    """A client of an app with the model loaded; settings as keyword arguments."""
    opened: list[TestClient] = []

    def make(*, wait: bool = True, **changes: object) -> TestClient:
        client = TestClient(create_app(make_settings(**changes)))
        client.__enter__()
        opened.append(client)
        if wait:
            host: ModelHost = client.app.state.host  # type: ignore[attr-defined]
            for entry in host.entries.values():
                entry.settled.wait()
                entry.means_settled.wait()
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


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
    return [html.unescape(code) for code in re.findall(r"<code>(import (?:os|httpx)\b.*?)</code>", page, re.S)]
