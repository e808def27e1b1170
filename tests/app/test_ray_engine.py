"""`--engine ray`: the same answers from models in another process, and the loss of that process survived.

One local cluster with one worker serves every test here.
"""

import importlib.util
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from analysis.store import RunFolder
from analysis.sweep import SweepConfig
from analysis.sweep.run import read
from app.core.settings import Settings
from app.main import create_app
from app.sweep.store import STAGES
from tests.ray_cluster import local_cluster

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
URL = "/api/v1/models/tiny-gpt2"
PATIENCE = 600.0  # seconds after which something is taken to hang
TEXT = "The cat sat on the mat."
QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("tokens", {"text": TEXT}),
    ("trace", {"text": TEXT, "interventions": [{"neuron": "1.5", "mode": "mean"}], "neurons": ["0.3"], "top_k": 3}),
    ("effects", {"text": TEXT, "limit": 7}),
    ("heatmap", {"text": TEXT, "limit": 5}),
    ("joint", {"text": TEXT, "neurons": ["1.5", "1.6"]}),
    ("dose", {"text": TEXT, "neurons": ["1.5"]}),
    ("ledger", {"text": TEXT}),
    ("induction", {"rows": 2, "length": 12}),
    ("heads", {"rows": 2, "length": 12}),
)
TABLES = ("/neurons?limit=5", "/neurons/1.5", "/spectrum", "/frequency", "/check")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with local_cluster(1):
        yield


@pytest.fixture(scope="module")
def far(cluster: None, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The same app as `client`, its model on the cluster."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("far"), models=(str(model_folder),), device="cpu", effects_backend="eager",
        max_tokens=40, max_top_k=20, engine="ray", request_seconds=PATIENCE, token="a-secret-of-the-web",  # type: ignore[arg-type]
    )  # fmt: skip
    with TestClient(create_app(settings), headers={"authorization": "Bearer a-secret-of-the-web"}) as opened:
        entry = opened.app.state.host.entry("tiny-gpt2")  # type: ignore[attr-defined]
        assert entry.means_settled.wait(PATIENCE)
        assert entry.error is None
        yield opened


def bare(answer: Any) -> Any:
    """Without where it was computed, and the time that it took."""
    if isinstance(answer, dict):
        return {key: bare(value) for key, value in answer.items() if key not in ("device", "permalink", "seconds")}
    return [bare(item) for item in answer] if isinstance(answer, list) else answer


@pytest.mark.parametrize(("kind", "body"), QUESTIONS, ids=[kind for kind, _ in QUESTIONS])
def test_the_same_numbers(client: TestClient, far: TestClient, kind: str, body: dict[str, Any]) -> None:
    here, there = (one.post(f"{URL}/{kind}", json=body) for one in (client, far))
    assert (here.status_code, there.status_code) == (200, 200), there.text
    assert bare(there.json()) == bare(here.json())


def test_the_same_tables_and_pages(client: TestClient, far: TestClient) -> None:
    for path in TABLES:
        here, there = (one.get(URL + path) for one in (client, far))
        assert (here.status_code, there.status_code) == (200, 200), (path, there.text)
        assert bare(there.json()) == bare(here.json()), path
    row = far.get("/api/v1/models").json()["models"][0]
    assert (row["loaded"], row["mean"]) == (True, "ready")
    for path in ("/models", "/atlas", "/selfcheck", "/nullspace", "/sweeps", "/jobs", "/metrics"):
        assert far.get(path).status_code == 200, path
    assert far.post("/", data={"text": TEXT}).status_code == 200
    assert far.post("/effects", data={"text": TEXT, "panel": "heatmap"}).status_code == 200


def test_an_error_is_the_same_error(client: TestClient, far: TestClient) -> None:
    for body in ({"text": TEXT, "neurons": ["0.1"]}, {"text": ""}, {"token_ids": [1] * 1000}):
        here, there = (one.post(f"{URL}/effects", json=body) for one in (client, far))
        assert (there.status_code, there.json()) == (here.status_code, here.json())


