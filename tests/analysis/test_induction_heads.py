"""Heads: a hand-built induction head scores 1; ablation is a hand-written masked forward; attribution adds up."""

from __future__ import annotations

import pytest
import torch

from analysis.attention import head_hooks
from analysis.induction.attribution import attribute
from analysis.induction.head_ablation import ablated_at, clean_at, head_means, random_heads
from analysis.induction.head_study import plan, study_heads
from analysis.induction.heads import head_scores, pattern, score_rows
from analysis.induction.measure import measure
from analysis.induction.sequences import random_units, repeat
from analysis.induction.steps import complete
from analysis.model import Model, from_objects
from analysis.registry import ModelSpec
from analysis.trace import intervene, trace
from analysis.types import HeadId, HeadIntervention, InputError, Intervention, NeuronId, UnsupportedModelError
from tests import tiny
from tests.tolerance import close, near, of_pass, of_sum, within

ALL = (*tiny.ARCHITECTURES, *tiny.POST_NORM)
V, D = tiny.D_VOCAB, 2 * tiny.D_VOCAB + tiny.N_CTX
TOKEN, BEFORE, POSITION = slice(0, V), slice(V, 2 * V), slice(2 * V, D)  # subspaces of the residual stream
D_HEAD = D // 2


@pytest.fixture(scope="module")
def copier() -> Model:
    """GPT-2, two layers of two heads, by hand: head 0.0 writes the previous token, head 1.0 is induction.

    Neuron 1.0 reads the total of the token subspace less BOS, where head 1.0 writes what it copies. The rest is zero.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": D, "n_layer": 2, "n_head": 2, "n_positions": tiny.N_CTX, "n_inner": 8}
    hf = GPT2LMHeadModel(
        GPT2Config(vocab_size=V, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes, attn_implementation="eager")
    ).double()
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if "ln" not in name:
                parameter.zero_()
        body = hf.transformer
        body.wte.weight[:, TOKEN] = torch.eye(V, dtype=torch.float64)
        body.wpe.weight[:, POSITION] = torch.eye(tiny.N_CTX, dtype=torch.float64)
        earlier, copying = (block.attn for block in body.h)
        sharp = 5.0
        shift = torch.eye(tiny.N_CTX, dtype=torch.float64).roll(-1, dims=1)  # position p asks for p - 1
        query(earlier)[POSITION, : tiny.N_CTX] = sharp * shift
        key(earlier)[POSITION, : tiny.N_CTX] = sharp * torch.eye(tiny.N_CTX, dtype=torch.float64)
        value(earlier)[TOKEN, :V] = torch.eye(V, dtype=torch.float64)
        earlier.c_proj.weight[:V, BEFORE] = torch.eye(V, dtype=torch.float64) / 10
        query(copying)[TOKEN, :V] = sharp * torch.eye(V, dtype=torch.float64)  # whoever follows my token
        key(copying)[BEFORE, :V] = sharp * torch.eye(V, dtype=torch.float64)
        value(copying)[TOKEN, :V] = torch.eye(V, dtype=torch.float64)
        copying.c_proj.weight[:V, TOKEN] = torch.eye(V, dtype=torch.float64)
        body.h[1].mlp.c_fc.weight[TOKEN, 0] = 1.0
        body.h[1].mlp.c_fc.weight[1, 0] = 0.0  # not BOS
        body.h[1].mlp.c_proj.weight[0] = torch.randn(D, generator=torch.Generator().manual_seed(0)).double() / 100
    return from_objects(ModelSpec("copier", prepend_bos=True), hf.eval(), tiny.tokenizer(), weights_sha256="by hand")


def query(attention):
    return attention.c_attn.weight[:, 0 * D : 0 * D + D_HEAD]


def key(attention):
    return attention.c_attn.weight[:, 1 * D : 1 * D + D_HEAD]


def value(attention):
    return attention.c_attn.weight[:, 2 * D : 2 * D + D_HEAD]


def rows(n_rows=2, length=7, seed=1):
    return repeat(
        random_units(torch.arange(tiny.N_TOKENS), excluded={0, 1, 2}, length=length, n_rows=n_rows, seed=seed), bos=1
    )


def test_a_perfect_induction_head_scores_one(copier):
    repeated = score_rows(copier, n_rows=4)
    assert repeated.length == 23  # (48 - 1) // 2: the context is shorter than the paper's rows
    found = complete(head_scores(copier, repeated))
    assert found.scores["induction"][1, 0] > 1 - 1e-6  # exp(-25) for each of the other keys
    assert found.scores["previous"][0, 0] > 1 - 1e-6
    others = found.scores["induction"].clone()
    others[1, 0] = 0
    assert float(others.max()) < 0.05
    assert found.induction_heads() == [HeadId(1, 0)]
    for kind, scores in found.scores.items():
        assert ((scores >= 0) & (scores <= 1)).all(), kind


def test_the_copier_is_sure_of_the_second_copy(copier):
    repeated = score_rows(copier, n_rows=2)
    found = complete(measure(copier, repeated.tokens)).metrics.entropy
    assert found[:, repeated.copy(1)].mean() < 0.1 * found[:, repeated.copy(0)].mean()


def test_scores_by_hand(tiny_model):
    model, repeated = tiny_model("llama"), rows()
    found = complete(head_scores(model, repeated))
    for layer in range(2):
        for head in range(4):
            patterns = [pattern(model, row, HeadId(layer, head)) for row in repeated.tokens]
            close(patterns[0].sum(-1), torch.ones(15, dtype=torch.float64), 15, dtype=torch.float32)
            expected = [float(p[q, q - 6]) for p in patterns for q in range(8, 15)]
            score = sum(expected) / len(expected)
            assert found.scores["induction"][layer, head] == near(score, 15, scale=1, dtype=torch.float32)
    three = repeat(random_units(torch.arange(tiny.N_TOKENS), excluded=(), length=5, n_rows=1, seed=0), bos=1, copies=3)
    with pytest.raises(InputError, match="two copies"):
        complete(head_scores(model, three))


def final(model, tokens, hooks=()):
    name = f"blocks.{model.last_layer}.hook_resid_post"
    return model.run(tokens, capture=[name], hooks=hooks)[name]


def masked(heads, queries):
    """The slow way: the attention rows themselves, 1 on key 0 and 0 elsewhere, at each row's query."""

    def hook(layer):
        def edit(found):
            new = found.clone()
            for head in (head.head for head in heads if head.layer == layer):
                for row, at in enumerate(queries):
                    new[row, head, at] = 0
                    new[row, head, at, 0] = 1
            # Some architectures take the softmax in float32.
            close(new.sum(-1), torch.ones_like(new.sum(-1)), new.shape[-1], dtype=torch.float32)
            return new

        return f"blocks.{layer}.attn.hook_pattern", edit

    return [hook(layer) for layer in sorted({head.layer for head in heads})]


