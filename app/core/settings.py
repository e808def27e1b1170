"""Every setting of the program, in one class. Nothing else reads the environment.

Each field can be set by a variable `NULLSCOPE_<NAME>` or by the flag of `nullscope serve` with the same name.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.wording import spelled

PREFIX = "NULLSCOPE_"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")  # names of this machine, for this machine alone


def default_data_dir() -> Path:
    """Where the system keeps an application's data; the folder of earlier versions where there is one already."""
    earlier = Path.home() / ".local" / "share" / "nullscope"
    return earlier if earlier.is_dir() else Path(platformdirs.user_data_dir("nullscope", appauthor=False))


class Limits(BaseModel):
    """What one request may ask for; checked before any work is done."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    max_characters: int = Field(20_000, ge=1, description="Longest prompt, in characters.")
    max_tokens: int = Field(
        512, ge=1, description="Longest prompt, in tokens, BOS included. The model's context is the other bound."
    )
    max_interventions: int = Field(64, ge=1, description="Most interventions in one request.")
    max_neurons: int = Field(256, ge=1, description="Most neurons named one by one in one request.")
    max_rows: int = Field(64, ge=1, description="Most rows of repeated text in one request of the induction lab.")
    max_top_k: int = Field(
        100, ge=12, description="Largest top_k: next tokens listed at each position; the page lists 12."
    )
    max_body_bytes: int = Field(1_000_000, ge=1024, description="Largest request body, in bytes.")
    max_upload_bytes: int = Field(
        32_000_000, ge=1024, description="Largest text that may be uploaded for a sweep, in bytes as sent."
    )
    max_import_bytes: int = Field(
        256_000_000, ge=1024, description="Answers of the results in one import, in bytes together, unpacked."
    )
    max_corpus_characters: int = Field(
        100_000_000, ge=1, description="Longest text of a sweep, in characters, decompressed."
    )


class Settings(Limits, BaseSettings):
    """How this process runs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    root_path: str = Field("", description="Path prefix under which a reverse proxy serves the program.")
    data_dir: Path = Field(
        default_factory=default_data_dir, description="Folder for all that the program writes: database, caches, runs."
    )
    database_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL of the database; null: nullscope.sqlite in the data folder."
    )
    models: tuple[str, ...] = Field(
        ("demo",),
        min_length=1,
        description="Models to load at start: keys of the allow-list, or folders. The first is the default.",
    )
    device: str = Field(
        "auto", description="Devices of the models, comma-separated (cuda:0,cuda:1); auto: cuda, then mps, then cpu."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Precision of the resident weights; metrics are float32 or wider in any case."
    )
    engine: Literal["local", "ray"] = Field(
        "local", description="Where the models are: in this process, or in workers on a Ray cluster."
    )
    ray_address: str = Field(
        "auto",
        description="The cluster: auto (this machine's), HOST:6379, ray://HOST:10001, or local to start one here.",
    )
    ray_workers: int = Field(
        1, ge=1, le=64, description="Workers on the cluster; each holds every model, on one device."
    )
    threads: int = Field(0, ge=0, description="Threads of torch inside one operation; 0 leaves torch's own choice.")
    allow_download: bool = Field(True, description="Whether a hub model that is not on this machine may be downloaded.")
    reference: tuple[Annotated[str, Field(pattern=spelled(r"^[^=]+=.+$", "KEY=FILE"))], ...] = Field(
        (), description="Texts for the reference means of single models, each KEY=FILE (.txt, or .jsonl as below)."
    )
    reference_text: Path | None = Field(
        None,
        description="Text (.txt, or .jsonl with a `text` key) for the reference means of models without their own.",
    )
    reference_tokens: int = Field(
        20_000, ge=16, description="How many tokens of the reference text the mean activations are taken over."
    )
    keep_sinks: bool = Field(
        False,
        description="Count first tokens that are attention sinks in means, averages and colour scales. By default "
        "they are left out of all.",
    )
    memory_bytes: int | None = Field(
        None, ge=1, description="Memory that models and requests may use on a device; null measures what is there."
    )
    effects_backend: Literal["auto", "eager", "compiled", "triton"] = Field(
        "auto",
        description="Kernels of the effects: auto takes triton on cuda, compiled where a C++ compiler is, else eager.",
    )
    effects_bytes: int | None = Field(
        None,
        ge=1 << 20,
        description="Memory that the effects of one model may use beside the model, in bytes; by default a quarter of "
        "what the device has free, 2 GiB at least and 8 GiB at most, and never more than half of what is free.",
    )
    cache_bytes: int = Field(
        1 << 30,
        ge=0,
        description="Memory for what was computed from the weights of loaded models and may be asked again, in bytes.",
    )
    cache_disk_bytes: int = Field(
        20 << 30, ge=0, description="Disk in the data folder for neuron tables and reference means, in bytes."
    )
    counts: tuple[str, ...] = Field(
        (),
        description="Token counts: FILE.npy for the first model, or KEY=FILE.npy; `nullscope count` makes such files.",
    )
    label_thresholds: dict[str, float] = Field(
        {}, description="Thresholds of the neuron labels that differ from analysis.labels.Thresholds, as JSON."
    )
    upload_quota_bytes: int | None = Field(
        1_000_000_000, ge=1, description="Bytes of uploaded texts that one person may keep; null: no bound."
    )
    upload_days: float | None = Field(
        30, gt=0, description="Days after its last use in which an uploaded text is removed; null: never."
    )
    sweep_quota_bytes: int | None = Field(
        20_000_000_000, ge=1, description="Bytes of sweeps that one person may keep; null: no bound."
    )
    sweep_days: float | None = Field(
        None, gt=0, description="Days after its end in which a sweep is removed with its files; null: never."
    )
    result_quota_bytes: int | None = Field(
        2_000_000_000, ge=1, description="Bytes of stored answers that one person may keep; null: no bound."
    )
    result_days: float | None = Field(
        None,
        gt=0,
        description="Days after it was last asked for in which a stored answer is removed, unless somebody has pinned "
        "it or noted something on it; null: never.",
    )
    run_jobs: bool = Field(True, description="Whether this process works off sweeps and other long jobs.")
    queue_size: int = Field(64, ge=1, description="Requests that may wait for one device; beyond it: 429.")
    queue_per_person: int = Field(32, ge=1, description="Requests that one person may have waiting; beyond it: 429.")
    request_seconds: float = Field(
        120.0, gt=0, description="Longest time a request may wait and run before it is answered with 503."
    )
    max_connections: int = Field(
        512, ge=8, description="Connections open at once; beyond it idle ones are closed, or new ones answered 503."
    )
    slow_seconds: float = Field(
        20.0,
        gt=0,
        description="Seconds for a request's head to arrive, and its body's grace before 1 kB/s is asked for.",
    )
    log_format: Literal["text", "json"] = Field("text", description="Form of the log's lines; no prompt is ever in it.")
    key: SecretStr | None = Field(None, description="Your own key, which commands send to a server named by --url.")
    token: SecretStr | None = Field(
        None,
        min_length=16,
        description="One key that a whole lab shares, with the role run; people's own keys are better.",
    )
    auth_file: Path | None = Field(
        None,
        description="File of people's keys (`nullscope users`); null: users.json in the data folder, if it exists.",
    )
    insecure_open: bool = Field(
        False, description="Serve other machines without any login. Only where the network itself is closed."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Addresses or networks of reverse proxies whose forwarding and user headers are believed."
    )
    proxy_user_header: str = Field(
        "X-Forwarded-User", description="Header in which a trusted proxy names the user it has identified."
    )
    proxy_role: Literal["view", "run", "admin"] = Field(
        "run", description="Role of users that a trusted proxy names and the auth file does not."
    )
    login_hours: float = Field(24 * 14, gt=0, description="How long a browser stays logged in.")
    login_failures: float = Field(10, gt=0, description="Wrong keys an address may try per minute.")
    rate_per_minute: float = Field(
        1200,
        gt=0,
        description="Cost a person may spend per minute: 1 a request, and what it computes (a trace 2, a heat map 10).",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host names a request may be addressed to; empty: any, or loopback for a loopback server."
    )

    @field_validator("label_thresholds")
    @classmethod
    def _are_thresholds(cls, value: dict[str, float]) -> dict[str, float]:
        if value:
            from analysis.labels import Thresholds  # brings torch: only where somebody has set one

            known = [each.name for each in fields(Thresholds)]
            if unknown := [name for name in value if name not in known]:
                raise ValueError(f"no threshold {unknown[0][:40]!r}; there are: {', '.join(known)}")
        return value


def no_colour(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether programs are asked not to colour what they print (no-color.org), or the terminal says that it cannot."""
    return bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb"


def unknown_variables(environment: Iterable[str] = os.environ) -> Iterator[str]:
    """A sentence for each variable that looks like a setting and is none: a misspelt one would do nothing, silently."""
    known = [name.upper() for name in Settings.model_fields]
    for variable in sorted(environment):
        name = variable.upper().removeprefix(PREFIX)
        if name != variable.upper() and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            yield f"{variable} is no setting and does nothing here." + (f" Is {PREFIX}{near[0]} meant?" if near else "")
