"""The closed form is the hooked forward pass, for every architecture and condition; METHODS section 6."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from analysis import interrupt
from analysis.effects import (
    Effects,
    Engine,
    baseline_values,
    dose_response,
    effects,
    joint,
    next_tokens,
    stream,
    temperature_share,
)
from analysis.effects.table import Parts
from analysis.effects.temperature import SMALLEST_KL
from analysis.frequency import Unigram, freeze_frequency, unigram
from analysis.model import Model
from analysis.readout import Readout, fold
from analysis.trace import LastLayer, Trace, trace
from analysis.types import CapacityError, InputError, NotReadyError
from tests import tiny
from tests.tolerance import close, identity, near, of_metrics, of_sum, within

ALL = (*tiny.ARCHITECTURES, *tiny.POST_NORM)
IDS = tiny.token_ids(10)
POSITION = 6
DIFFERENCE = 2 * of_metrics()
"""Of two metrics, each computed twice."""
COUNTS = unigram(torch.arange(tiny.N_TOKENS) ** 2, d_vocab=tiny.D_VOCAB, source="made up")


def engine_of(model: Model, counts: Unigram | None = COUNTS) -> Engine:
    return Engine.build(model.readout, unigram=counts, backend="eager")


def run(model: Model) -> tuple[Trace, Tensor, Effects]:
    clean = trace(model, IDS)
    baseline = baseline_values("prompt_mean", clean.last.activations)
    return clean, baseline, effects(engine_of(model), clean.last, IDS, POSITION, baseline=baseline)


def measures(log_p: Tensor, target: int) -> dict[str, Tensor]:
    return {
        "d_entropy": -(log_p.exp() * log_p).sum(-1),
        "d_loss": -log_p[..., target],
        "d_kl_unigram": (COUNTS.p_freq * (COUNTS.log_p - log_p)).sum(-1),
    }


@pytest.mark.parametrize("name", ALL)
def test_every_part_is_what_hooked_passes_give(name, tiny_model):
    """Identity 2: total, LN frozen, LN only and frequency frozen, from the model's own logits with hooks in place."""
    model = tiny_model(name)
    _clean, baseline, table = run(model)
    tokens, target = model.tokens(IDS), IDS[POSITION + 1]
    post, scale = f"blocks.{model.last_layer}.mlp.hook_post", "ln_final.hook_scale"
    before = model.run(tokens, capture=[scale])[scale]
    z = model.logits(tokens)[0, POSITION]
    worst = 0.0
    for index in range(0, model.d_mlp, 7):

        def ablate(activations: Tensor, index: int = index) -> Tensor:
            changed = activations.clone()
            changed[:, POSITION, index] = baseline[index]
            return changed

        after = model.run(tokens, capture=[scale], hooks=[(post, ablate)])[scale]
        total = model.logits(tokens, hooks=[(post, ablate)])[0, POSITION]
        runs = {
            "total": total,
            "ln_frozen": model.logits(tokens, hooks=[(post, ablate), (scale, lambda s: before.clone())])[0, POSITION],
            "ln_only": model.logits(tokens, hooks=[(scale, lambda s, after=after: after.clone())])[0, POSITION],
            "frequency": freeze_frequency(z, total, COUNTS.direction),
        }
        reference = measures(z.log_softmax(-1), target)
        for part, logits in runs.items():
            for metric, value in measures(logits.log_softmax(-1), target).items():
                got = under(getattr(table, metric), part)
                worst = max(worst, abs(float(value - reference[metric] - got[index])))
        assert bool(table.top1_changes[index]) == bool(total.argmax() != z.argmax())
        ranks = [1 / (1 + int((logits > logits[target]).sum())) for logits in (z, total)]
        assert float(table.d_reciprocal_rank[index]) == near(ranks[1] - ranks[0], 3, scale=1)
    assert worst < 2 * identity(model)  # a difference of two passes
    assert table.d_entropy.total.abs().max() > 1e-4, "an effect too small to test anything"


def under(parts: Parts, condition: str) -> Tensor:
    """The change under one condition, from the parts."""
    if condition == "frequency":
        return parts.total - parts.frequency_mediated
    if condition == "ln_frozen":
        return parts.total - parts.ln_mediated
    return getattr(parts, condition)


