"""The bias against the counts, and one neuron's shift, by the definitions themselves."""

from collections.abc import Callable

import pytest
import torch

from analysis import nullspace, nullspace_study, token_frequency
from analysis.frequency import Unigram, unigram
from analysis.model import Model
from analysis.neuron_on_text import entropy_changes
from analysis.trace import intervene, trace
from analysis.types import InputError, Intervention, NeuronId
from tests import tiny
from tests.tolerance import identity, of_metrics, within

IDS = tiny.token_ids(9)


def counted(model: Model) -> Unigram:
    counts = torch.randint(0, 500, (model.d_vocab,), generator=torch.Generator().manual_seed(1))
    return unigram(counts, d_vocab=model.d_vocab, source="a test")


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_bias_predicts_what_a_stream_of_zero_does(name: str, tiny_model: Callable[..., Model]) -> None:
    model = tiny_model(name)
    counts = counted(model)
    bias = token_frequency.bias_prediction(model.readout, counts)
    log_p = model.readout.log_probs(torch.zeros(model.d_model, dtype=torch.float64))
    within(bias.log_p, log_p, of_metrics())
    assert bias.kl_unigram == pytest.approx(float((counts.p_freq * (counts.log_p - log_p)).sum()), abs=of_metrics())
    assert token_frequency.bias_prediction(model.readout, None).kl_unigram is None


def test_a_shift_is_two_log_softmaxes_apart(tiny_model: Callable[..., Model]) -> None:
    model = tiny_model("gpt2")
    counts, neuron = counted(model), NeuronId(1, 3)
    run = trace(model, IDS, unigram=counts)
    shift = token_frequency.shift(model, run, counts, neuron, 0.25)
    where = (run.last.activations[1:, 3] - 0.25).abs().argmax() + 1
    assert shift.position == int(where)
    held = intervene(model, run, [Intervention(neuron, "value", 0.25, positions=(shift.position,))])
    change = model.readout.log_probs(held.last.resid[where]) - model.readout.log_probs(run.last.resid[where])
    within(shift.change, change, identity(model))
    v = counts.log_p - counts.log_p.mean()
    assert shift.slope == pytest.approx(float(torch.linalg.lstsq(v[:, None], (change - change.mean())[:, None])[0]))


def test_spread_ids_are_known_and_no_more_than_asked_for() -> None:
    known = torch.arange(3, 1000, 7)
    assert token_frequency.spread(known, 10).tolist() == known[torch.arange(10) * len(known) // 10].tolist()
    assert token_frequency.spread(known, 10_000).tolist() == known.tolist()


def test_along_the_trivial_direction_nothing_moves(tiny_model: Callable[..., Model]) -> None:
    """All of its length is taken out by centring: neither logits nor the LN scale know of it."""
    readout = tiny_model("gpt2").readout
    spectrum = nullspace.spectrum(readout)
    x = torch.linspace(-1, 1, readout.d_model, dtype=torch.float64) ** 3
    walk = nullspace_study.walk(readout, spectrum, x, spectrum.d_model - 1, reach=2.0, steps=5)
    within(walk.frozen_change, torch.zeros(5, dtype=torch.float64), of_metrics())
    within(walk.entropy, walk.entropy[2].expand(5), of_metrics())
    other = nullspace_study.walk(readout, spectrum, x, 0, reach=2.0, steps=5)
    assert float(other.frozen_change.max()) > 1e3 * of_metrics()
    with pytest.raises(InputError, match="no direction"):
        nullspace_study.walk(readout, spectrum, x, spectrum.d_model, reach=1.0, steps=3)


def test_a_neuron_ablated_position_by_position(tiny_model: Callable[..., Model]) -> None:
    from analysis.effects import Engine

    model = tiny_model("gpt2")
    run = trace(model, IDS)
    changes = entropy_changes(Engine.build(model.readout), run.last, IDS, 2, mean=None)
    for position in (0, 4, 8):
        ablate = Intervention(NeuronId(1, 2), "zero", positions=(position,))
        held = intervene(model, run, [ablate])
        change = held.metrics.entropy[position] - run.metrics.entropy[position]
        assert float(changes[position]) == pytest.approx(float(change), abs=identity(model))
