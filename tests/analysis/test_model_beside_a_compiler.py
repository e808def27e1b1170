"""A forward pass beside a thread that traces with torch.fx, which replaces nn.Module.__call__ for everybody."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from analysis import undisturbed as module
from analysis.model import Model
from tests import tiny

RESID = "blocks.1.hook_resid_post"


def resid(model: Model, tokens: Tensor) -> Tensor:
    return model.run(tokens, capture=[RESID])[RESID]


def logits(model: Model, tokens: Tensor) -> Tensor:
    return model.logits(tokens)


def generated(model: Model, tokens: Tensor) -> Tensor:
    return torch.tensor(model.generate(tokens[0].tolist(), 3))


@pytest.mark.parametrize("forward", [resid, logits, generated])
def test_a_forward_pass_waits_for_another_threads_tracing(
    forward: Callable[[Model, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model("gpt2")
    tokens = model.tokens(tiny.token_ids(8))
    expected = forward(model, tokens)
    entered, go, waits = threading.Event(), threading.Event(), []

    def traced(x: Any) -> Any:
        entered.set()
        go.wait(20)
        return x

    tracing = threading.Thread(target=torch.fx.symbolic_trace, args=(traced,))

    def pause(_: float) -> None:
        waits.append(1)
        go.set()
        tracing.join()

    monkeypatch.setattr(module.time, "sleep", pause)
    tracing.start()
    assert entered.wait(20)
    try:
        found = forward(model, tokens)
    finally:
        go.set()
        tracing.join()
    assert waits, "the tracer did not get in the way: this test proves nothing any more"
    assert torch.equal(found, expected)


def test_another_name_error_is_not_swallowed() -> None:
    def broken() -> None:
        raise NameError("name 'x' is not defined")

    with pytest.raises(NameError):
        module.undisturbed(broken)
