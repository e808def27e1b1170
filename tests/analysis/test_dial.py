"""What the dial tells of its texts and twins is what hooked passes over the finished texts tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.crossing import Crossing
from analysis.dial import FEWEST, FURTHEST, MOST, NAMES, Arm, Setting, mean_over_texts, repetition, shared, turn
from analysis.generate import Sampling, generate
from analysis.model import Model
from analysis.trace import trace
from analysis.types import InputError, Intervention, NeuronId
from tests import tiny

PROMPT = tuple(tiny.token_ids(6))
LAST, EARLY = NeuronId(1, 3), NeuronId(0, 5)
SETTING = Setting(PROMPT, 6, Sampling(1.0, seed=3), seeds=2, stop_at_eos=False)
UP, DOWN, EARLIER = (
    [Intervention(LAST, "scale", 4.0)],
    [Intervention(LAST, "scale", -2.0), Intervention(NeuronId(1, 7), "scale", -2.0)],
    [Intervention(EARLY, "value", 2.0)],
)


def arms(model: Model, dials: list[list[Intervention]], setting: Setting = SETTING, **more: object) -> list[Arm]:
    return [step for step in turn(model, setting, dials, **more) if isinstance(step, Arm)]


def entropies(
    model: Model, text: tuple[int, ...], turned: list[Intervention], temperature: float = 1.0
) -> torch.Tensor:
    """Of the predictions of the written tokens, from the model's own logits."""
    ids = [*PROMPT, *text]
    run = trace(model, ids, interventions=turned)
    log_probs = (model.readout.logits(run.last.resid) / temperature).log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)[len(PROMPT) - 1 : -1]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_a_dial_at_1_writes_the_undisturbed_text_token_for_token(name, tiny_model):
    undisturbed, *others = arms(tiny_model(name), [[Intervention(LAST, "scale", 1.0)]])
    for arm in others:
        assert [text.token_ids for text in arm.texts] == [text.token_ids for text in undisturbed.texts]
        assert all(text.numbers.shared == text.numbers.length for text in arm.texts)


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
@pytest.mark.parametrize("dial", [UP, DOWN, EARLIER])
def test_texts_are_those_that_the_turned_model_writes_and_judged_by_the_undisturbed_one(name, dial, tiny_model):
    model = tiny_model(name)
    _, turned = arms(model, [dial], twins=False)
    for number, text in enumerate(turned.texts):
        sampling = Sampling(1.0, seed=3 + number)
        steps = generate(model, PROMPT, max_new_tokens=6, sampling=sampling, interventions=dial)
        assert text.token_ids == tuple(step.token_id for step in steps)
        found = entropies(model, text.token_ids, dial)
        assert text.numbers.entropy == pytest.approx(float(found.mean()), abs=1e-6)
        assert text.entropy == pytest.approx(found.tolist(), abs=1e-6)
        plain = trace(model, [*PROMPT, *text.token_ids]).metrics.loss[len(PROMPT) - 1 : -1]
        assert text.numbers.loss == pytest.approx(float(plain.mean()), abs=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
@pytest.mark.parametrize("dial", [UP, DOWN, EARLIER])
def test_twins_are_matched_on_the_undisturbed_texts(name, dial, tiny_model):
    model = tiny_model(name)
    undisturbed, _, warm, random = arms(model, [dial], spared=[NeuronId(1, 9)])
    texts = [text.token_ids for text in undisturbed.texts]
    wanted = torch.cat([entropies(model, text, dial) for text in texts]).mean()
    reached = torch.cat([entropies(model, text, [], warm.temperature) for text in texts]).mean()
    assert float(reached) == pytest.approx(float(wanted), abs=2e-5)
    assert warm.matched == pytest.approx((float(wanted), float(reached)), abs=1e-6)
    for text, own in zip(texts, random.texts, strict=True):
        plain = entropies(model, text, [])
        times = len(own.neurons) // len(dial)
        assert len(own.neurons) == times * len(dial)
        assert times in (1, 2, 4, 8, 16)
        assert not {item.neuron for item in dial} & set(own.neurons)
        assert NeuronId(1, 9) not in own.neurons
        scaled = [Intervention(neuron, "scale", own.factor) for neuron in own.neurons]
        target = float((entropies(model, text, dial) - plain).abs().mean())
        got = float((entropies(model, text, scaled) - plain).abs().mean())
        last = times == MOST or 2 * len(own.neurons) > model.d_mlp - len(dial) - 1
        short = got < target and abs(own.factor - 1) == FURTHEST and last
        assert got == pytest.approx(target, abs=2e-5) or short
        assert (own.factor < 1) == (dial is DOWN)


def test_the_twin_by_temperature_has_the_entropies_it_was_drawn_from(tiny_model):
    model = tiny_model("gpt2")
    warm = arms(model, [DOWN])[2]
    for text in warm.texts:
        found = entropies(model, text.token_ids, [], warm.temperature)
        assert text.entropy == pytest.approx(found.tolist(), abs=1e-6)


def test_numbers_of_a_text():
    assert repetition([1, 2, 3]) == 0.0
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)  # 1234 2341 3412 4123 1234
    assert shared([1, 2, 3], [1, 2, 4]) == 2
    assert shared([1, 2], [1, 2, 4]) == 2
    assert shared([], [1]) == 0


