"""The induction page's worked example: repeated passages, and the neurons that change most clipped.

`nullscope examples` computes it again; a test does the same with the committed file.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from analysis.registry import BUNDLED_FOLDER
from app.core.example_files import ExampleRef, write_json
from app.core.packed import rounded
from app.core.residency.host import ModelHost
from app.induction import to_view
from app.induction.request import InductionRequest
from app.induction.view import InductionView

FILE = BUNDLED_FOLDER / "induction_page.json"
TOP = 3  # neurons of the finding


class Finding(BaseModel):
    """What was found and asked. Its sentence is made from its figures, so it says what was found, whatever that is."""

    request: InductionRequest
    view: InductionView

    @property
    def ref(self) -> ExampleRef:
        claim = to_view.finding(self.view)
        return ExampleRef(key="repeats", title="Repeats", claim=claim, page="/induction")


@cache
def finding(file: Path = FILE) -> Finding | None:
    """What lies in the file; reads it, the first time."""
    return Finding.model_validate_json(file.read_text("utf-8")) if file.is_file() else None


def ref() -> ExampleRef | None:
    """What the first page offers of it."""
    stored = finding()
    return stored.ref if stored else None


def at_home(host: ModelHost, key: str | None) -> Finding | None:
    """The example, if it is asked for by its key and of the weights that are here; they count once they are known."""
    stored = finding()
    if stored is None or key != stored.ref.key:
        return None
    source = stored.view.provenance
    entry = host.entries.get(source.model)
    if entry is None or entry.spec.folder != FILE.parent:
        return None
    return stored if entry.identity is None or entry.identity.weights_sha256 == source.weights_sha256 else None


def computed(ask: Callable[[InductionRequest], Any]) -> Finding:
    """The finding as the API answers it (`ask`): first which neurons change most, then what clipping them does."""
    first = InductionRequest(rows=32, limit=TOP)
    top = [row["neuron"] for row in ask(first)["ranking"]]
    request = InductionRequest(rows=32, neurons=top, clip=top, limit=100_000)
    return Finding(request=request, view=InductionView.model_validate({**ask(request), "permalink": None}))


def write(new: Finding, file: Path = FILE) -> None:
    """The file anew."""
    write_json(rounded(json.loads(new.model_dump_json())), file)
