"""Sweep totals equal a slow, obvious loop of hooked forward passes; nothing depends on how the work was cut up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import frequency
from analysis.corpus import RowSet
from analysis.frequency import Unigram
from analysis.model import Model
from analysis.store import RunFolder
from analysis.sweep import MEASURES, Result, SweepBaseline, SweepConfig
from analysis.sweep.executor import InProcess
from analysis.sweep.plan import Plan, replicate_weights
from analysis.sweep.run import Progress, partial, read, run, start
from analysis.sweep.worker import Worker
from analysis.types import InputError, NeuronId, TokenFilter
from tests import tiny

TEXTS = [
    "The quick brown fox jumps over the lazy dog, and then it sleeps.",
    "Entropy neurons write into the null space.\nThey scale the final norm.",
    "abc abc abc abc",
    "A little longer text that makes more than a single row of tokens, because rows are short here.",
]
CONFIG = SweepConfig(length=24, shard_rows=2, bootstrap=60, sample_tokens=20, examples=3, bins=8, backend="eager")


def unigram(model: Model) -> Unigram:
    counts = torch.randint(0, 50, (model.n_tokens,), generator=torch.Generator().manual_seed(3))
    return frequency.unigram(counts, d_vocab=model.d_vocab, source="test")


def sweep(folder: Path, model: Model, config: SweepConfig, counts: Unigram | None = None) -> Result:
    run_folder = RunFolder(folder)
    config = config.settled(model)
    for _ in start(run_folder, model, counts, config, TEXTS, "test"):
        pass
    executor = InProcess(Worker.build(model, counts, config))
    *_, last = run(run_folder, model, counts, executor)
    assert last.result is not None
    return last.result


def rows_of(model: Model, length: int) -> list[list[int]]:
    """By hand: every text cut into rows with BOS."""
    rows = []
    for text in TEXTS:
        ids = model.encode(text, prepend_bos=False)
        rows += [[model.bos_id, *ids[i : i + length - 1]] for i in range(0, len(ids), length - 1)]
    return [row for row in rows if len(kept_of(model, row))]


def kept_of(model: Model, row: list[int]) -> list[int]:
    """The paper's filter, spelled out."""
    bad = model.excluded_ids
    return [t for t in range(3, len(row) - 1) if row[t] not in bad and row[t + 1] not in bad]


def oracle(
    model: Model, counts: Unigram, neuron: NeuronId, rows: list[list[int]], baseline: float
) -> dict[str, np.ndarray]:
    """Every kept token's measures by a hooked forward pass, one neuron and one row at a time."""
    name = f"blocks.{neuron.layer}.mlp.hook_post"
    found: dict[str, list[float]] = {}

    def ablate(n: torch.Tensor) -> torch.Tensor:
        n = n.clone()
        n[..., neuron.index] = baseline
        return n

    for row in rows:
        tokens = model.tokens(row)
        scale = model.run(tokens, capture=["ln_final.hook_scale"])["ln_final.hook_scale"]
        frozen = ("ln_final.hook_scale", lambda s, scale=scale: scale.clone())
        z = model.logits(tokens)[0]
        after = {
            "total": model.logits(tokens, hooks=[(name, ablate)])[0],
            "direct": model.logits(tokens, hooks=[(name, ablate), frozen])[0],
        }
        centre = z - z.mean(-1, keepdim=True)
        moved = after["total"] - after["total"].mean(-1, keepdim=True)
        after["frequency"] = moved + ((centre - moved) @ counts.direction)[:, None] * counts.direction
        for condition, logits in after.items():
            p, q = z.log_softmax(-1), logits.log_softmax(-1)
            for t in kept_of(model, row):
                target = row[t + 1]
                freq = counts.log_p
                d_entropy = float(-(q[t].exp() * q[t]).sum() + (p[t].exp() * p[t]).sum())
                d_loss = float(p[t, target] - q[t, target])
                d_kl = float((freq.exp() * (p[t] - q[t])).sum())
                d_rank = 1 / (1 + int((q[t] > q[t, target]).sum())) - 1 / (1 + int((p[t] > p[t, target]).sum()))
                changes = float(int(p[t].argmax()) != int(q[t].argmax()))
                values = (abs(d_loss), d_loss, abs(d_entropy), d_entropy, abs(d_kl), d_kl, d_rank, changes)
                for measure, value in zip(MEASURES, values, strict=True):
                    found.setdefault(f"{condition}.{measure}", []).append(value)
    return {key: np.array(values) for key, values in found.items()}


