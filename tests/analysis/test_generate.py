"""What the model writes, and what is told of each token, are those of a trace of the finished text."""

from __future__ import annotations

import json

import pytest
import torch

from analysis.attention import mean_outputs
from analysis.effects import Engine, effects
from analysis.generate import Neurons, Sampling, Step, ends, generate
from analysis.model import Model, load
from analysis.registry import ModelSpec
from analysis.trace import trace
from analysis.types import HeadId, HeadIntervention, InputError, Intervention, NeuronId, Span
from tests import tiny
from tests.tolerance import of_pass

ALL = (*tiny.ARCHITECTURES, *tiny.POST_NORM)
PROMPT = tiny.token_ids(6)
LAST, EARLY = NeuronId(1, 3), NeuronId(0, 5)
NAN, INF = float("nan"), float("inf")
SHAM = [{"temperature": -1.0}, {"temperature": NAN}, {"temperature": INF}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": NAN}]
TURNED = [Intervention(LAST, "scale", 4.0), Intervention(EARLY, "value", 2.0)]


def written(model: Model, n: int = 8, **options: object) -> list[Step]:
    return list(generate(model, PROMPT, max_new_tokens=n, **options))


def ids(steps: list[Step]) -> list[int]:
    return [step.token_id for step in steps]


def agree(model: Model, steps: list[Step], again: object, tolerance: float) -> None:
    """Teacher-forced: the numbers of a trace of prompt and text, one position earlier."""
    metrics = again.metrics
    for step in steps:
        at = step.position - 1
        assert step.entropy == pytest.approx(float(metrics.entropy[at]), abs=tolerance)
        assert step.ln_scale == pytest.approx(float(metrics.ln_scale[at]), abs=tolerance)
        assert -step.log_prob == pytest.approx(float(metrics.loss[at]), abs=tolerance)
        assert step.rank == int(metrics.rank[at])


@pytest.mark.parametrize("name", ALL)
def test_it_writes_what_transformers_writes_and_tells_what_a_trace_tells(name, tiny_model):
    model = tiny_model(name)
    steps = written(model)
    assert PROMPT + ids(steps) == model.generate(PROMPT, 8)
    assert [step.position for step in steps] == list(range(6, 14))
    agree(model, steps, trace(model, [*PROMPT, *ids(steps)]), of_pass(name))


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox", "gemma", "opt"])
def test_64_tokens_are_those_of_transformers_own_generate(name):
    longer = {"n_positions": 80} if name == "gpt2" else {"max_position_embeddings": 80}
    hf = tiny.hf_model(name, **longer)
    given = torch.tensor([PROMPT])
    expected = hf.generate(
        given, attention_mask=torch.ones_like(given), max_new_tokens=64, do_sample=False, eos_token_id=None
    )
    model = tiny.model(name, **longer)
    assert PROMPT + ids(written(model, 64)) == expected[0].tolist()


@pytest.mark.parametrize("name", ["gpt2", "neox", "llama", "gemma2"])
def test_turned_neurons_write_what_a_trace_with_them_turned_tells(name, tiny_model):
    model = tiny_model(name)
    steps = written(model, interventions=TURNED)
    again = trace(model, [*PROMPT, *ids(steps)], interventions=TURNED)
    agree(model, steps, again, of_pass(name))
    same = written(model, interventions=[Intervention(LAST, "scale", 1.0)])
    assert ids(same) == ids(written(model)), "turned to 1 it is the undisturbed text, token for token"


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("mode", ["bos", "zero"])
def test_heads_are_taken_out_while_it_writes(name, mode, tiny_model):
    model = tiny_model(name)
    out = [HeadIntervention(HeadId(0, 1), mode, None)]
    steps = written(model, 5, interventions=out)
    agree(model, steps, trace(model, [*PROMPT, *ids(steps)], interventions=out), of_pass(name))


@pytest.mark.parametrize(("where", "positions"), [("prompt", Span(0, 6)), ("new", Span(6, 11))])
def test_where_it_holds(where, positions, tiny_model):
    model = tiny_model("gpt2")
    steps = written(model, 5, interventions=TURNED, apply_to=where)
    placed = [Intervention(item.neuron, item.mode, item.value, positions=positions) for item in TURNED]
    text = [*PROMPT, *ids(steps)]
    agree(model, steps, trace(model, text, interventions=placed), of_pass("gpt2"))


def test_one_position_of_what_is_yet_to_be_written(tiny_model):
    model = tiny_model("gpt2")
    one = [Intervention(EARLY, "value", 3.0, positions=(8,))]
    steps = written(model, 5, interventions=one)
    agree(model, steps, trace(model, [*PROMPT, *ids(steps)], interventions=one), of_pass("gpt2"))


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_each_step_has_the_effects_of_its_position(name, tiny_model):
    model = tiny_model(name)
    engine, baseline = Engine.build(model.readout, backend="eager"), torch.zeros(model.d_mlp, dtype=torch.float64)
    steps = written(model, 3, neurons=Neurons(engine, baseline, 5), watched=[EARLY])
    text = [*PROMPT, *ids(steps)]
    again = trace(model, text, neurons=[EARLY])
    for step in steps:
        at = step.position - 1
        table = effects(engine, again.last, text, at, baseline=baseline)
        assert step.effects is not None
        first = table.d_entropy.total.abs().topk(5).indices
        assert step.effects.neurons.tolist() == table.neurons[first].tolist()
        torch.testing.assert_close(
            step.effects.d_entropy.total, table.d_entropy.total[first], atol=of_pass(name), rtol=0, check_dtype=False
        )
        assert step.activations[EARLY] == pytest.approx(float(again.activations[EARLY][at]), abs=of_pass(name))


def test_one_seed_is_one_text_and_another_one_another(tiny_model):
    model = tiny_model("gpt2")
    one = ids(written(model, 12, sampling=Sampling(1.0, seed=3)))
    assert one == ids(written(model, 12, sampling=Sampling(1.0, seed=3)))
    assert one != ids(written(model, 12, sampling=Sampling(1.0, seed=4)))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, seed=3), Sampling(1.5, top_k=9, top_p=0.9, seed=5)])
