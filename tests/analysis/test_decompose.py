"""Shares of a prediction's entropy sum to what they explain, and each is what it says it is (METHODS section 10)."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import pytest
import torch
from torch.func import grad

from analysis.components import BATCH, TOKENS, MeanWrites, mean_writes, rows_at_once, writes
from analysis.decompose import Split, Target, ablations, decompose, mean_gradient
from analysis.model import Model
from analysis.trace import hooks_of, trace
from analysis.types import HeadId, HeadIntervention, InputError, Intervention, NeuronId
from analysis.written import read
from tests import tiny
from tests.tolerance import close, of_sum

ALL = (*tiny.ARCHITECTURES, *tiny.POST_NORM)
IDS = tiny.token_ids(9)
OTHER = [tiny.token_ids(11, seed=1), tiny.token_ids(7, seed=2)]
INSIDE = {name: torch.float32 if name in tiny.POST_NORM else torch.float64 for name in ALL}
"""What a norm after the MLP is computed in, whatever the model's dtype."""
TARGETS = [Target(), Target("loss"), Target("log_prob", 3)]


def reference(model: Model) -> MeanWrites:
    *_, last = mean_writes(model, OTHER, source="other rows")
    assert last.result is not None
    return last.result


def split(model: Model, position: int = 5, **options: object) -> Split:
    (only,) = decompose(model, IDS, [position], **options)
    return only


def rounding(one: Split, name: str) -> float:
    """What the parts may lose: they are sums over the stream, in what a norm behind the MLP is computed in."""
    size = float(one.direct.abs().sum() + one.through.abs().sum() + one.neuron_direct.abs().sum())
    return of_sum(tiny.D_MODEL + tiny.D_MLP, INSIDE[name], size + 1)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
@pytest.mark.parametrize("name", ALL)
def test_the_shares_sum_to_the_difference(name, target, tiny_model):
    model = tiny_model(name)
    one = split(model, baseline=reference(model), target=target, complete=1e-9)
    assert abs(one.error) < 1e-9 + rounding(one, name)
    assert float(one.total.sum()) == pytest.approx(one.value - one.baseline, abs=1e-9 + rounding(one, name))
    if target.kind != "log_prob":
        clean = trace(model, IDS).metrics
        assert one.value == pytest.approx(float(getattr(clean, target.kind)[5]), abs=rounding(one, name))


@pytest.mark.parametrize("name", ALL)
def test_an_intervened_pass_is_split_as_exactly(name, tiny_model):
    """In the first block and the last, neurons and a head: the parts are those of the stream that the run had."""
    model = tiny_model(name)
    done = [
        Intervention(NeuronId(0, 3), "value", 2.0),
        Intervention(NeuronId(model.last_layer, 5), "zero"),
        HeadIntervention(HeadId(0, 1), "zero"),
    ]
    run = read(model, IDS, interventions=done)
    (one,) = decompose(model, run, [5], baseline=reference(model), complete=1e-9)
    assert abs(one.error) < 1e-9 + rounding(one, name)
    there = trace(model, IDS, interventions=done).metrics
    assert one.value == pytest.approx(float(there.entropy[5]), abs=rounding(one, name))


@pytest.mark.parametrize("name", ALL)
def test_the_neurons_shares_sum_to_the_last_mlps(name, tiny_model):
    model = tiny_model(name)
    one = split(model)
    mlp = next(i for i, c in enumerate(one.components) if c.name == f"L{model.last_layer}.mlp")
    for neurons, parts in ((one.neuron_direct, one.direct), (one.neuron_through, one.through)):
        assert float(neurons.sum()) == pytest.approx(float(parts[mlp]), abs=rounding(one, name))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_the_gradient_is_that_of_automatic_differentiation(name, target, tiny_model):
    """One node: the two parts together are the gradient half-way."""
    model = tiny_model(name)
    readout, x0 = model.readout, reference(model).stream
    last = f"blocks.{model.last_layer}.hook_resid_post"
    x = model.run(model.tokens(IDS), capture=[last])[last][0, 5].double()

    def value(stream: torch.Tensor) -> torch.Tensor:
        log_p = readout.logits(stream).log_softmax(-1)
        if target.kind == "entropy":
            return -(log_p.exp() * log_p).sum()
        return -log_p[IDS[6]] if target.kind == "loss" else log_p[3]

    followed = torch.tensor([IDS[6] if target.kind == "loss" else 3])
    direct, through = mean_gradient(readout, x[None], x0[None], target, followed, 1)
    with torch.inference_mode(False):
        middle = ((x + x0) / 2).clone().to(readout.W_U)
        oracle = grad(value)(middle)
    close((direct + through)[0], oracle.double(), tiny.D_MODEL + readout.d_vocab, scale=float(oracle.abs().sum()) + 1)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