def test_a_lost_worker_costs_at_most_a_request(far: TestClient) -> None:
    body = {"text": TEXT, "limit": 7}
    before = far.post(f"{URL}/effects", json=body).json()
    process = far.app.state.host.entry("tiny-gpt2").replicas[0][1].process  # type: ignore[attr-defined]
    pid = process.ask("pid", seconds=PATIENCE)
    assert pid != os.getpid()
    os.kill(pid, signal.SIGKILL)
    during = far.post(f"{URL}/effects", json=body)
    if during.status_code == 503:  # or the worker that was started anew has answered it
        assert during.json()["error"]["code"] == "worker_lost"
        assert int(during.headers["retry-after"]) >= 1
    else:
        assert during.json() == before
    assert process.ask("pid", seconds=PATIENCE) != pid
    assert far.post(f"{URL}/effects", json=body).json() == before  # the means are there again too


def test_an_iteration_whose_worker_is_lost_ends_with_a_clear_error(far: TestClient) -> None:
    from app.core.errors import UnavailableError

    host = far.app.state.host  # type: ignore[attr-defined]
    process = host.entry("tiny-gpt2").replicas[0][1].process
    items = host.slices("tiny-gpt2", counting)
    assert next(items) == 0
    os.kill(process.ask("pid", seconds=PATIENCE), signal.SIGKILL)
    with pytest.raises(UnavailableError) as lost:
        list(items)
    assert lost.value.code == "worker_lost"
    assert list(host.slices("tiny-gpt2", counting)) == [0, 1, 2]


def counting(resident: Any) -> Iterator[int]:
    yield from range(3)


def test_an_iteration_that_is_left_is_closed_over_there(far: TestClient, tmp_path: Path) -> None:
    mark = tmp_path / "closed"

    def endless(resident: Any) -> Iterator[int]:
        try:
            yield from iter(int, 1)
        finally:
            mark.touch()

    host = far.app.state.host  # type: ignore[attr-defined]
    items = host.slices("tiny-gpt2", endless, who="ann")
    assert next(items) == 0
    items.close()
    host.submit("tiny-gpt2", lambda resident: None, who="ann").result()  # stands behind the closing
    assert mark.exists()


def test_a_sweep_runs_beside_the_model_and_gives_the_same_rows(client: TestClient, far: TestClient) -> None:
    body = {"shard_rows": 1, "length": 12, "bootstrap": 20, "sample_tokens": 16}
    rows = []
    for one in (client, far):
        name = one.post("/api/v1/sweeps", json=body).json()["id"]
        for _ in range(30_000):
            view = one.get(f"/api/v1/sweeps/{name}").json()
            if view["state"] not in ("queued", "running"):
                break
            threading.Event().wait(0.02)  # asking is all that one can do
        assert view["state"] == "finished", view["progress"]
        rows.append(view["rows"])
    assert rows[0] == rows[1]


def test_a_sweep_already_draws_and_outlasts_its_worker(far: TestClient) -> None:
    """The runner is stepped by hand, so that the worker dies in the middle of the second pass."""
    sweeps = far.app.state.sweeps  # type: ignore[attr-defined]
    process = sweeps.host.entry("tiny-gpt2").replicas[0][1].process
    config = SweepConfig(length=12, shard_rows=1, bootstrap=20, sample_tokens=16, backend="eager").as_json()
    asked = {"sweep": config, "corpus": "sample", "source": "sample"}
    list(sweeps._runner("whole", "tiny-gpt2", asked))
    steps = sweeps._runner("killed", "tiny-gpt2", asked)
    while (step := next(steps)).stage != STAGES["effects"] or step.done < 2:
        pass
    assert sweeps._partials["killed"].n_rows == 1  # merged when its step was over
    os.kill(process.ask("pid", seconds=PATIENCE), signal.SIGKILL)
    assert "waiting for the worker" in [step.stage for step in steps]
    assert "killed" not in sweeps._partials
    whole, killed = (read(RunFolder(sweeps.settings.data_dir / "sweeps" / name)) for name in ("whole", "killed"))
    assert whole is not None
    assert killed is not None
    assert killed.files() == whole.files()
