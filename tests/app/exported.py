"""An export with one result of every kind, and rows made from it as somebody else may have made them."""

from __future__ import annotations

import base64
import copy
import json
import zlib
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.core.canonical import content_hash
from tests.app.test_sweep_api import finished, started

MODEL, GONE = "tiny-gpt2", "gone"
URL = f"/api/v1/models/{MODEL}"
TEXT = "The cat sat on the mat."
REPEAT = {"kind": "random", "rows": 2, "length": 6}
ASKED: dict[str, dict[str, Any]] = {
    "trace": {"text": TEXT, "neurons": ["0.3"], "interventions": [{"neuron": "1.5", "mode": "mean", "positions": [2]}]},
    "effects": {"text": TEXT, "limit": 4},
    "heatmap": {"text": TEXT, "limit": 3},
    "joint": {"text": TEXT, "neurons": ["1.5", "1.6"]},
    "dose": {"text": TEXT, "neurons": ["1.5"], "steps": 4},
    "ledger": {"text": TEXT, "limit": 3},
    "lens": {"text": TEXT, "top_k": 2},
    "why": {"text": TEXT, "baseline": "prompt", "neurons": 2},
    "why/text": {"text": TEXT, "target": "loss", "baseline": "prompt", "limit": 2},
    "why/compare": {"text": TEXT, "position": 2, "other_position": 1, "neurons": 2},
    "circuit": {"text": TEXT, "component": "1.5", "hops": 2, "width": 2, "check": True},
    "generate": {"text": TEXT, "max_new_tokens": 3, "neurons": ["0.3"], "top_neurons": 2},
    "dial": {"text": TEXT, "max_new_tokens": 3, "dials": ["1.5:scale=3"], "seeds": 2},
    "induction": {**REPEAT, "clip": ["1.5"], "neurons": ["1.6"], "controls": 2},
    "heads": {"rows": 2, "length": 6, "pattern": "0.1"},
    "induction/attribution": {**REPEAT, "neuron": "1.5"},
    "induction/ablation": {**REPEAT, "heads": ["0.1"], "neurons": ["1.5"], "random": 1, "queries": 3},
    "induction/natural": {"text": "abcdef ghi abcdefx", "clip": ["1.5"]},
}
PAGE = {
    "text": TEXT, "do": "1.5:mean !1.6:zero@1-2", "watch": "1.7", "pos": "3", "model": MODEL,
    "pin": json.dumps({"model": MODEL, "text": "A dog.", "do": "1.5:zero"}),
}  # fmt: skip
FORMATS = (
    "/r/{}", "/r/{}?plain=true", "/r/{}?format=json", "/r/{}?format=csv", "/r/{}?format=csv-raw",
    "/r/{}?format=parquet", "/r/{}/notebook.ipynb", "/r/{}/page.html", "/api/v1/results/{}",
)  # fmt: skip


def export_of(client: TestClient) -> dict[str, Any]:
    """What a server exports on which everything has been asked once."""
    for path, body in ASKED.items():
        answer = client.post(f"{URL}/{path}?store=true", json=body).json()
        assert answer.get("permalink"), (path, answer)
    assert client.post("/share", data=PAGE).status_code == 200
    assert finished(client, started(client))["permalink"]
    note = client.post("/api/v1/notes", json={"target": f"neuron:{MODEL}/1.5", "text": "one"}).json()
    client.put(f"/api/v1/notes/{note['id']}", json={"text": "two"})
    client.post("/api/v1/lists", json={"name": "l", "model": MODEL, "neurons": ["1.5"]})
    client.post("/api/v1/pins", json={"target": f"neuron:{MODEL}/1.5"})
    exported: dict[str, Any] = client.get("/api/v1/export").json()
    return exported


def unpacked(row: dict[str, Any]) -> dict[str, Any]:
    """A result row with its answer as JSON values."""
    return {**copy.deepcopy(row), "answer": json.loads(zlib.decompress(base64.b64decode(row["answer"])))}


