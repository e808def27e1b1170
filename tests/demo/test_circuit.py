"""The bundled model's circuits: what docs/methods.md says of their agreement with patched passes."""

from __future__ import annotations

import json

import pytest

from analysis.circuit import check, circuit, read
from analysis.components import mean_writes
from analysis.model import load
from analysis.registry import BUNDLED_FOLDER, bundled
from analysis.types import NeuronId

TEXT = "The old man shook his head and said that he had never seen the like of it. The old man shook his head and"


@pytest.mark.parametrize("neuron", ["3.62", "3.543"])
def test_patched_passes_agree_with_the_shares_in_rank(neuron: str) -> None:
    """Spearman 0.95 and 0.90 where it was measured, of every drawn edge."""
    model = load(bundled())
    documents = (BUNDLED_FOLDER / "sample.jsonl").read_text("utf-8").splitlines()[:12]
    rows = [model.encode(json.loads(line)["text"])[:128] for line in documents]
    *_, last = mean_writes(model, rows, source="the sample")
    assert last.result is not None
    ids = model.encode(TEXT)
    clean = read(model, ids, last.result)
    drawn = circuit(clean, NeuronId.parse(neuron), len(ids) - 1, most=12)
    assert all(one.kept >= 0.9 for one in drawn.followed)
    *_, checked = check(clean, drawn)
    assert checked.rank_correlation is not None
    assert checked.rank_correlation > 0.8
