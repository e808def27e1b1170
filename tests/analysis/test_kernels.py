"""Backends: all give eager's sums, whatever is compiled, fails or is awaited. How exact: test_kernel_accuracy."""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from analysis.effects import Engine, effects, next_tokens, stream, warm_up
from analysis.frequency import unigram
from analysis.kernels import Backend, Coefficients, Tile, choose, compiler, libraries
from analysis.kernels.arithmetic import BLOCK, Form, Function, arguments, reduction
from analysis.kernels.compiled import Compiled, Forms
from analysis.kernels.eager import Eager
from analysis.trace import LastLayer
from analysis.types import InputError
from tests.analysis.test_kernel_accuracy import EPS, needs_compiler, random_readout
from tests.tolerance import EFFECT, within


def random_tile(n: int = 9, vocab: int = 2 * BLOCK + 2, seed: int = 0) -> Tile:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    full = Coefficients(normal(1, 2, n) * 0.01, normal(2, n), normal(2, n), normal(2, 2, n) - 9)
    return Tile(
        base=(3 * normal(2, vocab)).log_softmax(-1),
        bases=10 * normal(1, 2, vocab),
        rows=normal(n, vocab),
        conditions=(full, Coefficients(row=normal(2, n))),
        direction=normal(vocab) / vocab**0.5,
    )


COMPILED = Compiled(wait=True)
"""Shared, so that the tests below compile once."""


def check_against_eager(backend: Backend, tile: Tile) -> None:
    for got, expected in zip(backend(tile), Eager()(tile), strict=True):
        within(got.log_partition, expected.log_partition, EFFECT)
        within(got.mean, expected.mean, EFFECT)
        assert (got.above is None) == (expected.above is None)
        if got.above is not None:
            assert torch.equal(got.above, expected.above)


@needs_compiler
def test_one_compilation_serves_every_number_of_rows_and_every_large_vocabulary():
    """Too few rows are left to eager."""
    for n in (9, 40, 4, 3):
        check_against_eager(COMPILED, random_tile(n))
    for vocab in (2 * BLOCK + 3, 3 * BLOCK + 2, 5 * BLOCK - 1, 50_257):
        check_against_eager(COMPILED, random_tile(vocab=vocab))
    assert len(COMPILED.asked) == 1
    assert COMPILED.failure is None


@pytest.mark.parametrize("vocab", [2, 300, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1, 3 * BLOCK])
def test_the_arithmetic_that_is_compiled_is_that_of_eager(vocab):
    """Blocks without a remainder, a remainder without blocks, and a remainder of one."""
    check_against_eager(Compiled(wait=True, forms=Forms(reduction)), random_tile(vocab=vocab))


def test_capped_and_shifted_logits_too():
    tile = random_tile(vocab=50)
    tile = replace(tile, cap=3.0, shift=tile.base.logsumexp(-1))
    check_against_eager(Compiled(wait=True, forms=Forms(reduction)), tile)
    assert arguments(tile, 0)[3].shape[0] == Form.of(tile).scalars


@pytest.mark.parametrize("backend", [Eager(), pytest.param(COMPILED, marks=needs_compiler)], ids=["eager", "compiled"])
def test_what_leaves_the_safe_range_is_done_again(backend):
    """A fixed shift overflows or underflows float32 here; the answer is still right."""
    tile = random_tile(n=6)
    for factor in (300.0, -300.0):
        row = torch.full((2, 6), factor)
        wild = replace(tile, conditions=(tile.conditions[0], Coefficients(row=row)))
        sums = backend(wild)[1]
        u = wild.base.double()[:, None] + factor * wild.rows.double()
        assert (u.amax(-1) > 500).all()
        allowed = 4 * EPS * float(u.abs().max())
        within(sums.log_partition, u.logsumexp(-1), allowed)
        within(sums.mean, (u.softmax(-1) * u).sum(-1), allowed)


def small_engine(backend: Backend, seed: int = 0, vocab: int = 300) -> tuple[Engine, LastLayer]:
    readout, last = random_readout(seed, vocab, 1.0, layer_norm=seed % 2 == 0, cap=None)
    counts = unigram(torch.arange(vocab), d_vocab=vocab, source="made up")
    return Engine.build(readout, unigram=counts, backend=backend), last


class Gate:
    """A compiler that takes until it is told to go on."""

    def __init__(self) -> None:
        self.go_on, self.made = threading.Event(), 0

    def __call__(self, form: Form) -> Function:
        self.go_on.wait()
        self.made += 1
        return reduction(form)


def test_nobody_waits_for_the_compiler():
    """Eager answers until the function is there, and it is compiled once, by the warm-up."""
    gate = Gate()
    forms = Forms(gate)
    engine, last = small_engine(Compiled(forms=forms))
    warm_up(engine)
    before = effects(engine, last, [0, 1], 0, baseline=torch.zeros(8))
    assert engine.backend.compiling
    gate.go_on.set()
    waiting = replace(engine, backend=Compiled(wait=True, forms=forms))
    after = effects(waiting, last, [0, 1], 0, baseline=torch.zeros(8))
    assert gate.made == 1, "the warm-up compiled for another form than the table's"
    assert not engine.backend.compiling
    within(after.d_entropy.total, before.d_entropy.total, EFFECT)