@pytest.mark.parametrize("name", tiny.POST_NORM)
def test_the_norm_behind_the_mlp_is_a_path_of_its_own(name, tiny_model):
    """METHODS section 18, against hooked passes: what the MLP writes with that norm's scale held is u's change over
    r, added to the clean stream; with the final scale held too that is direct, and the three parts sum to total."""
    model = tiny_model(name)
    clean, baseline, table = run(model)
    tokens, target = model.tokens(IDS), IDS[POSITION + 1]
    stream_at, scale = f"blocks.{model.last_layer}.hook_resid_post", "ln_final.hook_scale"
    before = model.run(tokens, capture=[scale])[scale]
    norm = model.readout.post_norm
    r = norm.scale(clean.last.mlp_out[POSITION])
    z = model.logits(tokens)[0, POSITION]
    reference = measures(z.log_softmax(-1), target)
    largest = 0.0
    for index in range(0, model.d_mlp, 7):
        delta = baseline[index] - clean.last.activations[POSITION, index]
        change = delta * norm.gain * model.readout.W_out[index] / r

        def write(resid: Tensor, change: Tensor = change) -> Tensor:
            changed = resid.clone()
            changed[:, POSITION] += change
            return changed

        logits = model.logits(tokens, hooks=[(stream_at, write), (scale, lambda s: before.clone())])[0, POSITION]
        for metric, value in measures(logits.log_softmax(-1), target).items():
            parts = getattr(table, metric)
            assert abs(float(value - reference[metric] - parts.direct[index])) < 2 * identity(model)
            largest = max(largest, float(parts.mlp_norm[index].abs()))
            within((parts.direct + parts.mlp_norm + parts.ln_mediated)[index], parts.total[index], DIFFERENCE)
    assert largest > 1e-4, "a path too weak to test anything"


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_without_a_norm_behind_the_mlp_there_is_no_such_path(name, tiny_model):
    _clean, _baseline, table = run(tiny_model(name))
    assert table.d_entropy.mlp_norm is None
    within(table.d_entropy.direct + table.d_entropy.ln_mediated, table.d_entropy.total, DIFFERENCE)


def oracle(readout: Readout, last: LastLayer, position: int, index: int, value: float) -> dict[str, Tensor]:
    """Log-probabilities of one ablation under each condition, straight through the readout."""
    x = last.resid[position : position + 1]
    mlp_out = None if last.mlp_out is None else last.mlp_out[position : position + 1]
    delta = (value - last.activations[position, index])[None, None]
    changed = readout.write(x, mlp_out, delta, readout.W_out[index : index + 1])
    logits = {
        "total": readout.logits(changed),
        "ln_frozen": readout.logits(changed, scale=readout.scale(x)),
        "ln_only": readout.logits(x, scale=readout.scale(changed)),
        "clean": readout.logits(x),
    }
    logits["frequency"] = freeze_frequency(logits["clean"], logits["total"], COUNTS.direction)
    return {name: z[0].log_softmax(-1) for name, z in logits.items()}


@pytest.mark.parametrize("name", ALL)
def test_tables_equal_the_readout(name, tiny_model):
    model = tiny_model(name)
    clean, baseline, table = run(model)
    target = IDS[POSITION + 1]
    for index in range(0, model.d_mlp, 3):
        log_p = oracle(model.readout, clean.last, POSITION, index, baseline[index])
        reference = measures(log_p.pop("clean"), target)
        for part, value in log_p.items():
            for metric, changed in measures(value, target).items():
                got = under(getattr(table, metric), part)
                assert abs(float(got[index]) - float(changed - reference[metric])) < DIFFERENCE


@pytest.mark.parametrize("name", ALL)
def test_stream_equals_tables_whatever_the_budget(name, tiny_model):
    """Rows kept or made in blocks, positions in chunks: the same numbers."""
    model = tiny_model(name)
    clean, baseline, table = run(model)
    kept = engine_of(model)
    tight = Engine.build(model.readout, unigram=COUNTS, backend="eager", memory_bytes=60_000)
    assert kept.rows is not None
    assert tight.rows is None
    assert tight.rows_per_block(4) < model.d_mlp
    for engine in (kept, tight):
        got = torch.full((len(IDS), model.d_mlp), float("nan"), dtype=torch.float64)
        for block in stream(
            engine, clean.last, next_tokens(IDS), baseline=baseline, conditions=("total", "frequency"), ranks=True
        ):
            got[block.positions[:, None], block.neurons] = block.outcomes["frequency"].d_entropy
            assert torch.isnan(block.outcomes["total"].d_loss[block.positions == len(IDS) - 1]).all()
        expected = table.d_entropy.total - table.d_entropy.frequency_mediated
        within(got[POSITION], expected, DIFFERENCE)


