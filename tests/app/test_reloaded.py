"""A model unloaded, its weights replaced in place, loaded again: every answer is that of a server that never knew the
old ones. And the same of a server that comes back in another precision.

Values of every `Kind` must have been kept on the way: what is kept of a new one is tested here or fails.
"""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from analysis import model as models
from analysis.corpus import documents
from analysis.frequency import load_counts
from analysis.registry import folder_spec
from analysis.store import RunFolder
from analysis.sweep import SweepConfig
from analysis.sweep.executor import InProcess
from analysis.sweep.run import run, start
from analysis.sweep.worker import Worker
from app.core.residency.cache import Cache, Key
from app.core.residency.host import ModelHost
from app.core.settings import Settings
from app.main import create_app
from tests import tiny
from tests.app.served import until
from tests.contracts.test_caches import kinds_of_the_program
from tests.net import questions
from tests.net.answers import comparable, differences

KEY = "tiny-gpt2"
SWEEP = SweepConfig(length=24, shard_rows=1, bootstrap=20, sample_tokens=16, backend="eager")
PAGES = (
    f"/atlas?model={KEY}",
    f"/effects?model={KEY}&text=A cat&panel=heatmap",
    f"/compare?a={KEY}&b={KEY}@7",
    f"/nullspace?model={KEY}",
    f"/frequency?model={KEY}",
)
ANSWERS_ALIKE = frozenset({"model", "check", "nullspace", "tokens", "reproduce", "trace empty", "effects far"}) | {
    "joint unknown", "neuron unknown", "effects early",
}  # fmt: skip
"""Questions whose answer the weights do not change, at this size."""
FIGURES = ("1", "2a", "2b", "2c", "2d", "3a", "3b", "3c", "4a", "4b", "4c", "6", "7", "8")
SWEPT = ("", *(f"/figures/{name}" for name in FIGURES), "/neurons/1.3", "/calibration")


def made(folder: Path, seed: int, word: str) -> Path:
    """A model folder with all that a folder may bring: counts, sample text, a checkpoint and a finished sweep."""
    tiny.hf_model("gpt2", dtype=torch.float32, seed=seed).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    np.save(folder / "unigrams.npy", np.random.default_rng(seed).integers(0, 1000, tiny.N_TOKENS))
    rows = [{"text": f"The {each} {word} on the mat, the {each} {word} again."} for each in ("cat", "dog", "gnu")]
    (folder / "sample.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    weights = load_file(folder / "model.safetensors")
    tensors = {f"W_out.{layer}": weights[f"transformer.h.{layer}.mlp.c_proj.weight"] / 2 for layer in range(2)}
    tensors |= {f"ln_final.{kind}": weights[f"transformer.ln_f.{kind}"] for kind in ("weight", "bias")}
    tensors["W_U"] = weights.get("lm_head.weight", weights["transformer.wte.weight"]).T.contiguous()
    (folder / "checkpoints").mkdir()
    save_file(tensors, folder / "checkpoints" / "7.safetensors", metadata={"eps": "1e-5", "norm": "LN"})
    spec = folder_spec(folder)
    model = models.load(spec)
    counts = load_counts(folder / "unigrams.npy", d_vocab=model.d_vocab)
    swept = RunFolder(folder / "sweep")
    list(start(swept, model, counts, SWEEP, documents(folder / "sample.jsonl"), "sample text"))
    list(run(swept, model, counts, InProcess(Worker.build(model, counts, SWEEP.settled(model)))))
    return folder


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("old") / KEY, 2, "sat")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("new") / KEY, 1, "lay")


