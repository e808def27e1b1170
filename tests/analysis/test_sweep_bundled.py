"""The sweep that ships with the bundled model belongs to its weights, and a part of it can be computed again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis import frequency, registry
from analysis import model as models
from analysis.corpus import RowSet, documents
from analysis.folder import hash_files, weight_files
from analysis.registry import BUNDLED_FOLDER
from analysis.store import MANIFEST, RunFolder
from analysis.sweep.run import config_of, read
from analysis.trace import trace
from tests.tolerance import identity

FOLDER = RunFolder(BUNDLED_FOLDER / "sweep")
ROWS = 3


@pytest.fixture(scope="module", autouse=True)
def _there() -> None:
    if not (FOLDER.path / MANIFEST).exists():
        pytest.skip("models/demo has no sweep yet (make demo-sweep)")


def test_it_belongs_to_the_weights_and_the_sample() -> None:
    manifest = FOLDER.manifest()
    assert manifest["weights_sha256"] == hash_files(weight_files(BUNDLED_FOLDER, "demo"))
    assert manifest["corpus"]["documents"] == len(list(documents(BUNDLED_FOLDER / "sample.jsonl")))
    assert manifest["corpus"]["rows"] == manifest["corpus"]["rows_read"]


def test_it_is_whole() -> None:
    result = read(FOLDER)
    assert result is not None
    assert result.n_rows == FOLDER.manifest()["corpus"]["rows"]
    assert np.isfinite(result.column("total.abs_loss")).all()


def test_sampled_tokens_of_its_strongest_neurons_come_out_the_same() -> None:
    """By closed form through the readout, token by token: baseline, total, LN frozen and frequency frozen."""
    result = read(FOLDER)
    assert result is not None
    spec = registry.bundled()
    model = models.load(spec)
    assert spec.counts is not None
    counts = frequency.load_counts(spec.counts, d_vocab=model.d_vocab)
    rows, readout = RowSet.open(FOLDER.path), model.readout
    baseline = result.column("baseline")
    assert config_of(FOLDER).baseline.kind == "mean"
    strongest = np.argsort(-result.column("total.abs_entropy"))[:3].tolist()
    for token in range(0, len(result.sample_at), max(1, len(result.sample_at) // 8)):
        row, position = result.sample_at[token].tolist()
        ids = rows.row(row)
        with torch.inference_mode():
            last = trace(model, ids).last
            x = last.resid[position : position + 1].double()
            exact = _double(readout)
            z = exact.logits(x)
            for place in strongest:
                index = result.neurons[place].index
                n = float(last.activations[position, index])
                assert result.sampled("activation")[token, place] == pytest.approx(n, abs=identity(model))
                moved = x + (float(baseline[place]) - n) * exact.W_out[index]
                total, frozen = exact.logits(moved), exact.logits(moved, scale=exact.scale(x))
                freq = frequency.freeze_frequency(z, total, counts.direction)
                target = ids[position + 1]
                for name, logits in (("total.loss", total), ("direct.loss", frozen), ("frequency.loss", freq)):
                    change = float(z.log_softmax(-1)[0, target] - logits.log_softmax(-1)[0, target])
                    assert result.sampled(name)[token, place] == pytest.approx(change, abs=identity(model)), name


def _double(readout):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    names = ("W_U", "b_U", "W_out", "vocab_mean_W", "vocab_mean_b")
    return replace(readout, **{name: getattr(readout, name).double() for name in names})


def test_the_baseline_is_the_mean_over_its_rows() -> None:
    result = read(FOLDER)
    assert result is not None
    model = models.load(registry.bundled())
    name = f"blocks.{model.last_layer}.mlp.hook_post"
    total, n = 0.0, 0
    for row in RowSet.open(FOLDER.path):
        values = model.run(model.tokens(row), capture=[name])[name][0].double()
        total, n = total + values.sum(0).numpy(), n + len(row)
    np.testing.assert_allclose(result.column("baseline"), total / n, rtol=0, atol=identity(model))