@pytest.mark.parametrize("name", ALL)
def test_nothing_changed_is_no_effect_at_all(name, tiny_model):
    """Identity 3: delta = 0 gives exactly 0 in every part and metric."""
    model = tiny_model(name)
    clean = trace(model, IDS)
    table = effects(engine_of(model), clean.last, IDS, POSITION, baseline=clean.last.activations[POSITION])
    for parts in (table.d_entropy, table.d_loss, table.d_kl_unigram):
        for values in (parts.total, parts.direct, parts.ln_only, parts.ln_mediated, parts.frequency_mediated):
            assert (values == 0).all()
    assert (table.kl == 0).all()
    assert not table.top1_changes.any()
    assert (table.d_reciprocal_rank == 0).all()


def test_sets_are_sums_of_changes(tiny_model):
    """Identity 3: a set of one is the single effect; order does not matter; a set is not the sum of its singles."""
    model = tiny_model("gpt2")
    clean, baseline, table = run(model)
    engine = engine_of(model)
    one = joint(engine, clean.last, IDS, POSITION, [5], baseline=baseline)
    assert abs(float(one.d_loss.total) - float(table.d_loss.total[5])) < DIFFERENCE
    several = [joint(engine, clean.last, IDS, POSITION, order, baseline=baseline) for order in ([3, 9, 21], [21, 3, 9])]
    for part in ("total", "direct", "ln_only", "frequency_mediated"):
        a, b = (float(getattr(result.d_entropy, part)) for result in several)
        assert abs(a - b) < DIFFERENCE
    whole = joint(engine, clean.last, IDS, POSITION, range(model.d_mlp), baseline=baseline)
    assert abs(float(whole.d_entropy.total) - float(whole.singles.d_entropy.total.sum())) > 1e-6
    with pytest.raises(InputError, match="twice"):
        joint(engine, clean.last, IDS, POSITION, [3, 3], baseline=baseline)


@pytest.mark.parametrize("name", ALL)
def test_joint_ablation_is_the_hooked_pass(name, tiny_model):
    model = tiny_model(name)
    clean, baseline, _ = run(model)
    neurons = [1, 8, 30]

    def ablate(activations: Tensor) -> Tensor:
        changed = activations.clone()
        changed[:, POSITION, neurons] = baseline[neurons]
        return changed

    tokens = model.tokens(IDS)
    z = model.logits(tokens)[0, POSITION]
    hooked = model.logits(tokens, hooks=[(f"blocks.{model.last_layer}.mlp.hook_post", ablate)])[0, POSITION]
    result = joint(engine_of(model), clean.last, IDS, POSITION, neurons, baseline=baseline)
    expected = {k: measures(hooked.log_softmax(-1), IDS[POSITION + 1])[k] - v
                for k, v in measures(z.log_softmax(-1), IDS[POSITION + 1]).items()}  # fmt: skip
    for metric, value in expected.items():
        assert abs(float(getattr(result, metric).total) - float(value)) < 2 * identity(model)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_a_dose_at_the_baseline_is_the_ablation(name, tiny_model):
    model = tiny_model(name)
    clean, baseline, table = run(model)
    doses = torch.tensor([float(clean.last.activations[POSITION, 4]), float(baseline[4]), 3.0], dtype=torch.float64)
    response = dose_response(engine_of(model), clean.last, IDS, POSITION, [4], doses)
    assert abs(float(response.entropy[0]) - table.clean.entropy) < of_metrics()
    assert abs(float(response.entropy[1] - response.entropy[0]) - float(table.d_entropy.total[4])) < DIFFERENCE
    frozen = response.frozen_entropy[1] - response.frozen_entropy[0]
    assert abs(float(frozen) - float(under(table.d_entropy, "ln_frozen")[4])) < DIFFERENCE
    assert float(response.ln_scale[1]) == near(float(table.ln_scale_after[4]), 2 * tiny.D_MODEL)
    assert dose_response(engine_of(model), clean.last, IDS, len(IDS) - 1, [4], doses).loss is None