def test_a_mean_has_an_interval_once_there_are_texts_enough():
    values = np.arange(20.0)
    told = mean_over_texts(values, values - 3)
    assert told.low < told.mean == 9.5 < told.high
    assert told.difference_low == pytest.approx(told.low - 3)
    exact = values.std() / math.sqrt(20)
    assert (told.high - told.low) / 2 == pytest.approx(1.96 * exact, rel=0.1)
    assert math.isnan(mean_over_texts(values[: FEWEST - 1], values[: FEWEST - 1]).low)


@pytest.mark.parametrize(("low", "high", "at"), [(0.0, 2.0, 1.3), (0.0, 1.0, 1.0), (2.0, 3.0, 2.0), (-5.0, 5.0, -4.9)])
def test_a_crossing_is_found(low, high, at):
    search = Crossing(low, high)
    while not search.done:
        search.take((search.at - at) ** 3 + (search.at - at))
    assert search.at == pytest.approx(at, abs=1e-4)


def test_it_ends_with_the_end_of_text_and_with_the_context(tiny_model):
    model = tiny_model("gpt2")
    first = arms(model, [])[0].texts[0].token_ids[0]
    ending = Setting(PROMPT, 6, Sampling(1.0, seed=3))
    model.tokenizer.eos_token_id, before = first, model.tokenizer.eos_token_id
    try:
        undisturbed, *others = arms(model, [UP], ending)
    finally:
        model.tokenizer.eos_token_id = before
    assert undisturbed.texts[0].token_ids == (first,)
    assert undisturbed.texts[0].ended
    assert len(others) == 3
    full = Setting(tuple(tiny.token_ids(tiny.N_CTX - 2)), 6, Sampling(1.0), stop_at_eos=False)
    assert {text.numbers.length for arm in arms(model, [UP], full) for text in arm.texts} == {2}
    with pytest.raises(InputError):
        arms(model, [UP], Setting(tuple(tiny.token_ids(tiny.N_CTX)), 6, Sampling(1.0)))


def test_many_seeds_without_chance_are_refused():
    with pytest.raises(InputError):
        Setting(PROMPT, 6, Sampling(0.0), seeds=2)


def test_every_number_has_a_mean(tiny_model):
    undisturbed, turned = arms(tiny_model("gpt2"), [UP], twins=False)
    told = turned.means(undisturbed)
    assert tuple(told) == NAMES
    for name in NAMES:
        own, other = ([getattr(text.numbers, name) for text in arm.texts] for arm in (turned, undisturbed))
        assert told[name].mean == pytest.approx(np.mean(own))
        assert told[name].difference == pytest.approx(np.mean(own) - np.mean(other))
