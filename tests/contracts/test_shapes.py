"""What a wrong shape or type in `analysis` meets in the tests: `tests.shapes` refuses it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import isfunction
from typing import Any

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from torch import Tensor

import analysis
from tests.shapes import checked


@checked
def outer(a: Float[Tensor, " n"], b: Float[Tensor, " m"], *, times: int = 1) -> Float[Tensor, "n m"]:
    return times * a[:, None] * b


@checked
def transposed(a: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    return a.T


@checked
def drawn(n: int, *, width: int) -> Float[Tensor, "{n} {width}"]:
    return torch.zeros(n, 3)


@checked
def counted(text: str) -> int:
    return text  # type: ignore[return-value]


@checked
def pieces(a: Float[Tensor, " n"]) -> Iterator[Float[Tensor, ""]]:
    yield from a


@checked
@dataclass(frozen=True, slots=True)
class Pair:
    left: Float[Tensor, " n"]
    right: Float[Tensor, " n"]


@checked
@dataclass(frozen=True, slots=True)
class Table:
    """Fields of the same names as `Pair`."""

    left: Float[Tensor, "n m"]
    right: Float[Tensor, "n m"]


def test_what_is_right_passes() -> None:
    assert outer(torch.ones(2), torch.ones(3), times=2).shape == (2, 3)
    assert transposed(torch.ones(2, 2)).shape == (2, 2)
    assert drawn(4, width=3).shape == (4, 3)
    assert len(list(pieces(torch.ones(5)))) == 5
    assert Pair(torch.ones(2), torch.ones(2)).left.shape == (2,)
    assert Table(torch.ones(2, 1), torch.ones(2, 1)).left.shape == (2, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: outer(torch.ones(2), torch.ones(3, 1)),
        lambda: outer(torch.ones(2), torch.ones(3, dtype=torch.int64)),
        lambda: outer(torch.ones(2), torch.ones(3), times=1.5),  # type: ignore[arg-type]
        lambda: transposed(torch.ones(2, 3)),
        lambda: drawn(4, width=2),
        lambda: counted("a"),
        lambda: counted(1),  # type: ignore[arg-type]
        lambda: pieces(torch.ones(2, 2)),
        lambda: Pair(torch.ones(2), torch.ones(3)),
        lambda: Table(torch.ones(2), torch.ones(2)),
    ],
)
def test_what_is_wrong_is_refused(wrong: Callable[[], Any]) -> None:
    with pytest.raises(BeartypeCallHintViolation):
        wrong()


def test_a_nested_function_is_checked_each_time_by_what_was_built_once() -> None:
    def define(offset: int) -> Callable[[Any], Any]:
        @checked
        def added(a: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
            return a + offset

        return added

    first, second = define(1), define(2)
    assert [one(torch.zeros(1)).item() for one in (first, second)] == [1, 2]
    assert first.__closure__ is not None
    assert second.__closure__ is not None
    built = [
        {id(cell.cell_contents) for cell in one.__closure__ if cell.cell_contents is not one.__wrapped__}  # type: ignore[attr-defined]
        for one in (first, second)
    ]
    assert built[0] == built[1]
    for one in (first, second):
        with pytest.raises(BeartypeCallHintViolation):
            one(torch.zeros(1, 1))


def test_every_annotated_function_of_analysis_is_checked() -> None:
    """The hook of jaxtyping stands, and decorates with ours."""
    names = [module.name for module in pkgutil.walk_packages(analysis.__path__, "analysis.")]
    names.remove("analysis.kernels.fused")  # wants triton
    functions = [
        thing
        for module in map(importlib.import_module, names)
        for thing in vars(module).values()
        if isfunction(thing) and thing.__module__ == module.__name__ and thing.__annotations__
    ]
    assert len(functions) > 300
    ours = [one for one in functions if one.__code__.co_filename.endswith("tests/shapes.py")]
    bare = {one.__qualname__ for one in functions if one not in ours and not hasattr(one, "__no_type_check__")}
    assert bare - {one.__qualname__ for one in functions if hasattr(one, "__wrapped__")} == set()
    assert len(ours) > 0.9 * len(functions)
