"""What questions about a model take at their peak, beside what was admitted for them: `python -m tests.real_memory
FOLDER TOKENS`, in a process of its own. Prints {question: [bytes admitted, bytes of the peak]} as JSON. Linux.

The engine's own budget is reserved when the model is loaded, so what effects take of it is no part of a request.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from analysis.model import load
from analysis.registry import bundled, folder_spec
from app.core.residency.cache import Cache
from app.core.residency.memory import Memory
from app.core.residency.resident import MeansStatus, Resident
from app.core.residency.worker import free_memory
from app.core.settings import Settings
from app.registry import QUESTIONS
from benchmarks.memory import held

BUDGET = 256 << 20
"""Of the engine: rows in blocks, as on a small machine."""


class Noted(Memory):
    """The memory of this machine, which notes what was asked of it."""

    asked = 0

    def admit(self, n_bytes: int, what: str) -> None:
        self.asked = max(self.asked, n_bytes)
        super().admit(n_bytes, what)


def bodies(ids: list[int]) -> dict[str, dict[str, Any]]:
    """What is asked, by the question's name."""
    text = {"token_ids": ids}
    at = {"position": len(ids) - 2, "baseline": "zero"}
    return {
        "trace": text,
        "effects": text | at | {"limit": 25},
        "joint": text | {"baseline": "zero", "neurons": ["L.1", "L.2"]},
        "dose": text | {"position": len(ids) - 2, "neurons": ["L.1"]},
        "ledger": text | {"position": len(ids) - 2},
        "lens": text,
        "check": {},
    }


def measured(work: Callable[[], Any]) -> int:
    free_memory()
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    work()
    return held("VmHWM") - before


def answered(resident: Resident, name: str, body: dict[str, Any]) -> Any:
    question = QUESTIONS[name]
    last = f"{resident.model.last_layer}."
    named = {"neurons": [each.replace("L.", last) for each in body["neurons"]]} if "neurons" in body else {}
    request = question.request.model_validate(body | named)
    answer = question.answer(resident, request, **({"on": None} if question.atlas_for(request) != "no" else {}))
    return list(answer) if question.steps else answer


def main() -> None:
    torch.set_num_threads(1)
    folder, n_tokens = Path(sys.argv[1]), int(sys.argv[2])
    model = load(folder_spec(folder), folder=folder)
    found: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        settings = Settings(data_dir=Path(scratch), effects_bytes=BUDGET, effects_backend="eager", threads=1)
        memory = Noted("cpu")
        cache = Cache(settings.cache_bytes)
        resident = Resident(model, None, MeansStatus(), settings, memory, None, cache)
        sample = bundled().sample
        assert sample is not None
        asked = bodies(model.encode(sample.read_text())[:n_tokens])
        # The engine, and the libraries' own buffers.
        answered(resident, "effects", asked["effects"] | {"neurons": ["L.1"]})
        for name, body in asked.items():
            resident.close()
            resident.cache.open(model.identity)  # nothing is kept from the question before
            memory.asked = 0
            peak = measured(lambda name=name, body=body: answered(resident, name, body))
            found[name] = [memory.asked, peak]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