def mean_activation(model: Model, neuron: NeuronId, rows: list[list[int]], *, kept: bool = False) -> float:
    values = []
    for row in rows:
        name = f"blocks.{neuron.layer}.mlp.hook_post"
        found = model.run(model.tokens(row), capture=[name])[name][0, :, neuron.index].tolist()
        values += [found[t] for t in kept_of(model, row)] if kept else found
    return sum(values) / len(values)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_totals_equal_a_loop_of_hooked_passes(tmp_path: Path, architecture: str) -> None:
    model = tiny.model(architecture)
    counts = unigram(model)
    result = sweep(tmp_path / "run", model, CONFIG, counts)
    rows = rows_of(model, 24)
    assert result.n_rows == len(rows)
    tolerance = 1e-9 if model.norm == "LN" else 1e-6  # transformers computes RMS norms in float32
    for neuron in (NeuronId(1, 0), NeuronId(1, 17), NeuronId(1, 39)):
        expected = oracle(model, counts, neuron, rows, mean_activation(model, neuron, rows))
        place = result.place[neuron]
        for name, values in expected.items():
            if architecture == "gemma2" and name.startswith("frequency"):
                continue  # the oracle's centring is not a no-op under a cap
            assert result.column(name)[place] == pytest.approx(values.mean(), rel=tolerance, abs=tolerance), name
            assert result.column(f"{name}.var")[place] == pytest.approx(values.var(), rel=10 * tolerance, abs=tolerance)
        te, de = expected["total.abs_loss"].mean(), expected["direct.abs_loss"].mean()
        assert result.column("ln_fraction")[place] == pytest.approx(1 - de / te, abs=1e-6)