@pytest.mark.parametrize("name", [name for name in ALL if name != "opt"])
def test_bos_ablation_is_a_masked_forward(name, tiny_model):
    model, tokens = tiny_model(name), rows(3).tokens
    heads = [HeadId(0, 1), HeadId(0, 2), HeadId(1, 0)]
    at = torch.tensor([3, 9, 14])
    found = final(model, tokens, head_hooks([HeadIntervention(head) for head in heads], queries=at))
    within(found, final(model, tokens, masked(heads, at.tolist())), of_pass(name))
    assert (found - final(model, tokens)).abs().max() > 10 * of_pass(name)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("mode", ["bos", "mean", "zero"])
def test_ablation_changes_the_output_and_touches_only_its_head_and_query(name, mode, tiny_model):
    model, tokens = tiny_model(name), rows(3).tokens
    head, at = HeadId(0, 1), torch.tensor([3, 9, 14])
    means = complete(head_means(model, tokens, [0]))
    seen = {}

    def keep(label):
        return "blocks.0.attn.hook_z", lambda z: seen.update({label: z.clone()})

    hooks = head_hooks([HeadIntervention(head, mode)], queries=at, means=means)
    clean, ablated = final(model, tokens, [keep("before")]), final(model, tokens, [*hooks, keep("after")])
    moved = (seen["before"] != seen["after"]).any(-1)  # row, position, head
    assert moved.nonzero().tolist() == [[row, int(position), 1] for row, position in enumerate(at)]
    expected = {"bos": seen["before"][:, 0, 1], "mean": means[0][1].expand(3, -1), "zero": torch.zeros(3, model.d_head)}
    got = seen["after"][torch.arange(3), at, 1]
    assert torch.equal(got, expected[mode].to(got))
    for row, position in enumerate(at.tolist()):
        within(ablated[row, :position], clean[row, :position], of_pass(name))
        assert (ablated[row, position] - clean[row, position]).abs().max() > 10 * of_pass(name)


def test_mean_of_heads_by_hand(tiny_model):
    model, tokens = tiny_model("gpt2"), rows(3).tokens
    z = model.run(tokens, capture=["blocks.1.attn.hook_z"])["blocks.1.attn.hook_z"]
    close(complete(head_means(model, tokens, [1]))[1], z.mean((0, 1)), tokens.numel(), scale=float(z.abs().max()))
    with pytest.raises(InputError, match="need"):
        head_hooks([HeadIntervention(HeadId(0, 0), "mean")])


