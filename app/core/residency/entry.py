"""One served model, from its loading to its unloading."""

import threading
from dataclasses import KW_ONLY, dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

from analysis.registry import ModelSpec
from analysis.types import ModelId
from app.core.residency.facts import Facts
from app.core.residency.replica import Replica
from app.core.residency.resident import MeansStatus
from app.core.residency.worker import Worker

State = Literal["waiting", "loading", "loaded", "failed"]

LOADS = count()


@dataclass(eq=False)
class Entry:
    """What is known of a served model, and its replicas (one a device).

    load: a number of its own, since a name may come back with other weights. identity, folder (where its weights were
    read): None until it is loaded.
    """

    spec: ModelSpec
    _: KW_ONLY
    load: int = field(default_factory=LOADS.__next__)
    identity: ModelId | None = None
    folder: Path | None = None
    at_start: bool = False
    state: State = "waiting"
    error: str | None = None
    facts: Facts | None = None
    revision: str | None = None
    replicas: list[tuple[Worker, Replica]] = field(default_factory=list)
    means: MeansStatus = field(default_factory=MeansStatus)
    settled: threading.Event = field(default_factory=threading.Event)  # loaded or failed
    means_settled: threading.Event = field(default_factory=threading.Event)  # there, or never to come