@pytest.mark.parametrize("name", ALL)
def test_without_layer_norm_total_is_direct(name, tiny_model):
    """Identity 8: a constant scale leaves nothing to mediate."""
    model = tiny_model(name)
    clean = trace(model, IDS)
    engine = engine_of(model).without_layer_norm(1.7)
    baseline = baseline_values("zero", clean.last.activations)
    table = effects(engine, clean.last, IDS, POSITION, baseline=baseline)
    for parts in (table.d_entropy, table.d_loss, table.d_kl_unigram):
        within(parts.ln_mediated, torch.zeros_like(parts.total), DIFFERENCE)
        assert parts.ln_only.abs().max() < DIFFERENCE
    assert table.d_entropy.total.abs().max() > 1e-4
    assert (table.ln_scale_after == 1.7).all()


def made_up(d: int = 6, vocab: int = 30, n: int = 4, *, bias: bool, seed: int = 0) -> tuple[Readout, LastLayer]:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    readout = fold(
        W_U=normal(d, vocab), b_U=normal(vocab) if bias else None, W_out=normal(n, d), gain=normal(d).exp(), bias=None,
        eps=1e-5, layer_norm=True,
    )  # fmt: skip
    return readout, LastLayer(2 * normal(3, d), normal(3, n))


def test_a_neuron_in_the_null_space_acts_through_the_norm_alone():
    """Identity 4; with b_U = 0 it is one temperature, s'/s, and ranks stay."""
    readout, last = made_up(bias=False)
    U = torch.linalg.svd(readout.W_U).U  # centring makes the last singular value of W_U exactly 0; make another one so
    null = U[:, -2]
    W_U = readout.W_U - torch.outer(null, null @ readout.W_U)
    readout = replace(readout, W_U=W_U, W_out=3 * readout.centre(null).expand(4, -1).contiguous())
    engine = Engine.build(readout, backend="eager")
    ids = [3, 7, 1]
    table = effects(engine, last, ids, 1, baseline=torch.tensor([0.0, 1.0, 2.0, 5.0], dtype=torch.float64))
    # A logit is a sum over d, the planted null direction one more; an entropy sums over the vocabulary.
    largest = float(readout.logits(last.resid).abs().max() + readout.W_out.norm(dim=1).max() * table.delta.abs().max())
    bound = 2 * of_sum(2 * 6 + 30, scale=largest)
    assert table.d_entropy.direct.abs().max() < bound
    assert table.d_entropy.total.abs().min() > 1e-6
    within(table.d_entropy.total, table.d_entropy.ln_only, bound)
    assert not table.top1_changes.any()
    assert (table.d_reciprocal_rank == 0).all()
    fit = temperature_share(engine, last, 1, range(4), table.delta)
    # A minimum is flat: it lies where rounding of the divergence r leaves it, within the root of 2 r / curvature, and
    # the curvature of a divergence along 1/T is the variance of log P.
    log_p = readout.log_probs(last.resid[1])
    variance = float((log_p.exp() * log_p.square()).sum() - (log_p.exp() * log_p).sum() ** 2)
    true = table.ln_scale_after / table.ln_scale_before
    within(fit.temperature, true, float(true.max()) ** 2 * (2 * bound / variance) ** 0.5)
    within(fit.share, torch.ones(4, dtype=torch.float64), bound / float(fit.kl.min()))


def test_a_larger_scale_means_more_entropy_without_a_bias():
    """Identity 5: the LN-only effect has the sign of the change of scale."""
    readout, last = made_up(bias=False, n=12)
    table = effects(
        Engine.build(readout, backend="eager"), last, [3, 7, 1], 1, baseline=torch.zeros(12, dtype=torch.float64)
    )
    assert torch.equal(table.d_entropy.ln_only.sign(), (table.ln_scale_after - table.ln_scale_before).sign())


