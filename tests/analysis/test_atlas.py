"""The table as a whole: steps, cache, labels of a model in which neurons were planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import atlas
from analysis.atlas import Atlas
from analysis.frequency import Unigram, unigram
from analysis.labels import Columns, Evidence, Label, Thresholds, assign
from analysis.model import Model, from_objects
from analysis.registry import ModelSpec
from analysis.types import InputError
from analysis.weights import Vocabulary
from tests import tiny

D_MODEL, D_MLP, SLOTS = 48, 60, 6
PLANTED = {
    "entropy": {3, 17},
    "token-frequency": {20, 21},
    "prediction": {30},
    "suppression": {31, 32},
    "partition": {40},
}


def zipf(d_vocab: int) -> Unigram:
    counts = torch.from_numpy((1e6 / np.arange(1, d_vocab + 1)).astype(np.int64))
    shuffled = counts[torch.randperm(d_vocab, generator=torch.Generator().manual_seed(1))]
    return unigram(shuffled, d_vocab=d_vocab, source="made up")


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def planted(request: pytest.FixtureRequest) -> tuple[Model, Unigram]:
    """A random model whose last layer holds two entropy neurons, two frequency neurons and so on, and nothing else."""
    sizes = (
        {"n_embd": D_MODEL, "n_inner": D_MLP}
        if request.param == "gpt2"
        else {"hidden_size": D_MODEL, "intermediate_size": D_MLP}
    )
    hf = tiny.hf_model(request.param, tie_word_embeddings=False, **sizes)
    freq = zipf(tiny.D_VOCAB)
    g = torch.Generator().manual_seed(7)
    body = hf.transformer if request.param == "gpt2" else hf.model
    norm = body.ln_f if request.param == "gpt2" else body.norm
    with torch.no_grad():
        norm.weight.fill_(1.0)
        head = 0.5 * torch.randn(tiny.D_VOCAB, D_MODEL, generator=g, dtype=torch.float64)
        head[:, -SLOTS:] *= 1e-3
        head[:, 0] = freq.direction * tiny.D_VOCAB**0.5 * 0.5
        head[:, 1] = 0.02 * head[:, 1]
        head[[5, 90, 200], 1] = 4
        head[:, 2] = torch.where(torch.rand(tiny.D_VOCAB, generator=g) < 0.5, 1.2, -1.2)
        hf.lm_head.weight.copy_(head)
        last = body.h[-1].mlp.c_proj.weight if request.param == "gpt2" else body.layers[-1].mlp.down_proj.weight.T
        rows = torch.randn(D_MLP, D_MODEL, generator=g, dtype=torch.float64) / D_MODEL**0.5
        rows[:, :3] = 0  # nobody else writes along the planted axes
        rows[:, -SLOTS:] *= 0.5
        for index, name in ((i, name) for name, members in PLANTED.items() for i in members):
            rows[index] = 0
            axis = {"token-frequency": 0, "prediction": 1, "suppression": 1, "partition": 2}.get(name)
            if axis is None:
                write = torch.randn(SLOTS, generator=g, dtype=torch.float64)
                rows[index, -SLOTS:] = 3 * (write - write.mean())
            else:
                rows[index, axis] = -1.2 if name == "suppression" or index == 21 else 1.2
        last.copy_(rows)
    model = from_objects(ModelSpec("planted", prepend_bos=True), hf, tiny.tokenizer(), weights_sha256="0" * 64)
    return model, freq


def finished(model: Model, freq: Unigram | None) -> Atlas:
    *_, last = atlas.compute(model, freq)
    assert last.result is not None
    return last.result


def found(model: Model, made: Atlas, layer: int, **more: object) -> dict[str, set[int]]:
    labels = made.labels(layer, model.write_rows(layer), k=made.spectrum.k, **more)  # type: ignore[arg-type]
    return {label.name: set(label.holds.nonzero()[:, 0].tolist()) for label in labels}


def test_planted_neurons_are_found_and_nothing_else(planted: tuple[Model, Unigram]) -> None:
    """Precision and recall 1 in the layer where they were planted; no causal label anywhere else."""
    model, freq = planted
    made = finished(model, freq)
    assert made.spectrum.k_share == 1  # the rules read rho of the larger null space
    assert made.spectrum.k == SLOTS + (1 if model.norm == "LN" and made.spectrum.k != SLOTS else 0)
    assert found(model, made, model.last_layer) == PLANTED
    elsewhere = found(model, made, 0)
    assert not elsewhere["entropy"]
    assert not elsewhere["token-frequency"]


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES, *tiny.POST_NORM])
def test_no_label_is_suggested_for_random_weights(tiny_model: Callable[..., Model], name: str) -> None:
    model = tiny_model(name)
    made = finished(model, None)
    for layer in range(model.n_layers):
        assert not any(found(model, made, layer).values())


def test_behind_a_norm_controls_are_drawn_before_its_gain(tiny_model: Callable[..., Model]) -> None:
    """A gain that favours one direction favours it in the controls as well, so nobody stands out by it."""
    model = tiny_model("gemma2")
    assert model.readout.post_norm is not None
    gain = torch.ones_like(model.readout.post_norm.gain)
    gain[0] = 1000
    readout = replace(model.readout, post_norm=replace(model.readout.post_norm, gain=gain))
    vocabulary = Vocabulary.of(readout)
    rows = readout.centre(gain * readout.W_out)
    controls = atlas._controls(readout, vocabulary, rows)
    assert float(controls.rows[:, 0].abs().median()) > 0.9 * float(controls.norm.median())
    assert float(controls.norm.sub(rows.norm(dim=1)).abs().max()) == 0


def test_steps_report_progress_and_end_with_the_result(tiny_model: Callable[..., Model]) -> None:
    steps = list(atlas.compute(tiny_model("gpt2"), None))
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert {step.total for step in steps} == {len(steps)}
    assert [step.result is not None for step in steps] == [False] * (len(steps) - 1) + [True]


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES, *tiny.POST_NORM])
def test_saved_and_loaded_it_is_the_same(tiny_model: Callable[..., Model], tmp_path: Path, name: str) -> None:
    model = tiny_model(name)
    made = finished(model, zipf(model.d_vocab))
    path = tmp_path / "atlas" / "kept.safetensors"
    atlas.save(made, path)
    again = atlas.load(path)
    assert again.weights_sha256 == model.weights_sha256
    for column, values in atlas._present(made.table).items():
        torch.testing.assert_close(getattr(again.table, column), values, equal_nan=True, rtol=0, atol=0)
    assert (again.spectrum.knee, again.spectrum.trivial) == (made.spectrum.knee, made.spectrum.trivial)
    assert torch.equal(again.uncentred.S, made.uncentred.S)
    assert (made.table.norm_gate is not None) == model.gated
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_broken_file_is_no_atlas(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    for content in (None, b"half a file"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match="holds no atlas"):
            atlas.load(path)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def layer_of_four() -> Columns:
    """Neuron 0 looks like an entropy neuron, neuron 1 like a frequency neuron, the others like nothing."""
    return Columns(
        norm=column(2, 1, 1, 1),
        logit_var=column(0.1, 1, 1, 1),
        skew=column(0, 0, 0, 0),
        kurtosis=column(3, 3, 3, 3),
        rho=column(0.95, 0.2, 0.2, 0.2),
        frequency_alignment=column(0, -0.9, 0.1, float("nan")),
        chance_rho=0.4,
        chance_alignment=0.3,
        chance_logit_var=0.9,
        chance_skew=0.3,
        chance_kurtosis=3.3,
        k=2,
    )


def swept(ln: float, freq: float, entropy: float, kl: float) -> Evidence:
    return Evidence(0.1, 0.05, ln, freq, entropy, kl)


def test_labels_say_weights_only_until_a_sweep_has_spoken() -> None:
    entropy, frequency, *_ = assign(layer_of_four())
    assert entropy.holds.tolist() == [True, False, False, False]
    assert frequency.holds.tolist() == [False, True, False, False]
    assert entropy.basis(0) == "weights only"


def test_a_sweep_confirms_or_refutes() -> None:
    evidence = {0: swept(0.5, 0.0, 0.9, 0.1), 1: swept(0.0, 0.1, 0.1, 0.9), 2: swept(0.0, 0.0, 0.1, 0.1)}
    entropy, frequency, *_ = assign(layer_of_four(), evidence=evidence)
    assert entropy.holds.tolist() == [True, False, False, False]
    assert entropy.basis(0) == "weights and sweep"
    assert frequency.holds.tolist() == [False] * 4  # its effect does not run along the frequency direction
    failing = [c.name for c in frequency.conditions if not bool(c.holds[1])]
    assert failing == ["frequency_mediated"]
    assert entropy.basis(3) == "weights only"  # not swept
    assert frequency.suggested.tolist() == [False, True, False, False]  # what the weights said is still told


def test_a_small_norm_does_not_take_the_label_away() -> None:
    columns = layer_of_four()
    columns.norm[0] = 0.1
    entropy = assign(columns)[0]
    assert bool(entropy.holds[0])
    assert [c.name for c in entropy.conditions if not bool(c.holds[0]) and not c.causal] == ["norm"]


def test_where_a_whole_layer_is_aligned_nobody_stands_out() -> None:
    everyone = replace(layer_of_four(), frequency_alignment=column(0.7, -0.9, 0.6, 0.65))
    assert not bool(assign(everyone)[1].holds.any())


def test_thresholds_are_arguments() -> None:
    strict = assign(layer_of_four(), thresholds=Thresholds(entropy_rho=0.99))[0]
    assert not bool(strict.holds.any())


NAN = float("nan")
WHOLE = {
    0: swept(0.5, 0.0, 0.9, 0.1),
    1: swept(0.0, 0.6, 0.1, 0.9),
    2: swept(0.0, 0.0, 0.1, 0.1),
    3: swept(0.0, 0.0, 0.1, 0.1),
}


def carried(labels: tuple[Label, ...]) -> dict[str, list[int]]:
    return {label.name: label.holds.nonzero()[:, 0].tolist() for label in labels[:2]}


@pytest.mark.parametrize(
    ("neuron", "figure", "name"),
    [
        (0, "ln_mediated_fraction", "entropy"),
        (0, "mean_abs_d_entropy", "entropy"),
        (1, "frequency_mediated_fraction", "token-frequency"),
        (1, "mean_abs_d_kl", "token-frequency"),
    ],
)
def test_what_a_sweep_could_not_tell_never_counts(neuron: int, figure: str, name: str) -> None:
    """None is how an unknown or unreliable figure reaches the rules; the neuron was measured all the same."""
    assert carried(assign(layer_of_four(), evidence=WHOLE)) == {"entropy": [0], "token-frequency": [1]}
    found = assign(layer_of_four(), evidence={**WHOLE, neuron: replace(WHOLE[neuron], **{figure: None})})
    assert carried(found)[name] == []
    label = next(label for label in found if label.name == name)
    assert label.basis(neuron) == "weights and sweep"
    assert [bool(c.known[neuron]) for c in label.conditions if c.causal].count(False) == 1


def test_a_sweep_that_found_nothing_out_takes_the_label_away() -> None:
    nothing = Evidence(0.0, 0.0, None, None, NAN, None)
    found = assign(layer_of_four(), evidence=dict.fromkeys(range(4), nothing))
    assert carried(found) == {"entropy": [], "token-frequency": []}
    assert found[0].basis(0) == "weights and sweep"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"chance_rho": 0.9}, "entropy"),  # 0.95 is less than 1.15 x 0.9
        ({"chance_rho": NAN}, "entropy"),
        ({"rho": column(NAN, 0.2, 0.2, 0.2)}, "entropy"),
        ({"logit_var": column(NAN, 1, 1, 1)}, "entropy"),
        ({"logit_var": column(NAN, NAN, NAN, NAN)}, "entropy"),
        ({"chance_logit_var": 0.14}, "entropy"),  # 0.1 is more than 0.7 x 0.14
        ({"chance_logit_var": NAN}, "entropy"),
        ({"chance_alignment": 0.85}, "token-frequency"),  # 0.9 is less than 1.15 x 0.85
        ({"chance_alignment": NAN}, "token-frequency"),
        ({"frequency_alignment": column(0, NAN, 0.1, 0.1)}, "token-frequency"),
    ],
)
def test_no_label_within_chance_or_by_a_condition_that_cannot_be_checked(changes: dict[str, object], name: str) -> None:
    """Absolute thresholds alone let them pass: 0.95 > 0.7 and 0.9 > 0.5."""
    assert carried(assign(layer_of_four()))[name] != []
    assert carried(assign(replace(layer_of_four(), **changes)))[name] == []  # type: ignore[arg-type]