def test_neurons_of_earlier_layers_equal_the_loop(tmp_path: Path) -> None:
    model = tiny.model("gpt2")
    counts = unigram(model)
    chosen = (NeuronId(0, 5), NeuronId(0, 11), NeuronId(0, 30), NeuronId(0, 31), NeuronId(0, 32), NeuronId(1, 4))
    result = sweep(tmp_path / "run", model, replace(CONFIG, neurons=chosen), counts)
    assert result.neurons == chosen
    rows = rows_of(model, 24)
    for neuron in chosen:
        expected = oracle(model, counts, neuron, rows, mean_activation(model, neuron, rows))
        for name, values in expected.items():
            assert result.column(name)[result.place[neuron]] == pytest.approx(values.mean(), rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize(
    ("baseline", "value"),
    [("zero", 0.0), ("0.25", 0.25), ("filtered_mean", None), ("percentile:30", None), ("resample", None)],
)
def test_baselines(tmp_path: Path, baseline: str, value: float | None) -> None:
    model, neuron = tiny.model("gpt2"), NeuronId(1, 8)
    counts = unigram(model)
    result = sweep(
        tmp_path / "run", model, replace(CONFIG, neurons=(neuron,), baseline=SweepBaseline.parse(baseline)), counts
    )
    rows = rows_of(model, 24)
    if baseline == "filtered_mean":
        value = mean_activation(model, neuron, rows, kept=True)
    if baseline == "percentile:30":  # fewer kept tokens than are drawn: exact up to the draw's float32
        name = "blocks.1.mlp.hook_post"
        kept = [
            float(model.run(model.tokens(row), capture=[name])[name][0, t, neuron.index])
            for row in rows
            for t in kept_of(model, row)
        ]
        value = float(np.percentile(np.array(kept, dtype=np.float32).astype(np.float64), 30))
    if value is None:  # resample: seeded, another activation of the corpus, and no single number
        assert np.isnan(result.column("baseline")[0])
        again = sweep(
            tmp_path / "again", model, replace(CONFIG, neurons=(neuron,), baseline=SweepBaseline("resample")), counts
        )
        other = sweep(
            tmp_path / "other",
            model,
            replace(CONFIG, neurons=(neuron,), baseline=SweepBaseline("resample"), seed=1),
            counts,
        )
        assert again.files() == result.files()
        assert other.column("total.loss")[0] != result.column("total.loss")[0]
        return
    assert result.column("baseline")[0] == pytest.approx(value, rel=1e-9)
    expected = oracle(model, counts, neuron, rows, value)
    assert result.column("total.entropy")[0] == pytest.approx(expected["total.entropy"].mean(), rel=1e-8)


def test_without_token_counts(tmp_path: Path) -> None:
    result = sweep(tmp_path / "run", tiny.model("gpt2"), CONFIG)
    assert result.conditions == ("total", "direct")
    assert np.isnan(result.column("total.kl_unigram")).all()
    assert "frequency_fraction" not in result.table
    assert np.isfinite(result.column("ln_fraction")).all()


def test_shard_size_changes_nothing(tmp_path: Path) -> None:
    model = tiny.model("gpt2")
    counts = unigram(model)
    one, other = (sweep(tmp_path / str(size), model, replace(CONFIG, shard_rows=size), counts) for size in (1, 5))
    for name, column in one.table.items():
        np.testing.assert_allclose(other.table[name], column, rtol=1e-12, atol=1e-16, err_msg=name)
    for name in ("histogram", "example_values", "example_rows", "example_positions", "sample", "sample_at"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_histogram_counts_every_kept_token(tmp_path: Path) -> None:
    result = sweep(tmp_path / "run", tiny.model("gpt2"), CONFIG)
    assert (result.histogram.sum(1) == result.n_tokens).all()


def test_examples_are_the_extremes_and_point_at_their_tokens(tmp_path: Path) -> None:
    model, neuron = tiny.model("gpt2"), NeuronId(1, 3)
    counts = unigram(model)
    result = sweep(tmp_path / "run", model, replace(CONFIG, examples=4), counts)
    rows = rows_of(model, 24)
    everything = oracle(model, counts, neuron, rows, mean_activation(model, neuron, rows))["total.entropy"]
    where = [(r, t) for r, row in enumerate(rows) for t in kept_of(model, row)]
    order = np.argsort(-everything, kind="stable")[:4]
    found = result.examples(neuron, "entropy", 1)
    assert [(row, position) for _, row, position in found] == [where[i] for i in order]
    np.testing.assert_allclose([value for value, _, _ in found], everything[order], rtol=1e-8)
    lowest = result.examples(neuron, "entropy", -1)
    assert lowest[0][0] == pytest.approx(everything.min(), rel=1e-8)


def test_the_sample_holds_the_drawn_tokens_own_values(tmp_path: Path) -> None:
    model, neuron = tiny.model("gpt2"), NeuronId(1, 3)
    counts = unigram(model)
    result = sweep(tmp_path / "run", model, CONFIG, counts)
    rows = rows_of(model, 24)
    expected = oracle(model, counts, neuron, rows, mean_activation(model, neuron, rows))
    where = {(r, t): i for i, (r, t) in enumerate((r, t) for r, row in enumerate(rows) for t in kept_of(model, row))}
    assert len(result.sample_at) == 20
    for token, (row, position) in enumerate(result.sample_at.tolist()):
        place = where[row, position]
        for field in ("total.entropy", "direct.loss", "frequency.loss"):
            got = result.sampled(field)[token, result.place[neuron]]
            assert got == pytest.approx(expected[field][place], rel=1e-5, abs=1e-7)


def test_the_bootstrap_resamples_sequences(tmp_path: Path) -> None:
    """Replicate means by hand from per-row sums, with the same Poisson weights."""
    model, neuron = tiny.model("gpt2"), NeuronId(1, 3)
    counts = unigram(model)
    result = sweep(tmp_path / "run", model, CONFIG, counts)
    rows = rows_of(model, 24)
    values = oracle(model, counts, neuron, rows, mean_activation(model, neuron, rows))["total.abs_loss"]
    row_of = np.repeat(np.arange(len(rows)), [len(kept_of(model, row)) for row in rows])
    weights = np.stack([replicate_weights(0, row, 60) for row in range(len(rows))])  # row replicate
    means = [np.average(values, weights=w[row_of]) for w in weights.T if w.sum()]
    low, high = np.quantile(means, [0.025, 0.975])
    place = result.place[neuron]
    assert result.column("total.abs_loss.low")[place] == pytest.approx(low, rel=1e-8)
    assert result.column("total.abs_loss.high")[place] == pytest.approx(high, rel=1e-8)
    assert low < result.column("total.abs_loss")[place] < high


def test_no_effect_where_the_activation_is_the_baseline(tmp_path: Path) -> None:
    """Identity 3: no change, no effect; the fraction is then undefined, not divided by nothing."""
    model = tiny.model("gpt2", activation_function="relu")
    bias = model.mlp_bias(1, "b_in")
    assert bias is not None
    bias[3] = -1e6  # a neuron that is always silent
    result = sweep(tmp_path / "run", model, replace(CONFIG, baseline=SweepBaseline("zero")), unigram(model))
    silent = result.column("activation.high") == 0
    assert silent[3]
    assert (result.column("total.abs_loss")[silent] == 0).all()
    assert np.isnan(result.column("ln_fraction")[silent]).all()
    assert not result.column("ln_fraction.reliable")[silent].any()


def test_a_finished_sweep_is_read_and_a_partial_one_already_draws(tmp_path: Path) -> None:
    model = tiny.model("gpt2")
    counts, folder, config = unigram(model), RunFolder(tmp_path / "run"), CONFIG.settled(model)
    list(start(folder, model, counts, config, TEXTS, "test"))
    assert read(folder) is None
    assert partial(folder, model, has_counts=counts is not None) is None
    steps = run(folder, model, counts, InProcess(Worker.build(model, counts, config)))
    for step in steps:
        if step.stage == "effects" and step.shards_done == 2:
            break
    half = partial(folder, model, has_counts=counts is not None)
    steps.close()
    assert half is not None
    assert half.n_rows == 4
    *_, last = run(folder, model, counts, InProcess(Worker.build(model, counts, config)))
    found = read(folder)
    assert found is not None
    assert last.result is not None
    assert found.files() == last.result.files()


def test_slices_are_short_units_of_work(tmp_path: Path) -> None:
    """Between two yields lies at most one call of the kernels, so a server can serve people in between."""
    model = tiny.model("gpt2")
    config, folder = CONFIG.settled(model), RunFolder(tmp_path / "run")
    list(start(folder, model, None, config, TEXTS, "test"))
    steps = list(run(folder, model, None, InProcess(Worker.build(model, None, config))))
    effects = [step for step in steps if step.stage == "effects"]
    assert len(effects) > result_rows(folder) * 2
    assert effects[-1].tokens == sum(len(row) for row in rows_of(model, 24))
    assert isinstance(steps[-1], Progress)


def result_rows(folder: RunFolder) -> int:
    return int(folder.manifest()["corpus"]["rows"])


def test_a_changed_config_is_refused(tmp_path: Path) -> None:
    model = tiny.model("gpt2")
    sweep(tmp_path / "run", model, CONFIG)
    with pytest.raises(InputError, match="config"):
        sweep(tmp_path / "run", model, replace(CONFIG, seed=1))
    with pytest.raises(InputError, match="weights_sha256"):
        sweep(tmp_path / "run", tiny.model("gpt2", seed=5), CONFIG)


def test_config_round_trips_and_hashes() -> None:
    config = SweepConfig(
        neurons=(NeuronId(1, 2),),
        baseline=SweepBaseline("percentile", 90.0),
        token_filter=TokenFilter(first=0),
        n_rows=7,
    )
    assert SweepConfig.from_json(config.as_json()) == config
    assert hash(config) == hash(SweepConfig.from_json(config.as_json()))
    assert config.sha256 != replace(config, seed=1).sha256
    with pytest.raises(InputError, match="no sweep config"):
        SweepConfig.from_json({"rows": 3})


@pytest.mark.parametrize("text", ["percentile", "percentile:x", "percentile:101", "mean:1", "nan", "inf", "median", ""])
def test_bad_baselines(text: str) -> None:
    with pytest.raises(InputError):
        SweepBaseline.parse(text)


def test_the_draw_is_seeded_and_nested(tmp_path: Path) -> None:
    model = tiny.model("gpt2")
    list(start(RunFolder(tmp_path / "run"), model, None, CONFIG, TEXTS, "test"))
    rows = RowSet.open(tmp_path / "run")
    small, large = (Plan.make(rows, replace(CONFIG, sample_tokens=n), frozenset()) for n in (4, 5000))
    assert large.draw.first(4).rows.tolist() == small.draw.first(4).rows.tolist()
    assert small.n_kept == large.n_kept == len(large.draw)