def test_sums_over_the_vocabulary_in_float64_are_those_of_a_wider_model(target):
    """Where float32 stands between the shares and their sum; here of every position, in parts of the vocabulary."""
    model = tiny.model("gpt2", dtype=torch.float32)
    readout = model.readout
    wider = replace(readout, W_U=readout.W_U.double(), b_U=readout.b_U.double())
    x0, x = torch.randn(2, 3, tiny.D_MODEL, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    followed = torch.tensor([3, 4, 5])
    asked = (x, x0, target, followed, 4)
    for found, expected in zip(
        mean_gradient(readout, *asked, in_float64=True), mean_gradient(wider, *asked), strict=True
    ):
        close(found, expected, tiny.D_MODEL + tiny.D_VOCAB, scale=float(expected.abs().sum()) + 1)


def deaf(model: Model, neuron: int) -> Model:
    """The model with an unembedding that does not read the direction of one last-layer neuron's write."""
    changed, readout = copy(model), model.readout
    write = readout.W_out[neuron] / readout.W_out[neuron].norm()
    changed.readout = replace(readout, W_U=readout.W_U - write[:, None] * (write @ readout.W_U))
    return changed


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_what_no_token_reads_acts_through_the_scale_alone(name, tiny_model):
    """A neuron that writes into the exact null space of W_U has direct share 0, and a share all the same."""
    one = split(deaf(tiny_model(name), 4))
    assert abs(float(one.neuron_direct[4])) < of_sum(tiny.D_MODEL, torch.float64, float(one.neuron_direct.abs().sum()))
    assert abs(float(one.neuron_through[4])) > 1e-6


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_planted_entropy_neuron_has_its_planted_share(name, tiny_model):
    """A baseline that differs from here in one unread neuron alone: it has the whole difference, all by the scale."""
    model = deaf(tiny_model(name), 4)
    run = read(model, IDS)
    at = {name: value[5] for name, value in run.terms.items()}
    here, activation = writes(model, at, positions=run.means.positions), at["neurons"]
    row = model.write_rows(model.last_layer)[4].double()
    planted = 8 * here.sum(0).norm() / row.norm()
    moved = torch.zeros_like(activation)
    moved[4] = planted
    mlp = [component.name for component in run.means.components].index(f"L{model.last_layer}.mlp")
    without = here.clone()
    without[mlp] -= planted * row
    baseline = replace(run.means, writes=without, neurons=activation - moved)
    one = split(model, baseline=baseline, complete=1e-9)
    bound = 1e-9 + rounding(one, name)
    assert abs(one.value - one.baseline) > 1e-3
    assert float(one.neuron_through[4]) == pytest.approx(one.value - one.baseline, abs=bound)
    assert float(one.neuron_direct[4]) == pytest.approx(0, abs=bound)
    others = torch.arange(len(one.neuron_total)) != 4
    assert float(one.neuron_total[others].abs().max()) == pytest.approx(0, abs=bound)


def test_long_texts_are_ablated_in_smaller_passes():
    assert rows_at_once(1) == BATCH
    for length in (100, 400, 5000):
        assert 1 <= rows_at_once(length) <= max(1, TOKENS // length)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_another_baseline_changes_the_shares_and_never_what_they_sum_to(name, tiny_model):
    model = tiny_model(name)
    prompt, other = split(model, complete=1e-9), split(model, baseline=reference(model), complete=1e-9)
    assert prompt.value == other.value
    assert not torch.allclose(prompt.total, other.total, atol=1e-6)
    for one in (prompt, other):
        assert one.baseline + float(one.total.sum()) == pytest.approx(one.value, abs=1e-9 + rounding(one, name))


@pytest.mark.parametrize("name", ALL)
def test_through_a_scale_that_is_held_nothing_acts(name, tiny_model):
    """All of a share is direct, and the shares sum to the difference of the values under the held scale."""
    model = tiny_model(name)
    held = model.readout.with_constant_scale(1.7)
    one = split(model, baseline=reference(model), complete=1e-9, readout=held)
    assert float(one.through.abs().max()) == 0
    assert float(one.neuron_through.abs().max()) == 0
    assert abs(one.error) < 1e-9 + rounding(one, name)
    there = trace(model, IDS, readout=held).metrics
    assert one.value == pytest.approx(float(there.entropy[5]), abs=rounding(one, name))


@pytest.mark.parametrize("disturbed", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_an_ablation_is_that_of_a_hooked_pass(name, disturbed, tiny_model):
    """Undisturbed, and under interventions, one of which lies behind the position: each pass is run under them."""
    model, position = tiny_model(name), 5
    means = reference(model)
    done = [Intervention(NeuronId(0, 3), "value", 2.0, positions=(2, 7)), HeadIntervention(HeadId(0, 1), "mean")]
    done = done if disturbed else []
    hooks = hooks_of(model, model.tokens(IDS), done, None)
    run = read(model, IDS, interventions=done)
    effects = dict(ablations(model, run, position, means, neurons=[3], hooks=hooks))
    clean = float(trace(model, IDS, interventions=done).metrics.entropy[position])
    assert len(effects) == len(means.components)  # the biases have none, the neuron is one more
    layer = model.last_layer
    component = next(c for c in means.components if c.name == f"L{layer}.mlp")
    names = [f"blocks.{layer}.hook_resid_post", f"blocks.{layer}.hook_mlp_out"]
    run = model.run(model.tokens(IDS), capture=names, hooks=hooks)
    wrote = run[f"blocks.{layer}.hook_mlp_out"][0, position].double()
    bias = model.mlp_bias(layer, "b_out")
    mean = means.writes[means.components.index(component)] + (0 if bias is None else bias)
    stream = run[f"blocks.{layer}.hook_resid_post"][0, position].double() - wrote + mean
    log_p = model.readout.log_probs(stream.to(model.readout.W_U))
    expected = clean - float(-(log_p.exp() * log_p).sum())
    assert effects[component] == pytest.approx(expected, abs=of_sum(tiny.D_MODEL, INSIDE[name], 10))


def test_loss_and_log_probability_of_the_next_token_are_each_others_negative(tiny_model):
    model = tiny_model("gpt2")
    loss, log_prob = split(model, target=Target("loss")), split(model, target=Target("log_prob", IDS[6]))
    torch.testing.assert_close(loss.direct, -log_prob.direct)
    torch.testing.assert_close(loss.through, -log_prob.through)


def test_all_positions_are_those_one_by_one(tiny_model):
    model = tiny_model("gpt2")
    means = reference(model)
    for one in decompose(model, IDS, range(len(IDS)), baseline=means):
        torch.testing.assert_close(one.total, split(model, one.position, baseline=means).total)


@pytest.mark.parametrize(
    ("target", "position", "words"),
    [(Target(), 9, "0 to 8"), (Target("loss"), 8, "no next token"), (Target("log_prob", 10**6), 2, "vocabulary")],
)
def test_what_cannot_be_asked_is_refused(target, position, words, tiny_model):
    with pytest.raises(InputError) as refused:
        split(tiny_model("gpt2"), position, target=target)
    assert words in refused.value.told


def test_a_target_that_means_nothing_is_refused():
    for wrong in ({"kind": "rank"}, {"kind": "log_prob"}, {"kind": "entropy", "token_id": 3}):
        with pytest.raises(InputError):
            Target(**wrong)


@pytest.mark.parametrize("name", tiny.POST_NORM)
def test_what_a_norm_rescales_is_written_as_it_joins_the_stream(name, tiny_model):
    """Behind a norm the writes sum to the stream all the same. The unembedding is wider than the tokenizer, and the
    entropy counts what the model counts (`test_the_shares_sum_to_the_difference`)."""
    model = tiny_model(name)
    run = read(model, IDS)
    whole = writes(model, run.terms, positions=run.means.positions).sum(0)
    bound = of_sum(len(run.means.components) * tiny.D_MLP, torch.float32, float(run.stream.abs().max()) + 1)
    assert float((whole - run.stream).abs().max()) < bound
    assert model.readout.d_vocab > tiny.N_TOKENS