def packed(row: dict[str, Any]) -> dict[str, Any]:
    """The row as an export has it, under the hash that its request has now."""
    text = json.dumps(row["answer"])
    answer = base64.b64encode(zlib.compress(text.encode("utf-8", "surrogatepass"))).decode()
    named = {name: row["request"].get(name) for name in ("kind", "model", "weights_sha256")}
    try:
        found = content_hash(row["request"])
    except ValueError:
        found = row["hash"]
    return {**row, **named, "hash": found, "answer": answer}


def renamed(row: dict[str, Any], model: str = GONE) -> dict[str, Any]:
    """The same result of a model that is not here."""
    row = copy.deepcopy(row)
    row["request"]["model"] = model
    for source in _sources(row["answer"]):
        source["model"] = model
    return row


def _sources(value: Any) -> Iterator[dict[str, Any]]:
    """Every provenance in an answer."""
    if isinstance(value, dict):
        if isinstance(value.get("provenance"), dict):
            yield value["provenance"]
        for item in value.values():
            yield from _sources(item)


def head(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"format": "nullscope-export", "version": 1, "results": list(rows), **more}


ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2, 7, 10**6, 2**53, 2**63, 10**30, 10**400, 0.5, -1e300, 1e308, float("nan"),
    float("inf"), "", "x", "5", "1.5", "9.9999", "0.99", "L0H1", "all", "mean", "zero", "<svg>", "\0", "é", "\ud800",
    "=1+1", "x" * 5000, [], [[]], [0], [10**9], ["1.5"], {}, {"a": 1}, {"x": None}, [None] * 40,
    {"neuron": "1.5", "mode": "mean"},
]  # fmt: skip


@st.composite
def crafted(draw: st.DrawFn, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A result row with one to three values in its request or answer changed, taken out, doubled or put in."""
    row = copy.deepcopy(draw(st.sampled_from(rows)))
    if draw(st.booleans()):
        row = renamed(row)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        part = draw(st.sampled_from(["request", "answer", "answer", "answer"]))
        _change(draw, row, part)
    return packed(row)


def _like(value: Any) -> list[Any]:
    """Other values of the same kind, and none at all."""
    if isinstance(value, bool):
        return [not value, None]
    if isinstance(value, int):
        return [None, -1, 0, 1, value + 1, value - 1, 2 * value, 10**6, 2**53]
    if isinstance(value, float):
        return [None, 0.0, -0.0, -value, 1e-300, 1e38, -1e38, 5e-324, 1]
    if isinstance(value, str):
        return [
            "",
            "x",
            "1.5",
            "9.9999",
            "0.0",
            value + value,
            value[:-1],
            "<svg>",
            "\0",
            "=1+1",
            "é",
            "0123456789" * 30,
        ]
    if isinstance(value, list):
        return [[], value[:-1], value[1:], value[::-1], value[:1], value * 3, [None] * len(value)]
    if isinstance(value, dict):
        names = list(value)
        shifted = dict(zip(names, [*value.values()][1:] + [*value.values()][:1], strict=True))
        return [
            {},
            shifted,
            {name: value[name] for name in names[:-1]},
            {name + "x": item for name, item in value.items()},
        ]
    return [0, 1.5, "", [], {}]


def _change(draw: st.DrawFn, parent: Any, key: Any) -> None:
    """Walk down from here and change what the walk ends at."""
    while isinstance(parent[key], dict | list) and parent[key] and draw(st.integers(0, 9)):
        inner = parent[key]
        keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
        parent, key = inner, draw(st.sampled_from(keys))
    how = draw(st.sampled_from(["same", "same", "same", "replace", "remove", "double", "add"]))
    value = parent[key]
    if how == "same":
        parent[key] = copy.deepcopy(draw(st.sampled_from(_like(value))))
        return
    if how == "remove" and key not in ("request", "answer"):
        del parent[key]
    elif how == "double" and isinstance(value, list):
        parent[key] = value + value
    elif how == "add" and isinstance(value, dict):
        value[draw(st.sampled_from(["x", "rows", "trace", "text", "token_ids", "9.99"]))] = draw(st.sampled_from(ODD))
    elif how == "add" and isinstance(value, list):
        value.append(draw(st.sampled_from(ODD)))
    elif not (key == "answer" and how != "replace"):
        parent[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        if key == "request":
            parent[key] = {"kind": "trace", "model": MODEL, "weights_sha256": "0" * 64, "token_ids": [1], "options": {}}
