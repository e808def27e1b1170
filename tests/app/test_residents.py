"""Models come and go while the server runs, by an administrator's wish and by key only."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient


@pytest.fixture
def client(make_client: Callable[..., TestClient], model_folder: Path, tmp_path: Path) -> TestClient:
    """Of a server with two models, tiny-gpt2 and a copy of it called other."""
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    return make_client(models=(str(model_folder), str(other)))


def test_a_model_is_unloaded_and_loaded_again(client: TestClient) -> None:
    url, body = "/api/v1/models/other/trace", {"text": "x"}
    before = client.post(url, json=body).json()
    assert [row["key"] for row in client.delete("/api/v1/models/other").json()["models"]] == ["tiny-gpt2"]
    assert client.post(url, json=body).status_code == 404
    assert client.delete("/api/v1/models/tiny-gpt2").status_code == 409
    assert client.post("/api/v1/models", json={"key": "other"}).status_code == 202
    client.app.state.host.wait("other")  # type: ignore[attr-defined]
    assert client.post(url, json=body).json()["clean"] == before["clean"]


def test_an_administrator_does_both_on_the_page(client: TestClient) -> None:
    assert 'action="/models/other/unload"' in client.get("/models").text
    page = client.post("/models/other/unload").text
    assert 'action="/models/other/unload"' not in page
    assert '<option value="other">on this machine</option>' in page
    assert client.post("/models/load", data={"key": "other"}).status_code == 200
    assert client.app.state.host.wait("other").state == "loaded"  # type: ignore[attr-defined]


def test_what_would_be_downloaded_is_asked_about_with_size_and_licence(client: TestClient) -> None:
    listed = client.get("/models").text
    assert '<option value="gemma-2b">about 5.0 GB to download, Gemma Terms of Use</option>' in listed
    asked = client.post("/models/load", data={"key": "gpt2"}, follow_redirects=False)
    assert asked.headers["location"] == "/models?fetch=gpt2#fetch"
    assert "gpt2" not in client.app.state.host.entries  # type: ignore[attr-defined]
    page = client.get("/models?fetch=gpt2").text
    assert "About <strong>497.8 MB</strong> would be fetched" in page
    assert "under the licence <strong>MIT</strong>" in page
    assert 'name="agreed" value="true"' in page
    assert "Download" not in client.get("/models?fetch=other").text.partition("Load a model")[0]


def test_only_known_keys_are_loaded(make_client: Callable[..., TestClient], model_folder: Path) -> None:
    client = make_client(wait=False)
    for key, status in (
        ("nonsense", 404),
        (str(model_folder), 422),
        ("../x", 422),
        (".", 422),
        ("tiny-gpt2", 422),
        ("", 422),
    ):
        assert client.post("/api/v1/models", json={"key": key}).status_code == status, key
