"""Sweep totals equal a slow, obvious loop of hooked forward passes; nothing depends on how the work was cut up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import frequency
from analysis.corpus import RowSet
from analysis.frequency import Unigram
from analysis.model import Model
from analysis.store import MANIFEST, RunFolder
from analysis.sweep import MEASURES, Result, SweepBaseline, SweepConfig
from analysis.sweep.executor import InProcess
from analysis.sweep.plan import Plan, replicate_weights
from analysis.sweep.result import second_half
from analysis.sweep.run import Progress, partial, read, run, start
from analysis.sweep.worker import Worker
from analysis.types import InputError, NeuronId, TokenFilter
from tests import tiny
from tests.tolerance import identity, near, of_pass, of_sum

TEXTS = [
    "The quick brown fox jumps over the lazy dog, and then it sleeps.",
    "Entropy neurons write into the null space.\nThey scale the final norm.",
    "abc abc abc abc",
    "A little longer text that makes more than a single row of tokens, because rows are short here.",
]
CONFIG = SweepConfig(length=24, shard_rows=2, bootstrap=60, sample_tokens=20, examples=4, bins=8, backend="eager")


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


@pytest.fixture(scope="module")
def gpt2(tiny_model: Callable[..., Model]) -> Model:
    return tiny_model("gpt2")


@pytest.fixture(scope="module")
def swept(gpt2: Model, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What most tests look at: every last-layer neuron, with counts."""
    return sweep(tmp_path_factory.mktemp("swept") / "run", gpt2, CONFIG, unigram(gpt2))


@pytest.fixture(scope="module")
def by_hand(gpt2: Model) -> dict[str, np.ndarray]:
    """The oracle's measures of neuron 1.3 for that sweep."""
    rows = rows_of(gpt2, 24)
    return oracle(gpt2, unigram(gpt2), NeuronId(1, 3), rows, mean_activation(gpt2, NeuronId(1, 3), rows))


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