@pytest.mark.parametrize("per_batch", [1, 5, 100])
def test_ablated_queries_are_one_forward_pass_each(per_batch, tiny_model, monkeypatch):
    monkeypatch.setattr("analysis.induction.head_ablation.rows_per_batch", lambda model, n: per_batch)
    model, repeated = tiny_model("gpt2"), rows(2)
    heads, neuron, queries = [HeadId(0, 1), HeadId(1, 2)], NeuronId(1, 7), [8, 10, 14]
    found = complete(ablated_at(model, repeated.tokens, queries, heads, neurons=[neuron]))
    for row, ids in enumerate(repeated.tokens):
        for index, position in enumerate(queries):
            names = ["blocks.1.hook_resid_post", "blocks.1.mlp.hook_post"]
            alone = model.run(ids[None], capture=names, hooks=masked(heads, [position]))
            resid, activations = (alone[name][0, position] for name in names)
            log_p = model.readout.log_probs(resid)
            assert abs(float(found.activations[neuron][row, index] - activations[7])) < of_pass()
            assert abs(float(found.entropy[row, index] + (log_p.exp() * log_p).sum())) < of_pass()


def test_study_has_the_chosen_heads_and_baselines(tiny_model):
    model, repeated = tiny_model("gpt2"), rows(2)
    neuron = NeuronId(1, 7)
    measured = complete(measure(model, repeated.tokens, neurons=[neuron]))
    chosen = [HeadId(0, 1), HeadId(1, 2)]
    found = complete(study_heads(model, measured, repeated.repeats, chosen, n_random=2, seed=3))
    assert [group.role for group in found.groups] == ["one", "one", "all", *["random_one"] * 2, *["random_all"] * 2]
    assert found.groups[2].heads == tuple(chosen)
    for group in found.groups[3:]:
        assert not set(group.heads) & set(chosen)
    within(found.clean.activations[neuron], measured.activations[:, repeated.repeats, 7], of_pass())
    again = complete(ablated_at(model, repeated.tokens, repeated.repeats, chosen, neurons=[neuron]))
    change = found.change(found.groups[2], neuron)
    within(change, again.activations[neuron] - found.clean.activations[neuron], of_pass())
    assert [role for role, _ in plan(model, chosen[:1], n_random=1, seed=0)] == ["one", "random_one"]
    for heads, words in (([], "No head"), ([HeadId(2, 0)], "no head 2.0")):
        with pytest.raises(InputError, match=words):
            plan(model, heads, n_random=1, seed=0)
    with pytest.raises(InputError, match="a control needs 5"):
        random_heads(model, [HeadId(0, h) for h in range(4)], size=5, n_sets=1, seed=0)


@pytest.mark.parametrize(("size", "n_sets", "found"), [(1, 20, 6), (1, 5, 5), (2, 15, 15), (2, 14, 14), (2, 20, 15)])
def test_no_control_of_heads_is_drawn_twice(tiny_model, size, n_sets, found):
    """Two layers of four heads, of which six are free: six heads alone, fifteen pairs."""
    taken = [HeadId(0, 1), HeadId(1, 2)]
    sets = random_heads(tiny_model("gpt2"), taken, size=size, n_sets=n_sets, seed=3)
    assert len(sets) == len(set(sets)) == found
    for heads in sets:
        assert len(set(heads)) == size
        assert not set(heads) & set(taken)


def test_bos_ablation_of_the_copier_takes_the_copy_away(copier):
    """Neuron 1.0 hears of the copy from head 1.0 alone."""
    repeated, neuron = rows(2, length=20), NeuronId(1, 0)
    measured = complete(measure(copier, repeated.tokens, neurons=[neuron]))
    queries = repeated.repeats[:-1]
    clean = clean_at(measured, queries).activations[neuron]
    copying, other = (
        complete(ablated_at(copier, repeated.tokens, queries, [head], neurons=[neuron])).activations[neuron]
        for head in (HeadId(1, 0), HeadId(1, 1))
    )
    assert (copying < 0.5 * clean).all()
    within(other, clean, of_pass())


