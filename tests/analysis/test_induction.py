"""Clean measures, weighted differences and clipped ablation against the slow way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from analysis.controls import matched
from analysis.frequency import unigram
from analysis.induction import clipped, steps
from analysis.induction.curves import curve
from analysis.induction.differences import differences
from analysis.induction.measure import measure
from analysis.induction.natural import GRAM, Passage, natural_repeats
from analysis.induction.sequences import random_units, repeat
from analysis.induction.steps import complete
from analysis.trace import trace
from analysis.types import InputError, Intervention, NeuronId
from tests import tiny
from tests.tolerance import close, of_pass, of_sum, within

ALL = (*tiny.ARCHITECTURES, *tiny.POST_NORM)
COUNTS = unigram(torch.arange(tiny.N_TOKENS), d_vocab=tiny.D_VOCAB, source="made up")
METRICS = ("entropy", "loss", "ln_scale", "top1_prob", "rank", "kl_unigram")


def rows(n_rows=3, length=7):
    return repeat(
        random_units(torch.arange(tiny.N_TOKENS), excluded={0, 1, 2}, length=length, n_rows=n_rows, seed=1), bos=1
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("per_batch", [1, 2, 3])
def test_batched_measures_are_single_traces(name, per_batch, tiny_model, monkeypatch):
    monkeypatch.setattr("analysis.induction.steps.rows_per_batch", lambda model, n: per_batch)
    model, repeated = tiny_model(name), rows()
    neurons = [NeuronId(0, 3), NeuronId(1, 5)]
    work = measure(model, repeated.tokens, neurons=neurons, unigram=COUNTS)
    done = [step.done for step in iter_steps(work)]
    assert done == list(range(1, -(-3 // per_batch) + 1))
    found = complete(measure(model, repeated.tokens, neurons=neurons, unigram=COUNTS))
    for row, ids in enumerate(repeated.tokens.tolist()):
        alone = trace(model, ids, neurons=neurons, unigram=COUNTS)
        for metric in METRICS:
            got, expected = getattr(found.metrics, metric)[row], getattr(alone.metrics, metric)
            within(got, expected, of_pass(name), equal_nan=True)
        for neuron in neurons:
            within(found.watched[neuron][row], alone.activations[neuron], of_pass(name))


def iter_steps(work):
    while True:
        try:
            yield next(work)
        except StopIteration:
            return


def test_curves_are_mean_and_quantiles():
    values = torch.rand(11, 5, dtype=torch.float64)
    found = curve(values)
    close(found.mean, values.mean(0), 11)
    close(found.low, values.sort(0).values[1], 2)  # 10 % of 11 rows
    close(found.high, values.sort(0).values[9], 2)


def test_weighted_differences_by_hand(tiny_model):
    model, repeated = tiny_model("gpt2"), rows()
    found = differences(model.readout, complete(measure(model, repeated.tokens)).activations, repeated)
    runs = [trace(model, ids) for ids in repeated.tokens.tolist()]
    first = torch.stack([run.last.activations[1:8] for run in runs]).mean((0, 1))
    second = torch.stack([run.last.activations[8:15] for run in runs]).mean((0, 1))
    within(found.weighted, (second - first) * model.readout.W_out.norm(dim=1), of_pass())


@pytest.mark.parametrize("name", ALL)
def test_clipped_ablation_is_the_hooked_forward_pass(name, tiny_model):
    model, repeated = tiny_model(name), rows()
    neurons = [NeuronId(1, 4), NeuronId(1, 9), NeuronId(1, 30)]
    measured = complete(measure(model, repeated.tokens))
    found = clipped.clip(model, measured, repeated, neurons)
    for row, ids in enumerate(repeated.tokens.tolist()):
        hooked = trace(model, ids, interventions=found.rules)
        within(found.total.entropy[row], hooked.metrics.entropy, of_pass(name))
        within(found.total.loss[row], hooked.metrics.loss, of_pass(name), equal_nan=True)
        frozen = model.readout.logits(hooked.last.resid, scale=measured.metrics.ln_scale[row]).log_softmax(-1)
        within(found.frozen.entropy[row], -(frozen.exp() * frozen).sum(-1), of_pass(name))
    assert (found.total.entropy - found.clean.entropy).abs().max() > 10 * of_pass(name)
    assert (found.frozen.entropy - found.total.entropy).abs().max() > 10 * of_pass(name)


def test_clipping_moves_nothing_on_the_allowed_side(tiny_model):
    model, repeated = tiny_model("gpt2"), rows()
    measured = complete(measure(model, repeated.tokens))
    found = differences(model.readout, measured.activations, repeated)
    for index in range(model.d_mlp):
        rule = clipped.clip_rule(NeuronId(1, index), found)
        before = measured.activations[:, :, index]
        after = clipped.clipped_activations(measured.activations, [rule])[:, :, 0]
        m = found.first[index]
        rises = found.second[index] > m
        allowed = before <= m if rises else before >= m
        assert torch.equal(after[allowed], before[allowed])
        assert torch.equal(after[~allowed], m.to(after).expand_as(after[~allowed]))


def test_a_clip_that_touches_nothing_changes_nothing(tiny_model):
    model, repeated = tiny_model("gpt2"), rows()
    measured = complete(measure(model, repeated.tokens))
    resid = clipped.moved_resid(model.readout, measured, [Intervention(NeuronId(1, 3), "clip", max=1e9)])
    assert torch.equal(resid, measured.resid)


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_controls_are_the_same_clips_along_other_directions(name, tiny_model):
    """As a model whose chosen neurons write along the controls' rows would be clipped."""
    model, repeated = tiny_model(name), rows()
    chosen = [NeuronId(1, 4), NeuronId(1, 9)]
    indices, where = [4, 9], repeated.repeats
    measured = complete(measure(model, repeated.tokens))
    made = complete(clipped.controls(model, measured, repeated, chosen, n_controls=3, seed=2))
    norms = model.readout.W_out[indices].norm(dim=1)
    for control, directions in zip(made, matched(model.readout, indices, n_sets=3, seed=2), strict=True):
        W_out = model.readout.W_out.clone()
        W_out[indices] = directions
        again = clipped.clip(model, measured, repeated, chosen, readout=replace(model.readout, W_out=W_out))
        within(control.ratio, again.ratio().mean[where], of_pass(name))
        within(control.loss_change, again.loss_change().mean[where], of_pass(name), equal_nan=True)
        within(torch.tensor(control.norms, dtype=norms.dtype), norms, of_sum(model.d_model, scale=float(norms.max())))
    assert len({float(control.ratio[0]) for control in made}) == 3


