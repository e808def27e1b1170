"""Work ends at its next check once somebody says that nobody waits for it, however deep the blocks stand."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from analysis import nullspace, nullspace_study, selfcheck
from analysis.effects import Engine, effects
from analysis.interrupt import GivenUpError, check, until
from analysis.model import Model
from analysis.trace import position_metrics, trace


def test_without_a_block_nothing_is_given_up() -> None:
    check()
    with until(lambda: True):
        pass
    check()


def test_the_outer_block_counts_inside_the_inner_one_and_after_it() -> None:
    given_up = False
    with until(lambda: given_up):
        with until(lambda: False):
            check()
            given_up = True
            with pytest.raises(GivenUpError):
                check()
        with pytest.raises(GivenUpError):
            check()


def test_the_inner_block_counts_until_it_ends_also_by_an_error() -> None:
    with until(lambda: False):
        with pytest.raises(GivenUpError), until(lambda: True):
            check()
        check()


def test_a_block_speaks_for_its_own_thread() -> None:
    raised: list[BaseException] = []

    def other() -> None:
        try:
            check()
        except GivenUpError as error:
            raised.append(error)

    with until(lambda: True):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert not raised


LONG: dict[str, Callable[[Model], object]] = {
    "a pass up to the final norm": lambda model: model.run(model.tokens([1, 2, 3])),
    "a pass with its logits": lambda model: model.logits(model.tokens([1, 2, 3])),
    "metrics over the vocabulary": lambda model: position_metrics(
        model.readout, torch.ones(3, model.d_model, dtype=model.dtype), torch.tensor([1, 2, 3])
    ),
    "the self-check": selfcheck.run,
    "the spectrum": lambda model: nullspace.spectrum(model.readout),
    "what heads write into the null space": lambda model: nullspace_study.head_shares(
        model, nullspace.spectrum(model.readout), 1
    ),
    "every neuron at a token": lambda model: effects(
        Engine.build(model.readout, backend="eager"), trace(model, [1, 2, 3]).last, [1, 2, 3], 1, baseline=None
    ),
}


@pytest.mark.parametrize("work", LONG.values(), ids=LONG.keys())
def test_long_work_ends_where_it_is_given_up(work: Callable[[Model], object], tiny_model: Callable[..., Model]) -> None:
    """What a large vocabulary makes long is checked between its blocks."""
    model = tiny_model("llama", dtype=torch.float32)
    with until(lambda: True), pytest.raises(GivenUpError):
        work(model)
