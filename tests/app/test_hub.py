"""A hub model is the commit that was recorded first, until the operator accepts another."""

import shutil
from pathlib import Path

import pytest

from analysis.registry import HUB_MODELS
from analysis.types import NotFoundError
from app.core.errors import ConflictError, UnavailableError
from app.core.residency.host import ModelHost
from app.core.residency.hub import HubModels, complete
from app.core.settings import Settings

GPT2 = HUB_MODELS["gpt2"]
OLD, NEW = "a" * 40, "b" * 40


class StandIn:
    """A hub with one repository: a local folder served under whatever commit its branch points at."""

    def __init__(self, cache: Path, folder: Path) -> None:
        self.cache, self.folder, self.branch, self.online, self.asked = cache, folder, OLD, True, 0

    def head(self, repository: str) -> str:
        self.asked += 1
        if not self.online:
            raise OSError("no route to host")
        return self.branch

    def local(self, repository: str, commit: str) -> Path | None:
        folder = self.cache / commit
        return folder if folder.is_dir() else None

    def download(self, repository: str, commit: str) -> Path:
        if not self.online:
            raise OSError("no route to host")
        shutil.copytree(self.folder, self.cache / commit, dirs_exist_ok=True)
        return self.cache / commit


def settings_for(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, models=("gpt2",), device="cpu", effects_backend="eager")


@pytest.fixture
def hub(model_folder: Path, tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "cache", model_folder)


def test_the_first_commit_is_recorded_and_used_from_then_on_without_the_network(hub: StandIn, tmp_path: Path) -> None:
    models = HubModels(tmp_path, hub)
    assert models.local(GPT2) is None
    assert models.fetch(GPT2).commit == OLD
    hub.branch, hub.online = NEW, False
    again = HubModels(tmp_path, hub).fetch(GPT2)
    assert (again.commit, again.folder.name) == (OLD, OLD)
    assert hub.asked == 1


def test_another_commit_is_refused_until_it_is_accepted(hub: StandIn, tmp_path: Path) -> None:
    models = HubModels(tmp_path, hub)
    models.fetch(GPT2)
    shutil.rmtree(hub.cache)
    hub.branch = NEW
    with pytest.raises(ConflictError) as caught:
        models.fetch(GPT2)
    assert OLD in caught.value.message
    assert NEW in caught.value.message
    assert "--accept gpt2" in (caught.value.hint or "")
    assert models.accept(GPT2) == (OLD, NEW)
    assert models.fetch(GPT2).commit == NEW


def test_without_network_or_permission_the_reason_is_named(hub: StandIn, tmp_path: Path) -> None:
    hub.online = False
    with pytest.raises(UnavailableError, match="no route to host") as refused:
        HubModels(tmp_path, hub).fetch(GPT2)
    assert "no route to host. Check the network" in refused.value.told
    with pytest.raises(NotFoundError, match="switched off"):
        HubModels(tmp_path, hub, allow_download=False).fetch(GPT2)
    assert HubModels(tmp_path, hub).recorded() == {}


def test_other_weights_than_safetensors_are_refused_with_the_way_out(hub: StandIn, tmp_path: Path) -> None:
    hub.folder = tmp_path / "pickles"
    hub.folder.mkdir()
    (hub.folder / "pytorch_model.bin").touch()
    with pytest.raises(NotFoundError, match="no safetensors") as caught:
        HubModels(tmp_path, hub).fetch(GPT2)
    assert "serve the folder" in (caught.value.hint or "")
    assert HubModels(tmp_path, hub).recorded() == {}


def test_a_snapshot_with_a_missing_shard_is_not_complete(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'
    )
    (tmp_path / "1.safetensors").touch()
    assert not complete(tmp_path)
    (tmp_path / "2.safetensors").touch()
    assert complete(tmp_path)


def test_a_hub_model_is_served_under_its_key_with_its_commit(hub: StandIn, tmp_path: Path) -> None:
    host = ModelHost(settings_for(tmp_path), hub=hub)
    host.start()
    try:
        entry = host.wait("gpt2")
        assert (entry.state, entry.error, entry.revision) == ("loaded", None, OLD)
        assert entry.replicas[0][1].revision == OLD
    finally:
        host.close()


def test_what_could_not_be_loaded_is_not_downloaded(hub: StandIn, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, models=("llama-2-7b",), device="cpu", memory_bytes=10**9)
    host = ModelHost(settings, hub=hub)
    host.start()
    try:
        entry = host.wait("llama-2-7b")
        assert "needs about 32" in (entry.error or "")  # 6.7e9 numbers of 4 bytes, the readout and some room: 32 GB
        assert "1.0 GB" in (entry.error or "")
        assert not hub.cache.exists()
    finally:
        host.close()


def test_a_refused_commit_is_the_models_reason(hub: StandIn, tmp_path: Path) -> None:
    HubModels(tmp_path, hub).fetch(GPT2)
    shutil.rmtree(hub.cache)
    hub.branch = NEW
    host = ModelHost(settings_for(tmp_path), hub=hub)
    host.start()
    try:
        entry = host.wait("gpt2")
        assert entry.state == "failed"
        assert NEW in (entry.error or "")
    finally:
        host.close()
