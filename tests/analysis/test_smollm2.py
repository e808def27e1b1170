"""SmolLM2-135M as it comes in its package: a real model of others, four bits a weight, read through GGUF."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from analysis import frequency, reference, sinks
from analysis.chat import Turn
from analysis.generate import Sampling, generate
from analysis.model import Model
from analysis.registry import bundled
from analysis.trace import trace
from app.core.residency import means
from app.core.settings import Settings
from tests.real import SMOLLM2, TEXT, assert_effects_are_plain, entropy_label
from tests.tolerance import EFFECT

NEURONS = [830, 1022, 511, 1165, 729, 1438, 684, 999, 1272, 0]


@pytest.mark.real
@pytest.mark.slow
def test_smollm2_goes_on_as_it_should(smollm2: Model) -> None:
    assert (smollm2.n_layers, smollm2.d_model, smollm2.d_mlp, smollm2.n_tokens) == (30, 576, 1536, 49_152)
    assert not smollm2.prepends_bos()
    ids = smollm2.encode(TEXT)
    assert "".join(smollm2.token_texts(ids)) == TEXT
    assert float(trace(smollm2, ids).metrics.loss[:-1].mean()) < 3  # a model that reads English; a broken one has 10


@pytest.mark.real
@pytest.mark.slow
def test_effects_are_those_of_plain_transformers_in_float64(smollm2: Model, smollm2_folder: Path) -> None:
    """Ten neurons at three positions."""
    assert_effects_are_plain(smollm2, smollm2_folder, NEURONS, (3, 12, len(smollm2.encode(TEXT)) - 2))


@pytest.mark.real
@pytest.mark.slow
def test_what_is_told_while_it_writes_is_what_a_trace_of_the_text_tells(smollm2: Model) -> None:
    """To 2e-5 of a number's size (float32: an LN scale of 40, a KL of 13 nats), in one go and in two."""
    counted = frequency.unigram(torch.arange(smollm2.d_vocab), d_vocab=smollm2.d_vocab, source="a ramp")
    ids = smollm2.encode("The old man shook his head and said that")
    options = {"sampling": Sampling(0.8, seed=1), "unigram": counted}
    once = list(generate(smollm2, ids, max_new_tokens=32, **options))
    written = [step.token_id for step in once]
    again = list(generate(smollm2, ids, max_new_tokens=16, written=written[:16], **options))
    assert [step.token_id for step in again] == written
    told = trace(smollm2, [*ids, *written], unigram=counted).metrics
    assert told.kl_unigram is not None
    for step in (*once, *again):
        at = step.position - 1
        for found, expected in (
            (step.entropy, told.entropy),
            (step.ln_scale, told.ln_scale),
            (step.kl_unigram, told.kl_unigram),
            (-step.log_prob, told.loss),
        ):
            assert found == pytest.approx(float(expected[at]), rel=EFFECT, abs=EFFECT)


@pytest.mark.real
@pytest.mark.slow
def test_its_first_token_is_a_sink(smollm2: Model) -> None:
    assert sinks.leads_with_sink(smollm2)


@pytest.mark.real
@pytest.mark.slow
def test_the_weights_suggest_its_confidence_neurons(smollm2: Model) -> None:
    """Few others with them: of 1,536."""
    k, share, label = entropy_label(smollm2)
    assert (k, share) == (1, 6)
    entropy = label.suggested.nonzero()[:, 0].tolist()
    assert {830, 1022} <= set(entropy)
    assert len(entropy) <= 8


@pytest.mark.real
@pytest.mark.slow
def test_the_shipped_means_are_those_of_its_activations(smollm2: Model) -> None:
    """Over the rows that a server takes. All take minutes: every twelfth row is as far from the shipped means as
    so few rows are by chance (the sum of its deviations over the root of the sum of their squares is about 1), and
    farther from the means of other neurons or layers."""
    sample = bundled().sample
    assert sample is not None
    assert SMOLLM2.home is not None
    shipped = reference.load(SMOLLM2.home / means.BESIDE_MODEL)
    rows = means.rows(Settings(), smollm2, sample)
    assert shipped.weights_sha256 == smollm2.weights_sha256
    assert shipped.n_tokens + shipped.sinks == sum(map(len, rows))
    assert (shipped.sinks, shipped.source) == (len(rows), sample.name)
    sums, lengths = [], []
    for row in rows[::12]:
        *_, last = reference.compute(smollm2, [row], source=sample.name)
        assert last.result is not None
        sums.append(last.result.means.double() * last.result.n_tokens)
        lengths.append(last.result.n_tokens)

    def distance(of: torch.Tensor) -> float:
        off = torch.stack([each - n * of.double() for each, n in zip(sums, lengths, strict=True)])
        return float((off.sum(0).square() / off.square().sum(0)).mean().sqrt())

    assert distance(shipped.means) < 1.3
    for wrong in (shipped.means.roll(1, 1), shipped.means.roll(1, 0), -shipped.means):
        assert distance(wrong) > 1.6


@pytest.mark.real
@pytest.mark.slow
def test_its_template_is_transformers_and_turns_come_back(smollm2: Model) -> None:
    """ChatML; where no system turn is given it puts one of its own, which nobody said."""
    turns = [Turn("user", "Is it cold?"), Turn("assistant", "Very."), Turn("user", "Why:\nso?")]
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    text = smollm2.chat.rendered(turns)
    theirs = smollm2.tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=False, add_generation_prompt=True
    )
    assert smollm2.encode(text) == theirs
    assert smollm2.chat.turns(text) == turns
    spoken = [Turn("system", "Speak short."), *turns, Turn("assistant", "Wind.")]
    assert smollm2.chat.turns(smollm2.chat.rendered(spoken)) == spoken
    ids = smollm2.encode(smollm2.chat.rendered(spoken))
    said = [word for word, role in zip(smollm2.token_texts(ids), smollm2.roles(ids), strict=True) if role == "user"]
    assert "".join(said) == "Is it cold?Why:\nso?"