def test_frequency_frozen_effects():
    """Identity 7: a change parallel to v is carried by it entirely, one orthogonal to v not at all (scale constant)."""
    readout, last = made_up(d=30, vocab=24, bias=True)
    counts = unigram(torch.arange(24) ** 3, d_vocab=24, source="made up")
    other = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    solve = torch.linalg.lstsq(readout.W_U.T, torch.stack([counts.direction, other], 1)).solution.T
    v = counts.direction
    parallel, other = solve @ readout.W_U
    sizes = float(solve.norm(dim=1).max() * readout.W_U.norm())
    close(parallel, v, 30 + 24, scale=sizes)
    W_out = torch.stack([solve[0], solve[1] - (other @ v) * solve[0]])
    readout = replace(readout.with_constant_scale(1.0), W_out=W_out)
    last = LastLayer(last.resid, last.activations[:, :2])
    engine = Engine.build(readout, unigram=counts, backend="eager")
    table = effects(engine, last, [3, 7, 1], 1, baseline=torch.tensor([2.0, 2.0], dtype=torch.float64))
    bound = of_sum(30 + 2 * 24, scale=sizes * float(table.delta.abs().max() * (1 + (other @ v).abs())))
    assert abs(float(table.d_loss.frequency_mediated[0] - table.d_loss.total[0])) < bound
    assert abs(float(table.d_loss.frequency_mediated[1])) < bound < 1e-3 * abs(float(table.d_loss.total[1]))


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 30), bias=st.booleans())
@settings(max_examples=40)
def test_divergences_and_shares_keep_their_bounds(seed, scale, bias):
    """Identity 10: KL >= 0; a temperature explains at most all and, 1 being among them, at least nothing."""
    readout, last = made_up(bias=bias, seed=seed)
    last = LastLayer(last.resid, last.activations * scale)
    engine = Engine.build(readout, backend="eager")
    table = effects(engine, last, [3, 7, 1], 1, baseline=torch.zeros(4, dtype=torch.float64))
    assert (table.kl >= 0).all()
    fit = temperature_share(engine, last, 1, range(4), table.delta)
    # Both are sums over the vocabulary, the engine's of numbers as large as the logits.
    largest = float(readout.logits(last.resid).abs().max() + readout.W_out.norm(dim=1).max() * table.delta.abs().max())
    close(fit.kl, table.kl, 6 + 30, scale=largest)
    defined = ~torch.isnan(fit.share)
    assert (fit.share[defined] <= 1).all()
    # 1 - min KL(beta) / KL with KL(1) among those: below 0 by rounding of a KL alone, over the smallest that counts.
    assert (fit.share[defined] > -of_sum(6 + 30, scale=largest) / SMALLEST_KL).all()
    assert ((fit.temperature[defined] >= 0.0499) & (fit.temperature[defined] <= 20.01)).all()


def test_baselines():
    activations = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    assert baseline_values("zero", activations).tolist() == [0, 0]
    assert baseline_values("prompt_mean", activations).tolist() == [2, 1]
    assert baseline_values(0.5, activations).tolist() == [0.5, 0.5]
    assert baseline_values("mean", activations, torch.tensor([7.0, 8.0])).tolist() == [7, 8]
    with pytest.raises(NotReadyError):
        baseline_values("mean", activations)


def test_impossible_requests_are_refused(tiny_model):
    model = tiny_model("gpt2")
    clean, baseline, _ = run(model)
    engine = engine_of(model, counts=None)
    with pytest.raises(InputError, match="Position 10"):
        effects(engine, clean.last, IDS, 10, baseline=baseline)
    with pytest.raises(InputError, match="40 neurons"):
        effects(engine, clean.last, IDS, 1, baseline=baseline, neurons=[40])
    with pytest.raises(InputError, match="token counts"):
        next(stream(engine, clean.last, next_tokens(IDS), baseline=baseline, conditions=("frequency",)))
    with pytest.raises(CapacityError, match="1,000"):
        Engine.build(model.readout, memory_bytes=1000)


def test_the_last_token_and_missing_counts_leave_columns_out(tiny_model):
    model = tiny_model("llama")
    clean, baseline, _ = run(model)
    table = effects(engine_of(model, counts=None), clean.last, IDS, len(IDS) - 1, baseline=baseline)
    assert table.d_loss is None
    assert table.d_reciprocal_rank is None
    assert table.clean.loss is None
    assert table.d_kl_unigram is None
    assert table.d_entropy.frequency_mediated is None


def test_work_that_is_given_up_ends_between_two_blocks(tiny_model):
    """A budget for few rows at a time makes several blocks; nothing comes after the one in which it was given up."""
    model = tiny_model("gpt2")
    clean = trace(model, IDS)
    engine = Engine.build(model.readout, backend="eager", memory_bytes=8 * 8 * tiny.D_VOCAB * 4)
    blocks = stream(engine, clean.last, next_tokens(IDS), baseline=torch.zeros(model.d_mlp))
    given_up = []
    with interrupt.until(lambda: bool(given_up)):
        next(blocks)
        next(blocks)
        given_up.append(True)
        with pytest.raises(interrupt.GivenUpError):
            next(blocks)
    assert len(list(stream(engine, clean.last, next_tokens(IDS), baseline=torch.zeros(model.d_mlp)))) > 2