def test_any_number_of_models_and_forms_is_compiled_each_once():
    """More than the 8 that torch.compile would keep of one function: every form has a function, and it answers."""
    called: list[Form] = []

    def make(form: Form) -> Function:
        def counted(*given: Tensor) -> list[Tensor]:
            called.append(form)
            return reduction(form)(*given)

        return counted

    forms, asked = Forms(make), set()
    for seed in range(6):
        backend = Compiled(wait=True, forms=forms)
        for conditions in (("total", "direct"), ("ln_only",), ("total", "direct", "frequency")):
            found = []
            for each in (backend, Eager()):
                engine, last = small_engine(each, seed, vocab=40 + 7 * (seed // 2))
                ranks = "frequency" in conditions
                (block,) = stream(
                    engine, last, next_tokens([0, 1]), baseline=torch.zeros(8), conditions=conditions, ranks=ranks
                )
                found.append(block.outcomes)
            for condition in conditions:
                ours, theirs = (outcomes[condition].d_entropy for outcomes in found)
                within(ours, theirs, EFFECT)
        assert backend.failure is None
        asked |= backend.asked
    assert len(asked) == 9, "three vocabularies by three sets of conditions; the norm is in no form"
    assert set(called) == asked


def test_a_compiler_that_fails_leaves_eager_and_says_so_once(caplog):
    def broken(form: Form) -> Function:
        raise RuntimeError("no such header\nand more")

    backend, tile = Compiled(wait=True, forms=Forms(broken)), random_tile(vocab=50)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert torch.equal(backend(tile)[0].mean, Eager()(tile)[0].mean)
    assert backend.failure == "RuntimeError: no such header"
    assert not backend.compiling
    assert [record.message for record in caplog.records] == [
        "effects of one form take the slower eager kernels from now on: RuntimeError: no such header"
    ]


@pytest.mark.parametrize("wrong", ["raises", "differs", "gives NaN"])
def test_a_compiled_function_that_fails_or_is_wrong_leaves_eager(wrong, caplog):
    def make(form: Form) -> Function:
        calls = []

        def function(*given: Tensor) -> list[Tensor]:
            calls.append(1)
            if wrong == "raises" and len(calls) > 1:  # the first call is the trial
                raise RuntimeError("illegal instruction")
            factor = {"raises": 1.0, "differs": 1.01, "gives NaN": float("nan")}[wrong]
            return [sums * factor for sums in reduction(form)(*given)]

        return function

    backend, tile = Compiled(wait=True, forms=Forms(make)), random_tile(vocab=50)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(backend(tile)[0].mean, Eager()(tile)[0].mean)
    assert backend.failure is not None
    assert len(caplog.records) == 1


@needs_compiler
def test_nothing_is_traced_where_models_run(monkeypatch):
    """A tracer replaces nn.Module.__call__ for every thread of its process: compiling happens in another one."""

    def traced(*args: object, **options: object) -> None:
        raise AssertionError("traced in this process")

    monkeypatch.setattr(torch.fx.Tracer, "trace", traced)
    monkeypatch.setattr(torch, "compile", traced)
    monkeypatch.setattr(torch.export, "export", traced)
    backend = Compiled(wait=True, forms=Forms())
    check_against_eager(backend, random_tile())
    assert backend.failure is None


def test_a_compiler_that_ends_badly_leaves_its_last_words(monkeypatch, tmp_path):
    monkeypatch.setattr(libraries, "_folder", lambda: tmp_path)
    form = replace(Form.of(random_tile(vocab=50)), vocab=-1)
    with pytest.raises(RuntimeError, match=r"the compiler ended with status 1: RuntimeError: .*negative dimension"):
        libraries.library(form)
    assert not list(tmp_path.glob("*.so"))


def test_a_library_is_made_once_and_named_by_all_that_it_depends_on(monkeypatch, tmp_path):
    made: list[Form] = []

    def compile_elsewhere(form: Form, path: Path) -> None:
        made.append(form)
        path.touch()

    monkeypatch.setattr(libraries, "_folder", lambda: tmp_path)
    monkeypatch.setattr(libraries, "_compile_elsewhere", compile_elsewhere)
    form = Form.of(random_tile(vocab=50))
    assert Form.from_json(asdict(form)) == form
    assert libraries.library(form) == libraries.library(form)
    assert len(made) == 1
    names = {libraries.library(form).name, libraries.library(replace(form, threads=form.threads + 1)).name}
    monkeypatch.setattr(libraries, "_processor", lambda: "another")
    names.add(libraries.library(form).name)
    monkeypatch.setattr(torch, "__version__", "0")
    names.add(libraries.library(form).name)
    monkeypatch.setattr(libraries, "_code", lambda: "other code")
    names.add(libraries.library(form).name)
    assert len(names) == len(made) == 5


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="no AVX2 here")
def test_the_compilers_cache_tells_instruction_sets_apart(monkeypatch):
    """Its key holds the options and no instruction set: code for another vector width writes past its arrays."""
    widths = []
    for capability in ("default", "avx2"):
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", capability)
        widths.append(compiler.options()["cpp.simdlen"])
    assert widths == [0, 256]


def test_backends_are_chosen_by_name_or_by_machine(monkeypatch):
    assert choose("eager").name == "eager"
    monkeypatch.setattr("analysis.kernels.choice.has_compiler", lambda: False)
    assert choose("auto").name == "eager"
    with pytest.raises(InputError, match="compiler"):
        choose("compiled")
    monkeypatch.setattr("analysis.kernels.choice.has_compiler", lambda: True)
    assert choose("auto").name == "compiled"
    assert choose("auto", device="mps").name == "eager"
    with pytest.raises(InputError, match="CUDA"):
        choose("triton")