@pytest.mark.parametrize("mode", ["bos", "mean", "zero"])
def test_a_prompt_without_heads_is_a_trace(mode, tiny_model):
    model, ids = tiny_model("llama"), tiny.token_ids(9)
    neuron = NeuronId(1, 2)
    clean = trace(model, ids, neurons=[neuron])

    def without(*heads, positions=None):
        return intervene(model, clean, [HeadIntervention(head, mode, positions) for head in heads])

    everywhere = without(HeadId(0, 1), HeadId(1, 3))
    some = without(HeadId(0, 1), HeadId(1, 3), positions=(4, 6))
    assert torch.equal(some.metrics.rank[:4], clean.metrics.rank[:4])
    within(some.last.resid[:4], clean.last.resid[:4], of_pass("llama"))
    assert (some.last.resid[4] - clean.last.resid[4]).abs().max() > 10 * of_pass("llama")
    assert (some.activations[neuron] - everywhere.activations[neuron]).abs().max() > 10 * of_pass("llama")
    z = model.run(torch.tensor([ids]), capture=["blocks.0.attn.hook_z"])["blocks.0.attn.hook_z"][0]
    new = {"bos": z[0], "mean": z.mean(0), "zero": 0 * z[0]}[mode][1]

    def by_hand(found):
        return torch.cat([found[:, :, :1], new.expand_as(found[:, :, :1]), found[:, :, 2:]], dim=2)

    name = "blocks.1.hook_resid_post"
    expected = model.run(torch.tensor([ids]), capture=[name], hooks=[("blocks.0.attn.hook_z", by_hand)])[name][0]
    within(without(HeadId(0, 1)).last.resid, expected, of_pass("llama"))
    with pytest.raises(InputError, match="Position 9"):
        without(HeadId(0, 1), positions=(9,))
    with pytest.raises(InputError, match=r"no head 0\.4"):
        without(HeadId(0, 4))
    with pytest.raises(InputError, match=r"touch head 0\.1 at position 4"):
        intervene(model, clean, [HeadIntervention(HeadId(0, 1), mode), HeadIntervention(HeadId(0, 1), "zero", (4,))])


def test_heads_and_neurons_together(tiny_model):
    """A last-layer neuron on top of a head: the closed form on the run without the head."""
    model, ids, head = tiny_model("gpt2"), tiny.token_ids(9), HeadIntervention(HeadId(0, 1), "zero")
    zero = Intervention(NeuronId(1, 2), "zero")
    clean = trace(model, ids)
    both = intervene(model, clean, [head, zero])
    without = trace(model, ids, interventions=[head])
    centre = model.readout.centre  # the closed form leaves out the direction that the final norm does not see
    expected = intervene(model, without, [zero], method="closed_form").last.resid
    within(centre(both.last.resid), centre(expected), of_pass())
    assert (both.metrics.entropy - without.metrics.entropy).abs().max() > 10 * of_pass()
    assert both.interventions == (head, zero)
    with pytest.raises(ValueError, match="closed form"):
        intervene(model, clean, [head, zero], method="closed_form")


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_attribution_adds_up(name, dtype, tiny_model):
    model, repeated = tiny_model(name, dtype=dtype), rows(3)
    found = complete(attribute(model, repeated.tokens, NeuronId(1, 11)))
    # Norms in float32 are all that keeps a float64 sum from being exact; attention's scale divides what is summed.
    exact = dtype == torch.float64 and model.norm == "LN"
    n = len(found.parts) + 2 * tiny.D_MODEL
    sizes = float(found.parts.abs().sum(0).max())
    bound = of_sum(n, torch.float64 if exact else torch.float32, sizes)
    within(found.parts.sum(0), found.pre, bound)
    assert found.pre.std() > 0.1
    bias = found.parts[[found.names.index(n) for n in found.names if n.startswith("attn_bias")]]
    unscaled = bias * model_scale(model, repeated.tokens)  # an attention layer's bias is the same vector everywhere
    within(unscaled, unscaled[:, :1, :1].expand_as(unscaled), bound * float(model_scale(model, repeated.tokens).max()))


def model_scale(model, tokens):
    name = "blocks.1." + ("hook_resid_pre" if model.parallel else "hook_resid_mid")
    return model.readout.scale(model.run(tokens, capture=[name])[name])


def test_attribution_names_the_head_that_copies(copier):
    repeated = rows(3, length=20)
    found = complete(attribute(copier, repeated.tokens, NeuronId(1, 0)))
    close(found.parts.sum(0), found.pre, len(found.parts) + 2 * D, scale=float(found.parts.abs().sum(0).max()))
    change = dict(zip(found.names, found.change(repeated).tolist(), strict=True))
    assert max(change, key=lambda name: change[name]) == "1.0"
    by_hand = found.parts[found.names.index("1.0")]
    second, first = float(by_hand[:, 21:41].mean()), float(by_hand[:, 1:21].mean())
    assert change["1.0"] == near(second - first, 2 * 60, scale=abs(second) + abs(first))


def test_attribution_refuses_what_does_not_add_up(tiny_model):
    with pytest.raises(UnsupportedModelError, match="norm behind"):
        complete(attribute(tiny_model("gemma2"), rows().tokens, NeuronId(1, 0)))
    with pytest.raises(InputError, match="not in the last layer"):
        complete(attribute(tiny_model("gpt2"), rows().tokens, NeuronId(0, 0)))


def test_head_names():
    assert str(HeadId.parse("5.1")) == "5.1"
    for text in ("5", "5.", ".1", "a.b", "5.1.2", "-1.0", ""):
        with pytest.raises(InputError):
            HeadId.parse(text)
