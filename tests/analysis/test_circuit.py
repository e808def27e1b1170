"""What drives a neuron: exact sums, a planted circuit found whole, edges that real passes agree with."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from analysis.circuit import Circuit, Clean, Node, check, circuit, linear, read
from analysis.components import Component, MeanWrites, mean_writes
from analysis.decompose import decompose
from analysis.model import Model, from_objects
from analysis.registry import ModelSpec
from analysis.sinks import sinks_in
from analysis.types import InputError, NeuronId, NotFoundError, UnsupportedModelError
from tests import tiny
from tests.tolerance import of_sum

IDS = tiny.token_ids(9)
OTHER = [tiny.token_ids(11, seed=1), tiny.token_ids(7, seed=2)]


def reference(model: Model, rows: list[list[int]] = OTHER) -> MeanWrites:
    *_, last = mean_writes(model, rows, source="other rows")
    assert last.result is not None
    return last.result


def of(model: Model, neuron: str = "1.5", position: int | None = 6, **options: int) -> tuple[Clean, Circuit]:
    clean = read(model, IDS, reference(model))
    return clean, circuit(clean, NeuronId.parse(neuron), position, **options)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_parts_sum_to_what_the_neurons_input_does(name, tiny_model):
    """All parts of the root: its activation less that from the mean stream behind the same scale."""
    model = tiny_model(name)
    clean, drawn = of(model)
    root = drawn.root
    u = linear.direction(clean, root, torch.ones(1, dtype=torch.float64))
    shares = torch.cat([block.shares for block in linear.blocks_read(clean, root, u)])

    def activation(stream: torch.Tensor) -> float:
        norm, (_, s) = model.mlp_norm(1), linear.centred_and_scale(model, clean_stream)
        xc = stream - stream.mean() if model.norm == "LN" else stream
        y = xc / s if norm[0] is None else norm[0] * xc / s
        y = y if norm[1] is None else y + norm[1]
        pre = y @ model.W_in(1)[:, 5]
        pre = pre if (bias := model.mlp_bias(1, "b_in")) is None else pre + bias[5]
        gates = model.W_gate(1)
        return float(model.activation(1)(pre) if gates is None else model.activation(1)(y @ gates[:, 5]) * pre)

    site = "blocks.1.ln2.hook_in" if "blocks.1.ln2.hook_in" in model._bridge.hook_dict else "blocks.1.ln1.hook_in"
    clean_stream = model.run(model.tokens(IDS), capture=[site])[site][0, 6].double()
    means = reference(model)
    read_by = [
        i
        for i, c in enumerate(means.components)
        if c.layer is None or c.layer == 0 or (c.kind == "head" and not model.parallel)
    ]
    changes = clean.changes([6])[read_by, 0].sum(0)
    inside = torch.float64 if name in tiny.EXACT else torch.float32
    bound = of_sum(tiny.D_MODEL * len(shares), inside, float(shares.abs().sum()) + 1)
    expected = activation(clean_stream) - activation(clean_stream - changes)
    assert float(shares.sum()) == pytest.approx(expected, abs=bound)
    assert drawn.value == pytest.approx(activation(clean_stream), abs=bound)
    assert drawn.followed[0].remainder == pytest.approx(drawn.value - drawn.baseline - expected, abs=bound)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_sources_of_a_head_sum_to_its_share(name, tiny_model):
    clean, drawn = of(tiny_model(name))
    u = linear.direction(clean, drawn.root, torch.ones(1, dtype=torch.float64))
    changes, components = linear._before(clean, drawn.root)
    for change, component in zip(changes[:, 0], components, strict=True):
        if component.kind == "head":
            whole = (change @ u[0])[None]
            parts = linear.by_source(clean, component.layer, component.index, 6, u, whole).shares.tolist()
            inside = torch.float64 if name in tiny.EXACT else torch.float32
            size = float(u.norm() * (change.norm() + 10)) + sum(map(abs, parts))
            assert sum(parts) == pytest.approx(float(whole), abs=of_sum(tiny.D_MODEL * 9, inside, size))


def test_a_direct_edge_is_a_real_pass(tiny_model):
    """Its part taken out of what the root's norm reads, by a hook there."""
    model = tiny_model("gpt2")
    clean, drawn = of(model)
    *_, checked = check(clean, drawn)
    assert all(edge.patched is not None for edge in checked.edges)
    for edge in checked.edges:
        if edge.target == drawn.root:
            part = linear.written(clean, edge.source)
            hook = ("blocks.1.ln2.hook_in", lambda x, part=part: x - part * (torch.arange(9) == 6)[:, None])
            after = model.run(model.tokens(IDS), capture=["blocks.1.mlp.hook_post"], hooks=[hook])
            expected = drawn.value - float(after["blocks.1.mlp.hook_post"][0, 6, 5])
            assert edge.patched == pytest.approx(expected, abs=of_sum(tiny.D_MODEL, torch.float64, 10))


