"""The story's numbers are the instrument's own, and its steps move what they say."""

from collections.abc import Callable

import pytest
import torch

from analysis import story
from analysis.model import Model
from analysis.nullspace import spectrum
from analysis.trace import intervene, trace
from analysis.types import Intervention, NeuronId
from tests import tiny
from tests.tolerance import EFFECT

IDS = tiny.token_ids(12)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
def test_as_it_is_each_step_is_the_trace(name: str, tiny_model: Callable[..., Model]) -> None:
    model = tiny_model(name)
    run, readout = trace(model, IDS), model.readout
    x, last = run.last.resid, len(IDS) - 1
    entropy = story.scaled(readout, x, (1.0, 2.0))
    assert torch.allclose(entropy[:, 0], run.metrics.entropy, rtol=0, atol=EFFECT)
    assert (entropy[:, 1] < entropy[:, 0]).all()
    log_probs = story.held(readout, x[-1], [float(run.metrics.ln_scale[-1])])
    assert torch.allclose(log_probs[0], readout.log_probs(x[-1:])[0], rtol=0, atol=EFFECT)
    now = float(run.last.activations[last, 3])
    dial = story.dial(readout, run.last, last, 3, [now], n_random=2)
    assert float(dial.entropy[0]) == pytest.approx(float(run.metrics.entropy[last]), abs=EFFECT)
    assert int(dial.kept[0]) == min(story.KEPT, readout.d_vocab)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
def test_a_dial_is_the_intervention(name: str, tiny_model: Callable[..., Model]) -> None:
    model = tiny_model(name)
    run, last = trace(model, IDS), len(IDS) - 1
    dial = story.dial(model.readout, run.last, last, 5, [2.0])
    neuron = NeuronId(model.last_layer, 5)
    held = intervene(model, run, [Intervention(neuron, "value", value=2.0, positions=(last,))])
    assert float(dial.entropy[0]) == pytest.approx(float(held.metrics.entropy[last]), abs=EFFECT)
    assert float(dial.ln_scale[0]) == pytest.approx(float(held.metrics.ln_scale[last]), abs=EFFECT)


def test_what_nobody_reads_moves_the_scale_alone(tiny_model: Callable[..., Model]) -> None:
    model = tiny_model("gpt2", vocab_size=20)  # fewer tokens than dimensions: a null space that is exact
    readout, x = model.readout, trace(model, [id % 20 for id in IDS]).last.resid[-1]
    found = spectrum(readout)
    reach = float(readout.centre(x).norm())
    none = story.walk(readout, x, found.U[:, found.d_model - 2], 0.0, [0.0, reach, 3 * reach])
    most = story.walk(readout, x, found.U[:, 0], float(found.S[0]), [0.0, reach, 3 * reach])
    assert float(none.change.max()) < EFFECT
    assert float(none.ln_scale[2]) > 1.5 * float(none.ln_scale[0])
    assert float(most.change[2]) > 1e3 * EFFECT


def test_a_larger_scale_flattens_and_no_rank_changes(tiny_model: Callable[..., Model]) -> None:
    model = tiny_model("gpt2")
    x = trace(model, IDS).last.resid[-1]
    log_probs = story.held(model.readout, x, [0.5, 1.0, 2.0])
    z = (log_probs - model.readout.b_U.log_softmax(-1)).argsort(-1)
    assert torch.equal(z[0], z[2])
    low, mean, high = story.band(torch.rand(20, 3))
    assert (low <= mean).all()
    assert (mean <= high).all()