def test_refusals(tiny_model):
    model, repeated = tiny_model("gpt2"), rows()
    measured = complete(measure(model, repeated.tokens))
    for neurons, words in (
        ([], "No neuron"),
        ([NeuronId(0, 1)], "not in the last layer"),
        ([NeuronId(1, 1)] * 2, "twice"),
    ):
        with pytest.raises(InputError, match=words):
            clipped.clip(model, measured, repeated, neurons)


def test_natural_repeats_are_aligned(tiny_model):
    """Passages of different lengths share a batch; each is what its own trace shows."""
    model = tiny_model("gpt2")
    gram = list(range(40, 46))
    passages = [
        Passage((1, *gram, 50, 60, *gram, 51, 70), 1, 9),
        Passage((1, 80, *gram, 52, 61, 62, 63, *gram, 52, 70, 71), 2, 12),
    ]
    neuron = NeuronId(1, 5)
    found = complete(natural_repeats(model, passages, neurons=[neuron], unigram=COUNTS))
    runs = [trace(model, passage.row, neurons=[neuron], unigram=COUNTS) for passage in passages]
    for name, aligned in (("first", found.clean.first), ("second", found.clean.second)):
        starts = [getattr(passage, name) for passage in passages]
        for metric in ("entropy", "loss", "kl_unigram"):
            expected = torch.stack(
                [getattr(run.metrics, metric)[s : s + GRAM + 1] for run, s in zip(runs, starts, strict=True)]
            )
            within(aligned[metric].mean, expected.mean(0), of_pass())
        values = torch.stack([run.activations[neuron][s : s + GRAM + 1] for run, s in zip(runs, starts, strict=True)])
        within(aligned[str(neuron)].mean, values.mean(0), of_pass())
    assert found.clipped is not None
    (rule,) = found.rules
    hooked = [trace(model, passage.row, interventions=[rule]) for passage in passages]
    expected = torch.stack(
        [run.metrics.entropy[p.second : p.second + 7] for run, p in zip(hooked, passages, strict=True)]
    )
    within(found.clipped.second["entropy"].mean, expected.mean(0), of_pass())


def test_batches_are_sized_by_work(tiny_model):
    assert steps.rows_per_batch(tiny_model("gpt2"), 16) > 1000
