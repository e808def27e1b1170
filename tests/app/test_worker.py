"""A device's thread survives everything, and what fails there is told to the one who asked."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest
import torch

from analysis import interrupt
from analysis.interrupt import GivenUpError
from analysis.types import InputError
from app.core.errors import BusyError, UnavailableError
from app.core.residency.worker import POISONED_EXIT_CODE, Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("cpu", queue_size=4, per_person=4, on_poison=lambda code: exits.append(code))
    exits: list[int] = []
    made.exits = exits  # type: ignore[attr-defined]
    made.start()
    yield made
    made.close()


def ask(worker: Worker, work, **more):
    return worker.submit(work, who=more.pop("who", "me"), kind="test", **more)


class Gate:
    """Holds the worker until opened; `entered` says that it is held."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.opened.wait(600)


def raising(error: BaseException):
    def work() -> None:
        raise error

    return work


def test_work_runs_on_one_thread_in_inference_mode(worker: Worker) -> None:
    def where() -> tuple[int, bool]:
        return threading.get_ident(), torch.is_inference_mode_enabled()

    seen = {ask(worker, where).future.result() for _ in range(5)}
    assert len(seen) == 1
    assert seen.pop() == (worker._thread.ident, True)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        MemoryError(),
    ],
)
def test_out_of_memory_is_503_and_the_next_request_works(worker: Worker, error: BaseException) -> None:
    with pytest.raises(UnavailableError) as caught:
        ask(worker, raising(error)).future.result()
    assert caught.value.code == "out_of_memory"
    assert caught.value.retry_after >= 1
    assert ask(worker, lambda: 7).future.result() == 7
    assert worker.stats.out_of_memory == 1


def test_a_real_allocator_failure_is_recognised(worker: Worker) -> None:
    with pytest.raises(UnavailableError, match="out of memory"):
        ask(worker, lambda: torch.empty(1 << 60, dtype=torch.uint8)).future.result()
    assert ask(worker, lambda: 7).future.result() == 7


def test_what_the_work_raises_reaches_the_asker_and_the_thread_lives_on(worker: Worker) -> None:
    with pytest.raises(InputError, match="no"):
        ask(worker, raising(InputError("no"))).future.result()
    with pytest.raises(KeyError):
        ask(worker, raising(KeyError("bug"))).future.result()
    with pytest.raises(SystemExit):
        ask(worker, raising(SystemExit(3))).future.result()
    assert ask(worker, lambda: 7).future.result() == 7


def test_a_poisoned_cuda_context_ends_the_process_with_its_own_code(worker: Worker) -> None:
    with pytest.raises(RuntimeError):
        ask(worker, raising(RuntimeError("CUDA error: an illegal memory access was encountered"))).future.result()
    assert worker.exits == [POISONED_EXIT_CODE]  # type: ignore[attr-defined]


def test_a_full_queue_refuses_with_a_delay_and_recovers(worker: Worker) -> None:
    gate = Gate()
    ask(worker, gate)
    gate.entered.wait(600)
    waiting = [ask(worker, lambda n=n: n) for n in range(4)]
    with pytest.raises(BusyError) as caught:
        ask(worker, lambda: 4)
    assert caught.value.code == "queue_full"
    assert caught.value.retry_after > 0
    gate.opened.set()
    assert [ticket.future.result() for ticket in waiting] == [0, 1, 2, 3]
    assert ask(worker, lambda: 5).future.result() == 5
    assert worker.stats.refused == 1


def test_cancelled_work_never_runs_and_frees_its_place(worker: Worker) -> None:
    gate, ran = Gate(), []
    ask(worker, gate)
    gate.entered.wait(600)
    gone = ask(worker, lambda: ran.append("gone"))
    assert worker.ahead(gone) == 0
    assert gone.future.cancel()
    assert worker.depth == 1
    stays = ask(worker, lambda: ran.append("stays"))
    gate.opened.set()
    stays.future.result()
    assert ran == ["stays"]
    with pytest.raises(CancelledError):
        gone.future.result()


def spinning(entered: threading.Event) -> None:
    """Work without end, which asks again and again whether somebody still waits."""
    entered.set()
    while True:
        interrupt.check()


def test_running_work_that_is_given_up_ends_at_its_next_check(worker: Worker) -> None:
    entered = threading.Event()

    ticket = ask(worker, lambda: spinning(entered))
    assert entered.wait(600)
    ticket.give_up()
    with pytest.raises(GivenUpError):
        ticket.future.result(600)
    ask(worker, interrupt.check).future.result(600)  # the next one is not given up
    interrupt.check()  # nor anything on another thread


def test_closing_finishes_what_runs_and_refuses_what_waits() -> None:
    worker, gate = Worker("cpu", queue_size=4, per_person=4), Gate()
    worker.start()
    running = ask(worker, gate)
    gate.entered.wait(600)
    waiting = ask(worker, lambda: 1)
    closing = threading.Thread(target=worker.close)
    closing.start()
    with pytest.raises(UnavailableError, match="shutting down"):
        waiting.future.result()
    gate.opened.set()
    closing.join()
    assert running.future.result() is None
    with pytest.raises(UnavailableError, match="shutting down"):
        ask(worker, lambda: 1)


def test_closing_ends_what_runs_at_its_next_check() -> None:
    worker, entered = Worker("cpu", queue_size=4, per_person=4), threading.Event()
    worker.start()

    running = ask(worker, lambda: spinning(entered))
    assert entered.wait(600)
    worker.close()
    with pytest.raises(GivenUpError):
        running.future.result(600)