@cache
def clean(model: Model, row: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """The LN scale and the logits of a row."""
    tokens, name = model.tokens(list(row)), "ln_final.hook_scale"
    return model.run(tokens, capture=[name])[name], model.logits(tokens)[0]


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
        scale, z = clean(model, tuple(row))
        frozen = ("ln_final.hook_scale", lambda s, scale=scale: scale.clone())
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
def test_totals_equal_a_loop_of_hooked_passes(
    tmp_path: Path, tiny_model: Callable[..., Model], architecture: str
) -> None:
    model = tiny_model(architecture)
    counts = unigram(model)
    result = sweep(tmp_path / "run", model, CONFIG, counts)
    rows = rows_of(model, 24)
    assert result.n_rows == len(rows)
    bound = 2 * identity(model)  # a difference of two log-probabilities
    for neuron in (NeuronId(1, 0), NeuronId(1, 17), NeuronId(1, 39)):
        expected = oracle(model, counts, neuron, rows, mean_activation(model, neuron, rows))
        place = result.place[neuron]
        for name, values in expected.items():
            if architecture == "gemma2" and name.startswith("frequency"):
                continue  # the oracle's centring is not a no-op under a cap
            assert abs(result.column(name)[place] - values.mean()) < bound, name
            assert abs(result.column(f"{name}.var")[place] - values.var()) < 4 * bound * np.abs(values).max(), name
        te, de = expected["total.abs_loss"].mean(), expected["direct.abs_loss"].mean()
        assert abs(result.column("ln_fraction")[place] - (1 - de / te)) < bound * (1 + de / te) / te < 0.01


def test_neurons_of_earlier_layers_equal_the_loop(tmp_path: Path, gpt2: Model) -> None:
    model, counts = gpt2, unigram(gpt2)
    chosen = (NeuronId(0, 5), NeuronId(0, 11), NeuronId(0, 30), NeuronId(0, 31), NeuronId(0, 32), NeuronId(1, 4))
    result = sweep(tmp_path / "run", model, replace(CONFIG, neurons=chosen), counts)
    assert result.neurons == chosen
    rows = rows_of(model, 24)
    for neuron in (chosen[0], chosen[4], chosen[5]):  # of both batches of the earlier layer, and of the last one
        expected = oracle(model, counts, neuron, rows, mean_activation(model, neuron, rows))
        for name, values in expected.items():
            assert abs(result.column(name)[result.place[neuron]] - values.mean()) < 2 * of_pass(), name


def test_the_norm_behind_the_mlp_is_a_path_of_a_sweep(tmp_path: Path, tiny_model: Callable[..., Model]) -> None:
    """Both scales held: what the MLP writes changes by delta g w / r. Neurons of an earlier layer have no such path."""
    model = tiny_model("gemma2")
    norm = model.readout.post_norm
    assert norm is not None
    neurons = (NeuronId(0, 5), NeuronId(1, 3))
    result = sweep(tmp_path / "run", model, replace(CONFIG, neurons=neurons), unigram(model))
    place, rows = result.place[neurons[1]], rows_of(model, 24)
    value = mean_activation(model, neurons[1], rows)
    names = [f"blocks.1.{name}" for name in ("hook_resid_post", "mlp.hook_post", "mlp.hook_out")]
    changes = []
    for row in rows:
        captured = model.run(model.tokens(row), capture=names)
        resid, n, u = (captured[name][0] for name in names)
        delta = (value - n[:, 3]) / norm.scale(u)
        changed = resid + delta[:, None] * norm.gain * model.readout.W_out[3]
        p = model.readout.log_probs(resid)
        q = model.readout.logits(changed, scale=model.readout.scale(resid)).log_softmax(-1)
        changes += [float(p[t, row[t + 1]] - q[t, row[t + 1]]) for t in kept_of(model, row)]
    bound = 2 * identity(model)
    assert abs(result.column("frozen.loss")[place] - np.mean(changes)) < bound
    assert abs(result.column("frozen.abs_loss")[place] - np.mean(np.abs(changes))) < bound
    te, de, frozen = (result.column(f"{name}.abs_loss")[place] for name in ("total", "direct", "frozen"))
    assert result.column("mlp_norm_fraction")[place] == near((de - frozen) / te, 3, scale=1)
    assert abs(de - frozen) > 100 * bound, "a path too weak to test anything"
    earlier = result.place[neurons[0]]
    assert np.isnan(result.column("frozen.loss")[earlier])
    assert np.isfinite(result.column("direct.loss")[earlier])


@pytest.mark.parametrize(
    ("baseline", "value"),
    [("zero", 0.0), ("0.25", 0.25), ("filtered_mean", None), ("percentile:30", None), ("resample", None)],
)
def test_baselines(tmp_path: Path, gpt2: Model, baseline: str, value: float | None) -> None:
    model, neuron, counts = gpt2, NeuronId(1, 8), unigram(gpt2)
    result = sweep(
        tmp_path / "run", model, replace(CONFIG, neurons=(neuron,), baseline=SweepBaseline.parse(baseline)), counts
    )
    rows = rows_of(model, 24)
    if baseline == "filtered_mean":
        value = mean_activation(model, neuron, rows, kept=True)
    if baseline == "percentile:30":  # fewer kept tokens than are drawn: exact up to the draw's float32
        name = "blocks.1.mlp.hook_post"
        kept = [
            float(value)
            for row in rows
            for value in model.run(model.tokens(row), capture=[name])[name][0, kept_of(model, row), neuron.index]
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
    dtype = torch.float32 if baseline == "percentile:30" else torch.float64
    assert result.column("baseline")[0] == near(value, sum(map(len, rows)), scale=1, dtype=dtype)
    expected = oracle(model, counts, neuron, rows, value)
    assert abs(result.column("total.entropy")[0] - expected["total.entropy"].mean()) < 2 * of_pass()


def test_without_token_counts(tmp_path: Path, gpt2: Model) -> None:
    result = sweep(tmp_path / "run", gpt2, CONFIG)
    assert result.conditions == ("total", "direct")
    assert np.isnan(result.column("total.kl_unigram")).all()
    assert "frequency_fraction" not in result.table
    assert np.isfinite(result.column("ln_fraction")).all()


def test_shard_size_changes_nothing(tmp_path: Path, gpt2: Model, swept: Result) -> None:
    one, other = swept, sweep(tmp_path / "run", gpt2, replace(CONFIG, shard_rows=5), unigram(gpt2))
    for name, column in one.table.items():
        # Fractions divide two sums, variances subtract two.
        bound = of_sum(one.n_tokens, scale=4 * float(np.nanmax(np.abs(column), initial=0)))
        np.testing.assert_allclose(other.table[name], column, rtol=0, atol=bound, err_msg=name)
    for name in ("histogram", "example_values", "example_rows", "example_positions", "sample", "sample_at"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_histogram_counts_every_kept_token(swept: Result) -> None:
    assert (swept.histogram.sum(1) == swept.n_tokens).all()


def test_examples_are_the_extremes_and_point_at_their_tokens(
    gpt2: Model, swept: Result, by_hand: dict[str, np.ndarray]
) -> None:
    everything = by_hand["total.entropy"]
    where = [(r, t) for r, row in enumerate(rows_of(gpt2, 24)) for t in kept_of(gpt2, row)]
    order = np.argsort(-everything, kind="stable")[: CONFIG.examples]
    found = swept.examples(NeuronId(1, 3), "entropy", 1)
    assert [(row, position) for _, row, position in found] == [where[i] for i in order]
    np.testing.assert_allclose([value for value, _, _ in found], everything[order], rtol=0, atol=2 * of_pass())
    lowest = swept.examples(NeuronId(1, 3), "entropy", -1)
    assert abs(lowest[0][0] - everything.min()) < 2 * of_pass()


def test_the_sample_holds_the_drawn_tokens_own_values(
    gpt2: Model, swept: Result, by_hand: dict[str, np.ndarray]
) -> None:
    rows = rows_of(gpt2, 24)
    where = {(r, t): i for i, (r, t) in enumerate((r, t) for r, row in enumerate(rows) for t in kept_of(gpt2, row))}
    assert len(swept.sample_at) == 20
    for token, (row, position) in enumerate(swept.sample_at.tolist()):
        place = where[row, position]
        for field in ("total.entropy", "direct.loss", "frequency.loss"):
            got = swept.sampled(field)[token, swept.place[NeuronId(1, 3)]]
            assert got == near(by_hand[field][place], 1, dtype=torch.float32)  # what it is stored in


def document_of(model: Model, length: int) -> np.ndarray:
    """By hand: which text each kept token is from."""
    texts = []
    for number, text in enumerate(TEXTS):
        ids = model.encode(text, prepend_bos=False)
        for at in range(0, len(ids), length - 1):
            texts += [number] * len(kept_of(model, [model.bos_id, *ids[at : at + length - 1]]))
    return np.array(texts)


def test_the_bootstrap_resamples_documents(gpt2: Model, swept: Result, by_hand: dict[str, np.ndarray]) -> None:
    """Replicate means by hand from single tokens, with the same Poisson weights; rows of one text go together."""
    values, document = by_hand["total.abs_loss"], document_of(gpt2, 24)
    assert len(set(document)) < len(rows_of(gpt2, 24))
    weights = np.stack([replicate_weights(0, text, 60) for text in range(len(TEXTS))])  # document replicate
    place = swept.place[NeuronId(1, 3)]
    for prefix, which in (("", document >= 0), ("showing.", document % 2 == 1)):
        drawn = [w[document[which]] for w in weights.T]
        means = [np.average(values[which], weights=w) for w in drawn if w.sum()]
        low, high = np.quantile(means, [0.025, 0.975])
        assert abs(swept.column(f"{prefix}total.abs_loss.low")[place] - low) < 2 * of_pass()
        assert abs(swept.column(f"{prefix}total.abs_loss.high")[place] - high) < 2 * of_pass()
        assert low < swept.column(f"{prefix}total.abs_loss")[place] < high


def test_the_halves_are_every_second_document(gpt2: Model, swept: Result, by_hand: dict[str, np.ndarray]) -> None:
    document, place = document_of(gpt2, 24), swept.place[NeuronId(1, 3)]
    for half, prefix in enumerate(("choosing.", "showing.")):
        for name in ("total.abs_loss", "direct.abs_loss", "frequency.abs_loss", "total.abs_entropy"):
            mean = by_hand[name][document % 2 == half].mean()
            assert abs(swept.column(prefix + name)[place] - mean) < 2 * of_pass(), name
    te, de = (swept.column(f"showing.{condition}.abs_loss")[place] for condition in ("total", "direct"))
    assert swept.column("showing.ln_fraction")[place] == near(1 - de / te, 2)
    assert swept.halves is not None
    assert (swept.halves.unit, swept.halves.units) == ("documents", (2, 2))
    where = [(r, t) for r, row in enumerate(rows_of(gpt2, 24)) for t in kept_of(gpt2, row)]
    drawn = [document[where.index((row, position))] % 2 == 1 for row, position in swept.sample_at.tolist()]
    assert swept.sample_showing is not None
    assert swept.sample_showing.tolist() == drawn


def test_rows_of_one_document_are_halved_by_rows() -> None:
    assert second_half(np.array([7, 7, 7, 7])).tolist() == [False, True, False, True]
    assert second_half(np.array([2, 2, 5, 8])).tolist() == [False, False, True, False]


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


def test_a_finished_sweep_is_read_and_a_partial_one_already_draws(tmp_path: Path, gpt2: Model) -> None:
    model = gpt2
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


def test_slices_are_short_units_of_work(tmp_path: Path, gpt2: Model) -> None:
    """Between two yields lies at most one call of the kernels, so a server can serve people in between."""
    model = gpt2
    config, folder = CONFIG.settled(model), RunFolder(tmp_path / "run")
    list(start(folder, model, None, config, TEXTS, "test"))
    steps = list(run(folder, model, None, InProcess(Worker.build(model, None, config))))
    effects = [step for step in steps if step.stage == "effects"]
    assert len(effects) > result_rows(folder) * 2
    assert effects[-1].tokens == sum(len(row) for row in rows_of(model, 24))
    assert isinstance(steps[-1], Progress)


def result_rows(folder: RunFolder) -> int:
    return int(folder.manifest()["corpus"]["rows"])


def test_a_changed_config_is_refused(tmp_path: Path, gpt2: Model) -> None:
    model = gpt2
    sweep(tmp_path / "run", model, CONFIG)
    with pytest.raises(InputError, match="config"):
        sweep(tmp_path / "run", model, replace(CONFIG, seed=1))
    with pytest.raises(InputError, match="weights_sha256"):
        sweep(tmp_path / "run", tiny.model("gpt2", seed=5), CONFIG)


@pytest.mark.parametrize("other", ["counts", "configuration"])
def test_a_run_is_resumed_on_what_it_was_started_on(tmp_path: Path, gpt2: Model, other: str) -> None:
    """Counts by their numbers, not by the name of their file; a configuration besides the weights."""
    folder, counts, config = RunFolder(tmp_path / "run"), unigram(gpt2), CONFIG.settled(gpt2)
    list(start(folder, gpt2, counts, config, TEXTS, "test"))
    model = gpt2
    if other == "counts":
        counts = frequency.unigram(counts.counts + 1, d_vocab=gpt2.d_vocab, source=counts.source)
    else:
        model = tiny.model("gpt2", layer_norm_epsilon=1e-3)
        assert model.weights_sha256 == gpt2.weights_sha256
    executor = InProcess(Worker.build(model, counts, config))
    differs = {"counts": "unigram_sha256", "configuration": "form_sha256"}[other]
    with pytest.raises(InputError, match=f"differs in: {differs}"):
        next(run(folder, model, counts, executor))
    manifest = json.loads((folder.path / MANIFEST).read_text())
    old = {name: value for name, value in manifest.items() if name not in ("unigram_sha256", "form_sha256")}
    (folder.path / MANIFEST).write_text(json.dumps(old))
    next(run(folder, model, counts, executor))  # a run of an earlier version says less of itself


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


def test_the_draw_is_seeded_and_nested(tmp_path: Path, gpt2: Model) -> None:
    model = gpt2
    list(start(RunFolder(tmp_path / "run"), model, None, CONFIG, TEXTS, "test"))
    rows = RowSet.open(tmp_path / "run")
    small, large = (Plan.make(rows, replace(CONFIG, sample_tokens=n), frozenset()) for n in (4, 5000))
    assert large.draw.first(4).rows.tolist() == small.draw.first(4).rows.tolist()
    assert small.n_kept == large.n_kept == len(large.draw)