def test_a_text_taken_up_again_is_the_one_that_is_written_in_one_go(name, sampling, tiny_model):
    model = tiny_model(name)
    more = {"sampling": sampling, "watched": [EARLY], "interventions": TURNED, "apply_to": "new"}
    once = written(model, 8, **more)
    again = written(model, 5, written=ids(once)[:3], **more)
    assert ids(again) == ids(once)
    for one, other in zip(again, once, strict=True):
        assert (one.position, one.rank, one.top_ids.tolist()) == (other.position, other.rank, other.top_ids.tolist())
        for value in ("entropy", "ln_scale", "log_prob"):
            assert getattr(one, value) == pytest.approx(getattr(other, value), abs=of_pass(name))
        assert one.activations[EARLY] == pytest.approx(other.activations[EARLY], abs=of_pass(name))


def test_what_was_handed_over_is_told_though_nothing_is_written(tiny_model):
    model = tiny_model("gpt2")
    given = tiny.token_ids(9)[6:]
    steps = written(model, 0, written=given)
    assert ids(steps) == given
    agree(model, steps, trace(model, [*PROMPT, *given]), of_pass("gpt2"))
    full = [*given * 99][: model.n_ctx - len(PROMPT)]
    assert ids(written(model, 5, written=full)) == full, "the context is full"
    with pytest.raises(InputError):
        written(model, 5, written=[*full, 1])


def test_a_head_at_its_mean_writes_that_over_the_prompt_alone(tiny_model):
    """What is yet to be written has no part in it; so a text taken up again has the same mean, too."""
    model, out = tiny_model("gpt2"), HeadIntervention(HeadId(0, 1), "mean", None)
    steps = written(model, 4, interventions=[out])
    text = [*PROMPT, *ids(steps)]
    mean = mean_outputs(model, model.tokens(PROMPT), [0])[0][1]

    def at_mean(z: torch.Tensor) -> torch.Tensor:
        new = z.clone()
        new[:, :, 1] = mean.to(z)
        return new

    end = f"blocks.{model.last_layer}.hook_resid_post"
    by_hand = model.run(model.tokens(text), capture=[end], hooks=[("blocks.0.attn.hook_z", at_mean)])[end]
    scale = model.readout.scale(by_hand[0].double())
    for step in steps:
        assert step.ln_scale == pytest.approx(float(scale[step.position - 1]), abs=of_pass("gpt2"))
    once = ids(written(model, 4, interventions=[out]))
    assert ids(written(model, 2, written=once[:2], interventions=[out])) == once


def test_what_sampling_leaves_out_is_never_written(tiny_model):
    model = tiny_model("gpt2")
    for step in written(model, 12, sampling=Sampling(2.0, top_k=3, seed=1)):
        assert step.rank < 3
    for step in written(model, 12, sampling=Sampling(1.0, top_p=0.01, seed=1)):
        assert step.rank == 0, "the most probable alone reaches this share"
    assert ids(written(model, sampling=Sampling(3.0, top_k=1))) == ids(written(model))


@pytest.mark.parametrize("temperature", [1e-9, 1e-310, 5e-324])
def test_what_is_as_good_as_no_temperature_takes_the_most_probable(tiny_model, temperature):
    """Down to the smallest number that a float holds; logits divided by it are infinite."""
    model = tiny_model("gpt2")
    assert ids(written(model, sampling=Sampling(temperature))) == ids(written(model))


def test_it_ends_with_the_context_and_writes_nothing_where_none_is_left(tiny_model):
    model = tiny_model("gpt2")
    assert len(written(model, 10**6)) == model.n_ctx - len(PROMPT)
    assert written(model, 0) == []


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        (2, None, {2}),
        ([1, 2], None, {1, 2}),
        (2, [0, 7], {0, 2, 7}),
        (9, 0, {0, 2}),
        (None, None, {2}),
        (9, None, {2, 9}),
    ],
)
def test_a_text_is_over_behind_every_token_that_the_folder_names(tmp_path, config, generation, expected):
    """The tokenizer's is 2. Of a model for conversations the folder names the end of a turn beside it."""
    tiny.hf_model("gpt2").save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    for name, named in (("config.json", config), ("generation_config.json", generation)):
        told = json.loads((tmp_path / name).read_text())
        told.pop("eos_token_id", None)
        (tmp_path / name).write_text(json.dumps(told | ({} if named is None else {"eos_token_id": named})))
    model = load(ModelSpec("ends", tmp_path))
    assert ends(model) == expected


def test_between_two_tokens_nothing_is_left_in_the_model(tiny_model):
    """Others use it meanwhile: a run beside is the clean one."""
    model = tiny_model("gpt2")
    clean = trace(model, PROMPT).metrics.entropy
    writing = generate(model, PROMPT, max_new_tokens=4, interventions=TURNED)
    next(writing)
    torch.testing.assert_close(trace(model, PROMPT).metrics.entropy, clean, atol=0, rtol=0)
    writing.close()


@pytest.mark.parametrize("wrong", SHAM)
def test_sampling_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError):
        Sampling(**wrong)