@pytest.fixture
def serve(model_folder: Path, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """A client of a server of a folder, beside another model, so that the first may be unloaded."""
    opened: list[TestClient] = []
    other = shutil.copytree(model_folder, tmp_path / "other")

    def make(folder: Path, data: str, *, last: bool = False, **changes: Any) -> TestClient:
        served = (str(other), str(folder)) if last else (str(folder), str(other))
        settings = Settings(data_dir=tmp_path / data, models=served, device="cpu", effects_backend="eager", **changes)
        client = TestClient(create_app(settings))
        client.__enter__()
        opened.append(client)
        settled(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


def host_of(client: TestClient) -> ModelHost:
    return client.app.state.host  # type: ignore[attr-defined]


def settled(client: TestClient) -> None:
    for entry in host_of(client).entries.values():
        entry.settled.wait()
        entry.means_settled.wait()
        assert entry.state == "loaded", entry.error


def everything(client: TestClient) -> dict[str, Any]:
    """Every path of the API that asks a model, the sweep that lies beside it, and pages that keep things."""
    calls = questions.of_model(KEY)
    found = {call.name.removeprefix(f"{KEY} "): client.request(
        call.method, call.path, json=call.body, params=call.params or None
    ) for call in calls}  # fmt: skip
    sweep = f"/api/v1/sweeps/bundled-{KEY}"
    found |= {f"sweep {path}": client.get(sweep + path) for path in SWEPT}
    found["natural of the sample"] = client.post(f"/api/v1/models/{KEY}/induction/natural", json={})
    found["training"] = client.get("/api/v1/compare", params={"a": KEY, "b": f"{KEY}@7", "training": "true"})
    natural = {"kind": "natural", "rows": 2, "length": 5, "limit": 40}
    found["natural rows"] = client.post(f"/api/v1/models/{KEY}/induction", json=natural)
    found |= {page: client.get(page + "&format=json") for page in PAGES}
    return {name: {"status": one.status_code, "answer": comparable(one.json())} for name, one in found.items()}


def apart(one: dict[str, Any], other: dict[str, Any]) -> dict[str, list[str]]:
    """Names of the questions that are answered differently, and where."""
    assert one.keys() == other.keys()
    every = {name: differences(one[name], other[name]) for name in one}
    return {name: where for name, where in every.items() if where}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the kinds of which values were kept."""
    names: set[str] = set()
    put = Cache.put

    def told(self: Cache, key: Key, value: Any) -> None:
        names.add(key.kind.name)
        put(self, key, value)

    monkeypatch.setattr(Cache, "put", told)
    return names


def test_a_model_that_comes_back_with_other_weights_answers_as_a_fresh_server(
    old: Path, new: Path, serve: Callable[..., TestClient], tmp_path: Path, asked: set[str]
) -> None:
    served = shutil.copytree(old, tmp_path / "served" / KEY)
    client = serve(served, "data")
    before = everything(client)
    assert {name: answer["answer"] for name, answer in before.items() if answer["status"] >= 500} == {}
    host = host_of(client)
    entry = host.entry(KEY)
    identity, gone = entry.identity, weakref.ref(entry.replicas[0][1].model)
    assert any(key.model == identity for key in host.cache.held())
    del entry
    assert client.delete(f"/api/v1/models/{KEY}").status_code == 200
    assert [key for key in host.cache.held() if key.model == identity] == []
    until(lambda: gc.collect() >= 0 and gone() is None)  # once threads have let go of their last work
    for file in new.rglob("*"):
        if file.is_file():
            (served / file.relative_to(new)).write_bytes(file.read_bytes())  # in place: the same files
    assert client.post("/api/v1/models", json={"key": KEY}).status_code == 202
    settled(client)
    after = everything(client)
    fresh = everything(serve(shutil.copytree(new, tmp_path / "fresh" / KEY), "fresh", last=True))
    assert apart(after, fresh) == {}
    assert before.keys() - apart(before, after).keys() <= ANSWERS_ALIKE
    assert asked == kinds_of_the_program() - {"means"}, "what is kept is compared here"


def test_a_server_that_comes_back_in_another_precision_answers_as_a_fresh_one(
    old: Path, serve: Callable[..., TestClient]
) -> None:
    first = serve(old, "data")
    in_float32 = everything(first)
    first.__exit__(None, None, None)
    again = everything(serve(old, "data", dtype="bfloat16"))
    fresh = everything(serve(old, "fresh", dtype="bfloat16"))
    assert apart(again, fresh) == {}
    assert {"neurons", "spectrum", "frequency", "heatmap total", f"/atlas?model={KEY}"} <= apart(
        in_float32, fresh
    ).keys()


def test_a_table_in_memory_is_of_the_precision_too(old: Path, serve: Callable[..., TestClient]) -> None:
    """The key of the table holds every part of the model's identity, on disk and in memory."""
    from app.core.residency.atlas import key_of

    placed = host_of(serve(old, "data")).entry(KEY).replicas[0][1]
    key = key_of(placed)
    assert key.model == placed.model.identity
    assert (key.model.weights_sha256, key.model.dtype) == (placed.model.weights_sha256, "float32")
    assert key.inputs[0] == placed.unigram.sha256


class Held:
    """Keeps the device busy until it is let go."""

    def __init__(self, host: ModelHost) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self.future = host.submit("other", lambda resident: (self.entered.set(), self.go.wait(600)))
        assert self.entered.wait(600)


@pytest.mark.parametrize(
    ("question", "body"),
    [("trace", {"token_ids": [1, 40, 50]}), ("heads", {"rows": 2, "length": 5}), ("heatmap", {"token_ids": [1, 40]})],
)
def test_equal_requests_in_flight_on_two_models_have_two_answers(
    old: Path, new: Path, serve: Callable[..., TestClient], tmp_path: Path, question: str, body: dict[str, Any]
) -> None:
    """A request that waits is joined by an equal one of the same model only."""
    client = serve(shutil.copytree(old, tmp_path / "a"), "data")
    twin = shutil.copytree(new, tmp_path / "b")
    host = host_of(client)
    host.serve(folder_spec(twin))
    settled(client)
    alone = {key: client.post(f"/api/v1/models/{key}/{question}", json=body).json() for key in ("a", "b")}

    async def together() -> dict[str, Any]:
        transport = httpx.ASGITransport(app=client.app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as both:
            held = Held(host)
            tasks = {
                key: asyncio.create_task(both.post(f"/api/v1/models/{key}/{question}", json=body)) for key in alone
            }
            waiting = {id(task) for task in tasks.values()}
            for _ in range(1000):
                await asyncio.sleep(0)  # both are on their way before either is computed
                if len(host.flights) + host.flights.joined >= len(waiting):
                    break
            held.go.set()
            return {key: (await task).json() for key, task in tasks.items()}

    found = asyncio.run(together())
    for key in alone:
        assert comparable(found[key]) == comparable(alone[key])
    assert differences(comparable(found["a"]), comparable(found["b"])) != []


@pytest.mark.parametrize("file", ["model.safetensors", "unigrams.npy"])
def test_a_request_after_a_reload_does_not_join_one_of_before(
    old: Path, new: Path, serve: Callable[..., TestClient], tmp_path: Path, file: str
) -> None:
    """Nor where the weights are the same and what lies beside them is not."""
    served = shutil.copytree(old, tmp_path / KEY)
    host = host_of(serve(served, "data"))

    def loaded(resident: Any) -> tuple[str, str]:
        return resident.model.weights_sha256, resident.unigram.sha256

    async def around() -> tuple[tuple[str, str], tuple[str, str]]:
        held = Held(host)
        first = asyncio.create_task(host.run(KEY, loaded, identity="loaded"))
        await asyncio.sleep(0)
        host.unload(KEY)
        (served / file).write_bytes((new / file).read_bytes())
        entry = host.serve(folder_spec(served))
        while not entry.settled.is_set():
            await asyncio.sleep(0)
        second = asyncio.create_task(host.run(KEY, loaded, identity="loaded"))
        await asyncio.sleep(0)
        held.go.set()
        return await first, await second

    before, after = asyncio.run(around())
    changed = ["model.safetensors", "unigrams.npy"].index(file)
    assert [one == other for one, other in zip(before, after, strict=True)] == [changed != 0, changed != 1]
    assert after[0] == models.hash_files([served / "model.safetensors"])
