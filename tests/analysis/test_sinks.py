"""Attention sinks are left out of every mean, by one rule; a switch counts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis import circuit, components, reference, sinks, written
from analysis.effects import baseline_values
from analysis.induction.differences import differences
from analysis.induction.measure import measure
from analysis.induction.sequences import random_units, repeat
from analysis.model import Model, from_objects
from analysis.registry import ModelSpec
from analysis.store import RunFolder
from analysis.sweep import SweepConfig
from analysis.sweep.executor import InProcess
from analysis.sweep.run import run, start
from analysis.sweep.worker import Worker
from analysis.trace import trace
from analysis.types import NeuronId
from tests import tiny
from tests.tolerance import of_pass, within

ROWS = [tiny.token_ids(12, seed=seed, bos=False) for seed in range(3)]


@pytest.fixture(scope="module", params=[True, False], ids=["BOS", "no BOS"])
def model(request: pytest.FixtureRequest) -> Model:
    """The stream of the first position is far longer than any other, whatever token stands there."""
    hf = tiny.hf_model("gpt2")
    with torch.no_grad():
        hf.transformer.wpe.weight[0] += 300 * torch.randn(tiny.D_MODEL, generator=torch.Generator().manual_seed(5))
    spec = ModelSpec("sunk", prepend_bos=request.param)
    return from_objects(spec, hf, tiny.tokenizer(), weights_sha256="5" * 64)


def activations(model: Model, row: list[int]) -> torch.Tensor:
    return trace(model, row).last.activations


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES, *tiny.POST_NORM])
def test_random_weights_make_no_sink(tiny_model: Callable[..., Model], name: str) -> None:
    assert not sinks.leads_with_sink(tiny_model(name))


def test_the_rule_is_a_ratio_of_lengths() -> None:
    lengths = torch.tensor([[1.0, 1, 1, 1], [9.9, 1, 1, 30]])
    assert not sinks.outlying(lengths)
    lengths[1, 0] = 10.1
    assert sinks.outlying(lengths)
    assert not sinks.outlying(lengths[:, :1])


@pytest.mark.parametrize("keep", [False, True])
def test_means_over_a_text_leave_it_out(model: Model, keep: bool, tmp_path: Path) -> None:
    """BOS or not; and say how many were left out, in the file as well."""
    *_, last = reference.compute(model, ROWS, source="rows", keep_sinks=keep)
    assert last.result is not None
    skip = int(not keep)
    by_hand = torch.cat([activations(model, row)[skip:] for row in ROWS]).mean(0)
    within(last.result.means[-1].double(), by_hand, of_pass() + 1e-6)  # kept in float32
    assert (last.result.n_tokens, last.result.sinks) == (36 - 3 * skip, 3 * skip)
    reference.save(last.result, tmp_path / "means.safetensors")
    assert reference.load(tmp_path / "means.safetensors").sinks == 3 * skip


def test_means_over_a_prompt_leave_it_out(model: Model) -> None:
    values = activations(model, ROWS[0])
    skip = sinks.sinks_in(model, len(ROWS[0]))
    within(baseline_values("prompt_mean", values, skip=skip), values[1:].mean(0), of_pass())
    assert sinks.sinks_in(model, 1) == 0  # else there would be nothing to average
    assert sinks.sinks_in(model, 12, keep=True) == 0


@pytest.mark.parametrize("keep", [False, True])
def test_what_a_prediction_is_split_against_leaves_it_out(model: Model, keep: bool) -> None:
    """Means of writes over a text and over the prompt, and a circuit's average over it."""
    *_, made = components.mean_writes(model, ROWS[:1], source="row", keep_sinks=keep)
    assert made.result is not None
    own = written.read(model, ROWS[0], keep_sinks=keep).means
    skip = int(not keep)
    assert made.result.n_tokens == own.n_tokens == 12 - skip
    by_hand = activations(model, ROWS[0])[skip:].mean(0)
    within(own.neurons, by_hand, of_pass())
    clean = circuit.read(model, ROWS[0], made.result, keep_sinks=keep)
    drawn = circuit.circuit(clean, NeuronId(model.last_layer, 3), None)
    within(torch.tensor(drawn.value, dtype=torch.float64), by_hand[3], of_pass())


@pytest.mark.parametrize("keep", [False, True])
def test_the_mean_of_a_sweep_leaves_it_out(model: Model, keep: bool, tmp_path: Path) -> None:
    config = SweepConfig(length=12, bootstrap=0, backend="eager", keep_sinks=keep).settled(model)
    folder = RunFolder(tmp_path / "run")
    texts = ["An entropy neuron writes into the null space.", "It scales the norm."]
    for _ in start(folder, model, None, config, texts, "test"):
        pass
    *_, last = run(folder, model, None, InProcess(Worker.build(model, None, config)))
    assert last.result is not None
    rows = reference.rows_of(model, texts, length=12)
    kept = [row for row in rows if len(row) > 4]
    by_hand = torch.cat([activations(model, row)[int(not keep) :] for row in kept]).mean(0)
    within(torch.from_numpy(last.result.column("baseline")), by_hand, 10 * of_pass())


def test_the_first_copy_of_a_repeat_leaves_it_out(model: Model) -> None:
    units = random_units(model.known, excluded=model.excluded_ids, length=8, n_rows=2, seed=0)
    repeated = repeat(units, bos=None)
    steps = measure(model, repeated.tokens)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            measured = end.value
            break
    found = differences(model.readout, measured.activations, replace(repeated, sinks=1))
    within(found.first, measured.activations[:, 1:8].double().mean((0, 1)), of_pass())
    within(found.second, measured.activations[:, 8:].double().mean((0, 1)), of_pass())


def test_bos_and_sinks_are_skipped_alike_in_averages_over_a_prompt(
    model: Model, tiny_model: Callable[..., Model]
) -> None:
    plain = tiny_model("gpt2")
    assert sinks.skipped(plain, tiny.token_ids(8)) == 1
    assert sinks.skipped(plain, ROWS[0]) == 0
    assert sinks.skipped(model, ROWS[0]) == 1
    assert sinks.skipped(model, ROWS[0], keep=True) == 0
