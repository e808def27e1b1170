"""A trace is transformers' own forward pass; an intervention in closed form is the hooked one."""

from __future__ import annotations

import pytest
import torch

from analysis.frequency import unigram
from analysis.trace import intervene, top_tokens, trace
from analysis.types import InputError, Intervention, NeuronId, NotFoundError, NotReadyError, Span
from tests import tiny
from tests.tolerance import close, identity, of_metrics, of_pass, within

ALL = (*tiny.ARCHITECTURES, *tiny.POST_NORM)
COUNTS = unigram(torch.arange(tiny.N_TOKENS), d_vocab=tiny.D_VOCAB, source="made up")


@pytest.mark.parametrize("name", ALL)
def test_metrics_equal_those_of_transformers_logits(name, tiny_model):
    """Against a fresh transformers model of the same seed that no bridge has touched."""
    ids = tiny.token_ids(14)
    result = trace(tiny_model(name), ids, unigram=COUNTS)
    with torch.inference_mode():
        log_p = tiny.hf_model(name)(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    p, bound = log_p.exp(), of_pass(name)
    within(result.metrics.entropy, -(p * log_p).sum(-1), bound)
    within(result.metrics.loss[:-1], -log_p[torch.arange(13), torch.tensor(ids[1:])], bound)
    within(result.metrics.top1_prob, p.amax(-1), bound)
    within(result.metrics.kl_unigram, (COUNTS.p_freq * (COUNTS.log_p - log_p)).sum(-1), bound)
    expected_rank = (log_p[:-1] > log_p[torch.arange(13), torch.tensor(ids[1:])][:, None]).sum(-1)
    assert result.metrics.rank[:-1].tolist() == expected_rank.tolist()


def test_last_position_has_no_loss_and_no_rank(tiny_model):
    result = trace(tiny_model("gpt2"), tiny.token_ids(5))
    assert torch.isnan(result.metrics.loss[-1])
    assert result.metrics.rank[-1] == -1
    assert result.target(4) is None
    assert result.target(3) == result.token_ids[4]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_closed_form_equals_hooks(name, dtype, tiny_model):
    model = tiny_model(name, dtype=dtype)
    last = model.last_layer
    means = torch.rand(model.n_layers, model.d_mlp, generator=torch.Generator().manual_seed(0))
    interventions = [
        Intervention(NeuronId(last, 3), "zero"),
        Intervention(NeuronId(last, 4), "mean", positions=(0, 5)),
        Intervention(NeuronId(last, 5), "value", value=2.0, positions=Span(2, 9)),
        Intervention(NeuronId(last, 6), "scale", value=-3.0),
        Intervention(NeuronId(last, 7), "clip", min=0.1, max=0.2),
    ]
    clean = trace(model, tiny.token_ids(12), unigram=COUNTS, neurons=[NeuronId(last, 5), NeuronId(0, 1)])
    closed, hooked = (
        intervene(model, clean, interventions, unigram=COUNTS, means=means, method=method)
        for method in ("closed_form", "hooks")
    )
    for field in ("entropy", "loss", "ln_scale", "top1_prob", "kl_unigram"):
        got, expected = getattr(closed.metrics, field), getattr(hooked.metrics, field)
        within(got, expected, identity(model), equal_nan=True)
    assert (closed.metrics.entropy - clean.metrics.entropy).abs().max() > 1e-3
    for neuron, values in closed.activations.items():
        close(values, hooked.activations[neuron], tiny.D_MODEL)


def test_earlier_layers_take_a_real_pass(tiny_model):
    model = tiny_model("llama")
    clean = trace(model, tiny.token_ids(8))
    changed = intervene(model, clean, [Intervention(NeuronId(0, 2), "value", value=4.0, positions=(3,))])
    difference = (changed.metrics.entropy - clean.metrics.entropy).abs()
    assert difference[:3].max() == 0, "positions before the intervention cannot change"
    assert difference[3:].max() > 1e-4


def test_no_hook_survives_an_exception(tiny_model):
    model = tiny_model("gpt2")
    before = trace(model, tiny.token_ids(8)).metrics.entropy

    def fail(activation: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        model.run(model.tokens(tiny.token_ids(8)), hooks=[("blocks.1.mlp.hook_post", fail)])
    assert torch.equal(trace(model, tiny.token_ids(8)).metrics.entropy, before)


def test_freezing_the_scale_hook_changes_the_logits(tiny_model):
    """METHODS section 8: an in-place edit of the scale can be lost; a returned tensor must not be."""
    model = tiny_model("gpt2")
    tokens = model.tokens(tiny.token_ids(8))
    doubled = model.logits(tokens, hooks=[("ln_final.hook_scale", lambda s: 2 * s)])
    assert (doubled - model.logits(tokens)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("intervention", "error"),
    [
        (Intervention(NeuronId(1, 400), "zero"), NotFoundError),
        (Intervention(NeuronId(9, 0), "zero"), NotFoundError),
        (Intervention(NeuronId(1, 0), "mean"), NotReadyError),
        (Intervention(NeuronId(1, 0), "zero", positions=(99,)), InputError),
        (Intervention(NeuronId(1, 0), "zero", positions=Span(3, 3)), InputError),
    ],
)
def test_impossible_interventions_are_refused(intervention, error, tiny_model):
    with pytest.raises(error):
        trace(tiny_model("gpt2"), tiny.token_ids(6), interventions=[intervention])


def test_two_interventions_on_one_neuron_and_position_are_refused(tiny_model):
    model, neuron = tiny_model("gpt2"), NeuronId(1, 0)
    both = [Intervention(neuron, "zero", positions=(1, 2)), Intervention(neuron, "value", value=1.0, positions=(2,))]
    with pytest.raises(InputError, match="position 2"):
        trace(model, tiny.token_ids(6), interventions=both)
    apart = [both[0], Intervention(neuron, "value", value=1.0, positions=(3,))]
    assert len(trace(model, tiny.token_ids(6), interventions=apart)) == 6


@pytest.mark.parametrize("ids", [[], [1] * 49, [1, tiny.D_VOCAB], [-1]])
def test_impossible_tokens_are_refused(ids, tiny_model):
    with pytest.raises(InputError):
        trace(tiny_model("gpt2"), ids)


def test_top_tokens_are_sorted_and_normalised(tiny_model):
    model = tiny_model("gpt2")
    result = trace(model, tiny.token_ids(6))
    top = top_tokens(model.readout, result.last.resid, tiny.D_VOCAB)
    assert (top.log_probs.diff(dim=-1) <= 0).all()
    close(top.log_probs.exp().sum(-1), torch.ones(6, dtype=torch.float64), 2 * tiny.D_VOCAB)


def test_long_texts_in_chunks_equal_one_chunk(tiny_model, monkeypatch):
    model, ids = tiny_model("gpt2"), tiny.token_ids(20)
    whole = trace(model, ids, unigram=COUNTS).metrics
    monkeypatch.setattr("analysis.metrics.VOCAB_CHUNK_ELEMENTS", 3 * tiny.D_VOCAB)
    parts = trace(model, ids, unigram=COUNTS).metrics
    for field in ("entropy", "loss", "kl_unigram", "rank"):
        within(getattr(whole, field), getattr(parts, field), of_metrics(), equal_nan=True)
