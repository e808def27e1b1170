"""The largest changes of entropy without a pass for every neuron are those of the whole table."""

from __future__ import annotations

import pytest
import torch

from analysis.effects import Engine, effects, screen, strongest
from analysis.effects.clean import clean
from analysis.readout import fold
from analysis.trace import LastLayer, trace
from tests import tiny
from tests.tolerance import of_metrics

IDS = tiny.token_ids(10)
AT = 6


def one(last: LastLayer, at: int) -> LastLayer:
    return LastLayer(last.resid[[at]], last.activations[[at]], None if last.mlp_out is None else last.mlp_out[[at]])


def checked(engine: Engine, last: LastLayer, baseline: torch.Tensor, n: int, error: float) -> int:
    """How many neurons got an exact pass, all that the screen says being true."""
    start = clean(engine, last, torch.tensor([0]), torch.tensor([-1]), at_log_p=True)
    delta = baseline - last.activations[0]
    table = effects(engine, last, [0], 0, baseline=baseline)
    exact = table.d_entropy.total
    if engine.rows is not None and engine.readout.soft_cap is None:
        for head, by_group in screen.LOOKS:
            estimate, bound = screen.Screen(engine, start, delta).look(
                torch.arange(len(delta)), head, by_group=by_group
            )
            assert ((estimate - exact).abs() <= bound + error).all()
    top = strongest(engine, last, start, baseline=baseline, n=n)
    order = exact.abs().sort(descending=True, stable=True).indices[:n]
    assert top.neurons.tolist() == order.tolist()
    for name in ("total", "direct", "ln_only"):
        torch.testing.assert_close(
            getattr(top.d_entropy, name), getattr(table.d_entropy, name)[order], atol=error, rtol=0
        )
    passed: list[int] = []

    def exactly(which: torch.Tensor) -> torch.Tensor:
        passed.extend(which.tolist())
        return exact[which]

    assert screen.largest(engine, start, delta, n, exactly).tolist() == order.tolist()
    assert len(passed) == len(set(passed)), "no neuron is passed twice"
    return len(passed)


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES, *tiny.POST_NORM])
def test_the_largest_are_those_of_the_table(name, tiny_model, monkeypatch):
    monkeypatch.setattr(screen, "LOOKS", ((4, False), (16, True)))
    model = tiny_model(name)
    run = trace(model, IDS)
    engine = Engine.build(model.readout, backend="eager")
    checked(engine, one(run.last, AT), run.last.activations.mean(0), 5, 2 * of_metrics())


def test_a_peaked_prediction_needs_few_exact_passes_and_a_vast_change_is_never_excluded(monkeypatch):
    """The bound excludes most neurons where it can, and none whose sums overflow."""
    monkeypatch.setattr(screen, "LOOKS", ((64, False), (256, True)))
    g = torch.Generator().manual_seed(1)
    d, vocab, n = 32, 1200, 200
    W_out = torch.randn(n, d, generator=g, dtype=torch.float64) * 0.3
    W_out[7] *= 30
    readout = fold(
        W_U=torch.randn(d, vocab, generator=g, dtype=torch.float64),
        b_U=None,
        W_out=W_out,
        gain=torch.ones(d, dtype=torch.float64),
        bias=None,
        eps=1e-5,
        layer_norm=False,
    )
    activations = torch.randn(1, n, generator=g, dtype=torch.float64) ** 3 * 0.2
    last = LastLayer(3 * torch.randn(1, d, generator=g, dtype=torch.float64), activations)
    engine = Engine.build(readout, backend="eager")
    left = checked(engine, last, torch.zeros(n, dtype=torch.float64), 10, 2 * of_metrics())
    assert left < n // 4
    far = torch.zeros(n, dtype=torch.float64)
    far[3] = 1e4
    checked(engine, last, far, 1, 2 * of_metrics())
    start = clean(engine, last, torch.tensor([0]), torch.tensor([-1]), at_log_p=True)
    _, bound = screen.Screen(engine, start, far - activations[0]).look(torch.arange(n), 64, by_group=False)
    assert bound[3] > 100, "nothing is said of it: no entropy is as large"


def test_without_kept_rows_all_are_passed(tiny_model):
    model = tiny_model("gpt2")
    run = trace(model, IDS)
    engine = Engine.build(model.readout, backend="eager", memory_bytes=8 * model.d_vocab * 8)
    assert engine.rows is None
    passed = checked(engine, one(run.last, AT), run.last.activations.mean(0), 5, 2 * of_metrics())
    assert passed == model.d_mlp
