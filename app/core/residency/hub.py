"""Hub models: the commit of the first download is recorded in the data folder and used from then on.

A hub name is a moving target; a number computed on one commit must not silently turn into a number on another. So the
commit that the hub resolved first is written down, later loads ask for exactly that commit (and need no network once it
is here), and another one is refused until the operator accepts it (`nullscope models --accept KEY`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from analysis.files import on_disk, write_bytes
from analysis.folder import weight_files
from analysis.registry import ModelSpec
from analysis.types import DiskFullError, NotFoundError, UnsupportedModelError
from app.core.errors import ConflictError, UnavailableError
from app.core.residency import packages

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER = ("tokenizer*", "*.model", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
WANTED = ("config.json", "generation_config.json", *WEIGHTS, *TOKENIZER)
UNWANTED = ("*/*", "consolidated*")  # copies of the same weights in other layouts


class HubClient(Protocol):
    """The three things asked of a hub. Tests use a stand-in; the real one is `HuggingFace`."""

    def head(self, repository: str) -> str:
        """The commit that the default branch points at now."""
        ...

    def local(self, repository: str, commit: str) -> Path | None:
        """The folder of a commit that is completely on this machine."""
        ...

    def download(self, repository: str, commit: str) -> Path:
        """Fetch a commit; its folder."""
        ...


class HuggingFace:
    """huggingface_hub, restricted to safetensors, configuration and tokenizer files of one exact commit."""

    def head(self, repository: str) -> str:
        from huggingface_hub import HfApi

        sha = HfApi().model_info(repository).sha
        if sha is None:
            raise OSError(f"the hub names no commit for {repository}")
        return sha

    def local(self, repository: str, commit: str) -> Path | None:
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(repository, revision=commit, local_files_only=True))
        except OSError:  # LocalEntryNotFoundError among them
            return None
        return folder if complete(folder) else None

    def download(self, repository: str, commit: str) -> Path:
        from huggingface_hub import snapshot_download

        folder = snapshot_download(
            repository, revision=commit, allow_patterns=list(WANTED), ignore_patterns=list(UNWANTED)
        )
        return Path(folder)


def complete(folder: Path) -> bool:
    """Whether all weights of a snapshot are here (a download may have been interrupted)."""
    try:
        return bool(weight_files(folder, folder.name))
    except UnsupportedModelError:
        return False


@dataclass(frozen=True)
class Snapshot:
    """A commit of a repository, or a version of a package, on this machine. commit: None for a GGUF file."""

    folder: Path
    commit: str | None


class HubModels:
    """Resolves a model that is no folder yet to one: a hub model to that of its recorded commit, a GGUF file and a
    package to what they were converted to (`packages`)."""

    def __init__(self, data_dir: Path, client: HubClient | None = None, *, allow_download: bool = True) -> None:
        self._data_dir, self._file = data_dir, data_dir / "hub.json"
        self._client: HubClient = client or HuggingFace()
        self._allow_download = allow_download

    def recorded(self) -> dict[str, str]:
        """repository -> commit."""
        if not self._file.is_file():
            return {}
        found: dict[str, str] = json.loads(self._file.read_text(encoding="utf-8"))
        return found

    def local(self, spec: ModelSpec) -> Snapshot | None:
        """The recorded snapshot if it is on this machine; never touches the network."""
        if spec.hub is None:
            converted = packages.local(spec, self._data_dir)
            return Snapshot(converted, spec.package.version if spec.package else None) if converted else None
        commit = self.recorded().get(spec.hub or "")
        folder = self._client.local(spec.hub or "", commit) if commit else None
        return Snapshot(folder, commit) if folder and commit else None

    def fetch(self, spec: ModelSpec) -> Snapshot:
        """The recorded snapshot, from this machine or downloaded; the first time the hub's commit is recorded.

        ConflictError when the hub no longer stands at the recorded commit and that commit is not here.
        """
        if (snapshot := self.local(spec)) is not None:
            return snapshot
        if spec.hub is None:
            made = packages.fetch(spec, self._data_dir, allow_download=self._allow_download)
            return Snapshot(made, spec.package.version if spec.package else None)
        if not self._allow_download:
            raise NotFoundError(
                f"{spec.key} is not on this machine, and downloads are switched off.",
                code="not_downloaded",
                hint="Set NULLSCOPE_ALLOW_DOWNLOAD=true, or serve a local folder.",
            )
        head, recorded = self._head(spec), self.recorded().get(spec.hub)
        if recorded is not None and head != recorded:
            raise ConflictError(
                f"{spec.key} was recorded at commit {recorded}, the hub now has {head}.",
                code="commit_changed",
                hint=f"Look at the change, then: nullscope models --accept {spec.key}",
            )
        folder = self._download(spec, head)
        self._record(spec.hub, head)
        return Snapshot(folder, head)

    def accept(self, spec: ModelSpec) -> tuple[str | None, str]:
        """Record the hub's present commit; (the one before, the new one)."""
        assert spec.hub is not None
        before, head = self.recorded().get(spec.hub), self._head(spec)
        self._record(spec.hub, head)
        return before, head

    def _head(self, spec: ModelSpec) -> str:
        assert spec.hub is not None
        try:
            return self._client.head(spec.hub)
        except Exception as error:  # the client's own zoo of network errors
            raise _unreachable(spec, error) from error

    def _download(self, spec: ModelSpec, commit: str) -> Path:
        assert spec.hub is not None
        try:
            with on_disk(spec.key):
                folder = self._client.download(spec.hub, commit)
        except DiskFullError:
            raise
        except Exception as error:
            raise _unreachable(spec, error) from error
        if not any(folder.glob("*.safetensors")):
            raise NotFoundError(
                f"{spec.key} has no safetensors weights on the hub.",
                code="no_safetensors",
                hint="Convert it once (transformers' save_pretrained writes safetensors) and serve the folder.",
            )
        return folder

    def _record(self, repository: str, commit: str) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self._file, json.dumps({**self.recorded(), repository: commit}, indent=1).encode())


def _unreachable(spec: ModelSpec, error: Exception) -> UnavailableError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return UnavailableError(
        f"{spec.key} could not be fetched from the hub: {reason}",
        code="hub_unreachable",
        hint="Check the network and your access to the model, or serve a local folder.",
    )