TOLD, ELSEWHERE, HEAD, FIRST, LAST = 50, 60, 1, 7, 5


@cache
def planted(shaken: float = 0.0) -> Model:
    """Token TOLD embeds along a; head L0H1 writes b where it reads a; 0.7 writes c where it reads b; 1.5 reads c."""
    hf = tiny.hf_model("gpt2")
    random = torch.randn(tiny.D_MODEL, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, a, b, c, other = torch.linalg.qr(torch.cat([torch.ones_like(random[:, :1]), random], 1)).Q.T
    width = tiny.D_MODEL // 4
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            is_gain = "ln_" in name and name.endswith("weight")
            if "lm_head" not in name:
                parameter.fill_(1.0 if is_gain else 0.0)
        hf.transformer.wte.weight[:] = other
        hf.transformer.wte.weight[TOLD] = a
        first, last = hf.transformer.h
        first.attn.c_attn.weight[:, 2 * tiny.D_MODEL + HEAD * width] = a
        first.attn.c_proj.weight[HEAD * width] = 4 * b
        first.mlp.c_fc.weight[:, FIRST] = 2 * b
        first.mlp.c_proj.weight[FIRST] = 3 * c
        last.mlp.c_fc.weight[:, LAST] = c
        shaking = torch.Generator().manual_seed(1)
        for parameter in hf.parameters():
            parameter += shaken * torch.randn(parameter.shape, dtype=parameter.dtype, generator=shaking)
    return from_objects(ModelSpec("planted", prepend_bos=False), hf, tiny.tokenizer(), weights_sha256="0")


def test_a_planted_circuit_is_found_whole_and_nothing_else():
    model, ids = planted(), [ELSEWHERE, TOLD, ELSEWHERE, ELSEWHERE, ELSEWHERE]
    clean = read(model, ids, reference(model, [[ELSEWHERE] * 6]))
    drawn = circuit(clean, NeuronId(1, LAST), 4)
    root, between, head = Node("neuron", 1, LAST, 4), Node("neuron", 0, FIRST, 4), Node("head", 0, HEAD, 4, 1)
    expected = {(between, root), (head, between), (Node("embedding", -1, 0, 1), head)}
    assert {(edge.source, edge.target) for edge in drawn.edges} == expected
    assert drawn.value > 0.1
    for edge in drawn.edges:  # one path: all of it flows through each edge
        assert edge.share == pytest.approx(drawn.value - drawn.baseline, rel=1e-6)
    *_, checked = check(clean, drawn)
    assert all(edge.patched > 0.1 * drawn.value for edge in checked.edges)


def test_a_planted_circuit_stands_out_of_noise():
    """Every weight shaken a little: the planted edges are still the largest into their targets, and the root's chain
    carries nearly all."""
    model, ids = planted(shaken=0.01), [ELSEWHERE, TOLD, ELSEWHERE, ELSEWHERE, ELSEWHERE]
    drawn = circuit(read(model, ids, reference(model, [[ELSEWHERE] * 6])), NeuronId(1, LAST), 4)
    root, between, head = Node("neuron", 1, LAST, 4), Node("neuron", 0, FIRST, 4), Node("head", 0, HEAD, 4, 1)
    chain = [(between, root), (head, between), (Node("embedding", -1, 0, 1), head)]
    shares = {(edge.source, edge.target): abs(edge.share) for edge in drawn.edges}
    assert set(chain) <= set(shares)
    noise = max((share for ends, share in shares.items() if ends not in chain), default=0.0)
    assert min(shares[ends] for ends in chain) > 5 * noise


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_what_is_at_its_mean_has_no_circuit_of_rounding(name, tiny_model):
    """Of a text of one token against its own mean every share is what float64 rounds: nothing is drawn or checked."""
    model = tiny_model(name)
    clean = read(model, IDS[:1], reference(model, [IDS[:1]]))
    drawn = circuit(clean, NeuronId(1, 3), 0)
    *_, checked = check(clean, drawn)
    assert checked.edges == ()
    assert abs(checked.unexplained) <= 1e-12 * abs(checked.value)


def test_a_planted_circuit_over_a_text_is_the_mean_of_its_tokens():
    model, ids = planted(), [ELSEWHERE, TOLD, ELSEWHERE, ELSEWHERE, ELSEWHERE]
    clean = read(model, ids, reference(model, [[ELSEWHERE] * 6]))
    drawn = circuit(clean, NeuronId(1, LAST), None)
    expected = {("0.7", "1.5"), ("L0H1", "0.7"), ("embed", "L0H1")}
    assert {(edge.source.name, edge.target.name) for edge in drawn.edges} == expected


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_an_average_is_the_mean_of_its_tokens(name, tiny_model):
    """Each direct edge: the mean over the tokens of what the same neuron, or all sources of a head, bring there."""
    model = tiny_model(name)
    clean, drawn = of(model, position=None, width=1000)
    at = range(sinks_in(model, len(IDS)), len(IDS))
    sums: dict[str, float] = {}
    for position in at:
        root = Node("neuron", 1, 5, position)
        u = linear.direction(clean, root, torch.ones(1, dtype=torch.float64))
        for block in linear.blocks_read(clean, root, u):
            for i, share in enumerate(block.shares.tolist()):
                key = block.node(i).name
                sums[key] = sums.get(key, 0.0) + share / len(at)
    direct = [edge for edge in drawn.edges if edge.target == drawn.root and not edge.source.without]
    inside = torch.float64 if name in tiny.EXACT else torch.float32
    bound = of_sum(tiny.D_MODEL * 9, inside, 10)
    singly = [edge for edge in direct if edge.source.kind != "mlp"]
    assert singly or name == "opt"  # whose ReLU lets nothing of this neuron through here
    for edge in singly:
        assert edge.share == pytest.approx(sums[edge.source.name], abs=bound)
    assert drawn.value == pytest.approx(float(clean.neurons(1)[list(at), 5].mean()), abs=bound)
    *_, checked = check(clean, drawn)
    assert all(edge.patched is not None for edge in checked.edges)


@pytest.mark.parametrize("position", [6, None])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_mass_decides_what_is_drawn(name, position, tiny_model):
    """Nodes have 90 % of their mass in edges, and with the rests of blocks all of their flow but the remainder."""
    _, drawn = of(tiny_model(name), position=position)
    for one in drawn.followed:
        assert one.kept >= 0.9
        assert not one.cut
        into = [edge for edge in drawn.edges if edge.target == one.node]
        assert one.drawn == pytest.approx(sum(edge.share for edge in into), abs=1e-9)
        left = one.flow - one.remainder - one.drawn  # all parts less the drawn: at most a ninth of these
        assert abs(left) <= sum(abs(edge.share) for edge in into) / 9 + 1e-9
    assert drawn.unexplained == pytest.approx(drawn.value - drawn.baseline - drawn.followed[0].drawn)


def test_limits_guard_and_are_told(tiny_model):
    _, one = of(tiny_model("llama"), hops=1, width=3)
    assert {edge.target for edge in one.edges} == {one.root}
    assert len(one.edges) <= 3
    assert one.followed[0].cut
    _, few = of(tiny_model("llama"), most=2)
    assert len(few.followed) == 2
    assert few.left > 0


def test_what_cannot_be_followed_is_refused(tiny_model):
    model = tiny_model("gpt2")
    with pytest.raises(InputError):
        of(model, position=9)
    with pytest.raises(NotFoundError):
        of(model, "4.5")


@pytest.mark.parametrize("name", tiny.POST_NORM)
def test_a_circuit_behind_a_norm_is_refused_in_words(name, tiny_model):
    """Gemma 2 and 3, OLMo 2: their predictions are split and read by layer, their circuits are not followed."""
    with pytest.raises(UnsupportedModelError, match="norm stands behind") as refused:
        of(tiny_model(name))
    assert "why" in (refused.value.hint or "")


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_share_of_a_prediction_is_followed_too(name, tiny_model):
    """Heads by source, MLPs by neuron: their parts sum to their share of the entropy."""
    model = tiny_model(name)
    means = reference(model)
    (split,) = decompose(model, IDS, [6], baseline=means)
    clean = read(model, IDS, means)
    for component, share in zip(split.components, split.total.tolist(), strict=True):
        if component.kind in ("head", "mlp"):
            drawn = circuit(clean, component, 6, along=split.gradient, width=5)
            whole = drawn.followed[0]
            assert whole.flow == pytest.approx(share, abs=of_sum(tiny.D_MODEL, torch.float64, 10))
            assert whole.remainder == pytest.approx(0, abs=of_sum(tiny.D_MLP, torch.float32, 10))
            *_, checked = check(clean, drawn, split.gradient)
            assert all(edge.patched is not None for edge in checked.edges)
    with pytest.raises(InputError, match="Nothing is followed back"):
        circuit(clean, Component("embedding"), 6, along=split.gradient)
