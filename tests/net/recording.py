"""The net under a change of the house: what every path, command and page answers, recorded and compared.

    python -m tests.net.recording            write tests/net/recorded.json.gz anew, printing what changed
    python -m tests.net.recording --compare  print what differs from the recording; exit code 1 if anything does

The models: the bundled one and two random ones (GPT-2 and Llama type), served by a real process's server thread.
"""

from __future__ import annotations

import gzip
import json
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.net import questions
from tests.net.answers import comparable, differences

FILE = Path(__file__).parent / "recorded.json.gz"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server with the three models, everything about them ready."""
    import uvicorn

    from app.core.settings import Settings
    from app.main import create_app

    models = ("demo", *(str(random_model(folder, name, seed)) for name, seed in (("gpt2", 0), ("llama", 1))))
    settings = Settings(
        data_dir=folder / "data", models=models, device="cpu", effects_backend="eager", rate_per_minute=1e9
    )
    app = create_app(settings)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        for entry in app.state.host.entries.values():
            entry.settled.wait()
            entry.means_settled.wait()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def random_model(folder: Path, name: str, seed: int) -> Path:
    """A tiny random model as a folder: float32 weights, tokenizer, token counts, sample text."""
    import numpy as np
    import torch

    from tests import tiny

    made = folder / f"tiny-{name}"
    tiny.hf_model(name, dtype=torch.float32, seed=seed).save_pretrained(made)
    tiny.tokenizer().save_pretrained(made)
    np.save(made / "unigrams.npy", np.arange(tiny.N_TOKENS) * 7919 % 1000)
    rows = [{"text": f"The {word} sat on the mat, and then it left."} for word in ("cat", "dog", "gnu")]
    (made / "sample.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return made


def recorded(address: str) -> dict[str, Any]:
    """Every answer by its name."""
    calls = [call for key in questions.LAST for call in questions.of_model(key)]
    calls += [*questions.of_server(questions.SWEEP), *questions.pages(questions.SWEEP)]
    found = {call.name: _asked(address, call) for call in calls}
    return found | {f"$ {name}": _typed(address, words) for name, words in questions.COMMANDS.items()}


def _asked(address: str, call: questions.Call) -> dict[str, Any]:
    import httpx

    response = httpx.request(call.method, address + call.path, json=call.body, params=call.params or None, timeout=600)
    kind = response.headers.get("content-type", "")
    answer = response.json() if "json" in kind else response.text
    return {"status": response.status_code, "answer": comparable(answer)}


def _typed(address: str, words: list[str]) -> dict[str, Any]:
    from click.testing import CliRunner

    from app.cli import main

    done = CliRunner().invoke(main, [*words, "--url", address])
    return {"status": done.exit_code, "answer": done.output.splitlines()}


def everything() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as address:
        return recorded(address)


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(FILE.read_bytes()))
    return found


def write(answers: dict[str, Any]) -> None:
    FILE.write_bytes(gzip.compress(json.dumps(answers, separators=(",", ":")).encode(), 9, mtime=0))


def report(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One line for each place where an answer is another one, by the question's name."""
    lines = [f"{name}: not asked any more" for name in then if name not in now]
    for name, answer in now.items():
        if name in then:
            lines += differences(then[name], answer, name)
    return lines


if __name__ == "__main__":
    answers = everything()
    changed = report(read(), answers) if FILE.is_file() else []
    print("\n".join(changed) or "nothing differs")
    if "--compare" in sys.argv:
        sys.exit(bool(changed))
    write(answers)
