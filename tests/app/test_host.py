"""The host: models load behind the scenes, requests take turns, long work goes in slices, and refusals name numbers."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from analysis import model as models
from analysis.frequency import save_counts
from analysis.registry import resolve
from analysis.types import CapacityError, InputError, NotFoundError, NotReadyError
from app.core.errors import BusyError, UnavailableError
from app.core.residency.host import ModelHost, devices
from app.core.residency.resident import SPECTRUM
from app.core.settings import Settings

KEY = "tiny-gpt2"


@pytest.fixture
def make_host(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., ModelHost]]:
    made: list[ModelHost] = []

    def make(*, start: bool = True, loader=models.load, **changes: object) -> ModelHost:
        host = ModelHost(make_settings(**changes), loader=loader)
        made.append(host)
        if start:
            host.start()
        return host

    yield make
    for host in made:
        host.close()


def loaded(host: ModelHost) -> ModelHost:
    for entry in list(host.entries.values()):
        entry.means_settled.wait()
    return host


def test_start_returns_before_the_model_is_there(make_host: Callable[..., ModelHost]) -> None:
    go = threading.Event()

    def slow(*args, **more):
        assert go.wait(600)
        return models.load(*args, **more)

    host = make_host(loader=slow)
    assert host.awaited == [KEY]
    with pytest.raises(UnavailableError) as caught:
        asyncio.run(host.run(KEY, lambda resident: 1))
    assert caught.value.code == "model_loading"
    go.set()
    assert host.wait(KEY).state == "loaded"
    assert host.awaited == []
    assert asyncio.run(host.run(KEY, lambda resident: resident.key)) == KEY


def test_an_unknown_model_names_the_known_ones(make_host: Callable[..., ModelHost]) -> None:
    with pytest.raises(NotFoundError) as caught:
        asyncio.run(make_host(start=False).run("nope", lambda resident: 1))
    assert KEY in (caught.value.hint or "")


def test_two_models_of_one_name_are_refused(make_host: Callable[..., ModelHost], model_folder: Path) -> None:
    with pytest.raises(InputError, match="Two models"):
        make_host(start=False, models=(str(model_folder), str(model_folder)))


def test_a_model_that_cannot_be_loaded_keeps_its_reason(make_host, model_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    host = make_host(models=(str(model_folder), str(broken)))
    assert host.wait("broken").state == "failed"
    host.wait(KEY)
    assert host.awaited == []  # the other one serves
    with pytest.raises(InputError, match="broken is here already"):
        host.serve(resolve(str(broken)))
    with pytest.raises(UnavailableError, match="could not be loaded"):
        asyncio.run(host.run("broken", lambda resident: 1))
    assert asyncio.run(host.run(KEY, lambda resident: 1)) == 1


def test_a_server_without_any_model_waits_for_them_all(make_host, tmp_path: Path, model_folder: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    (broken / "model.safetensors").write_bytes(b"")
    host = make_host(models=(str(broken),))
    assert host.wait("broken").state == "failed"
    assert host.awaited == ["broken"]


def test_a_model_named_at_start_is_awaited_beside_one_that_is_there(
    make_host, tmp_path: Path, model_folder: Path
) -> None:
    go, other = threading.Event(), tmp_path / "other"
    shutil.copytree(model_folder, other)

    def loader(spec, **more):
        assert spec.key == KEY or go.wait(600)
        return models.load(spec, **more)

    host = make_host(loader=loader, models=(str(model_folder), str(other)))
    host.wait(KEY)
    assert host.awaited == ["other"]
    go.set()
    host.wait("other")
    assert host.awaited == []


def test_every_load_has_a_number_of_its_own(make_host, tmp_path: Path, model_folder: Path) -> None:
    """What was followed of one load is not gone on with under another, also where the name comes back twice."""
    other = Path(shutil.copytree(model_folder, tmp_path / "other"))
    host = make_host(models=(str(model_folder), str(other)))
    seen = [entry.load for entry in host.entries.values()]
    for _ in range(2):
        host.wait("other")
        host.unload("other")
        seen.append(host.serve(resolve(str(other))).load)
        assert host.loads == {seen[0], seen[-1]}
    assert len(set(seen)) == 4


def test_a_model_loaded_later_keeps_nobody_from_the_others(make_host, tmp_path: Path, model_folder: Path) -> None:
    go, other = threading.Event(), tmp_path / "other"
    shutil.copytree(model_folder, other)

    def loader(spec, **more):
        assert spec.key == KEY or go.wait(600)
        return models.load(spec, **more)

    host = make_host(loader=loader)
    host.wait(KEY)
    host.serve(resolve(str(other)))
    assert host.entry("other").state != "loaded"
    assert host.awaited == []
    go.set()
    assert host.wait("other").state == "loaded"


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(make_host: Callable[..., ModelHost]) -> None:
    def never(*args, **more):
        raise AssertionError("loaded all the same")

    host = make_host(loader=never, memory_bytes=10_000)
    entry = host.wait(KEY)
    assert entry.state == "failed"
    assert "10.0 kB" in entry.error
    assert "needs about" in entry.error


def test_a_request_that_can_never_fit_names_both_numbers(make_host: Callable[..., ModelHost]) -> None:
    host = loaded(make_host(memory_bytes=3_000_000))

    def ask(extra: int) -> None:
        asyncio.run(host.run(KEY, lambda resident: resident.admit(10, extra=extra)))

    ask(0)
    with pytest.raises(CapacityError, match=r"needs about 1\.0 GB; cpu has 3\.0 MB in all"):
        ask(10**9)
    with pytest.raises(UnavailableError, match=r"needs about 2\.9 MB; cpu has 2\.\d MB free of 3\.0 MB"):
        ask(2_850_000)


def test_means_are_computed_once_and_kept_for_these_weights(make_host, make_settings) -> None:
    first = loaded(make_host()).entry(KEY).means
    assert first.state == "ready"
    assert first.value.source == "sample.jsonl"
    again = make_host()
    again.wait(KEY)
    assert again.entry(KEY).means.state == "ready"  # at once: read from the cache, not computed
    assert (again.entry(KEY).means.value.means == first.value.means).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [({}, "were counted with another tokenizer"), ({"effects_bytes": 1 << 20}, "Raise the memory budget")],
)
def test_nothing_stays_of_a_model_that_could_not_be_loaded(
    make_host, make_settings, model_folder: Path, tmp_path: Path, monkeypatch, settings: dict[str, int], said: str
) -> None:
    """Counts by a model's name are of its tokenizer, or it is not served with them; its memory is free again."""
    bare = shutil.copytree(model_folder, tmp_path / "bare")
    (bare / "unigrams.npy").unlink()
    if settings:
        monkeypatch.setattr("analysis.effects.engine.Engine.build", too_little)
    else:
        counts = make_settings().data_dir / "unigrams" / "bare.npy"
        save_counts(np.arange(9), counts, vocabulary="another")
    host = make_host(models=(str(bare),), memory_bytes=1 << 30, **settings)
    entry = host.entry("bare")
    entry.settled.wait()
    assert entry.state == "failed"
    assert said in entry.error
    assert host.memory["cpu"].free() == 1 << 30
    assert not host.cache._open


def too_little(*args: object, **options: object) -> None:
    raise CapacityError("Effects need more.", hint="Raise the memory budget of the effects.")


def test_without_a_text_there_is_no_mean_and_the_refusal_says_what_to_do(
    make_host, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model_folder, bare)
    (bare / "sample.jsonl").unlink()
    monkeypatch.setattr("app.core.residency.means.bundled", lambda: models.ModelSpec("demo"))
    host = loaded(make_host(models=(str(bare),)))
    assert host.entry("bare").means.state == "none"
    with pytest.raises(NotReadyError) as caught:
        asyncio.run(host.run("bare", lambda resident: resident.require_means()))
    assert "prompt_mean" in (caught.value.hint or "")


def test_a_text_that_cannot_be_read_is_told(make_host, tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text("not json", encoding="utf-8")
    host = loaded(make_host(reference_text=text))
    assert host.entry(KEY).means.state == "failed"
    with pytest.raises(NotReadyError, match=r"text\.jsonl"):
        asyncio.run(host.run(KEY, lambda resident: resident.require_means()))


def test_slices_let_interactive_work_in_between(make_host: Callable[..., ModelHost]) -> None:
    host = loaded(make_host())
    order: list[str] = []

    def steps(resident) -> Iterator[int]:
        for number in range(3):
            order.append(f"slice {number}")
            yield number

    for number in host.slices(KEY, steps):
        host.submit(KEY, lambda resident, n=number: order.append(f"request {n}"), lane="interactive").result()
    assert order == ["slice 0", "request 0", "slice 1", "request 1", "slice 2", "request 2"]


def test_an_error_in_a_slice_reaches_the_job_and_the_device_goes_on(make_host: Callable[..., ModelHost]) -> None:
    host = loaded(make_host())

    def steps(resident) -> Iterator[int]:
        yield 1
        raise InputError("enough")

    with pytest.raises(InputError, match="enough"):
        list(host.slices(KEY, steps))
    assert asyncio.run(host.run(KEY, lambda resident: 1)) == 1


class Held:
    """Keeps the device busy until let go."""

    def __init__(self, host: ModelHost) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self.future = host.submit(KEY, lambda resident: (self.entered.set(), self.go.wait(600)))
        assert self.entered.wait(600)


def test_identical_requests_in_flight_are_computed_once(make_host: Callable[..., ModelHost]) -> None:
    host = loaded(make_host())
    ran: list[int] = []

    async def both() -> list[int]:
        held = Held(host)
        asked = [
            asyncio.create_task(host.run(KEY, lambda resident: ran.append(1) or len(ran), identity="same"))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        asked[0].cancel()  # one of them leaves; the others still get their answer
        held.go.set()
        return [await task for task in asked[1:]]

    assert asyncio.run(both()) == [1, 1]
    assert len(host.flights) == 0


def test_an_equal_request_of_another_person_does_not_wait_behind_the_firsts_line(make_host) -> None:
    """The answer is computed once, at the turn of whoever comes first."""
    host = loaded(make_host())
    order: list[str] = []

    def ask(who: str, what: str) -> asyncio.Task[int]:
        work = lambda resident: order.append(what) or len(order)  # noqa: E731
        return asyncio.create_task(host.run(KEY, work, who=who, identity=what))

    async def talk() -> None:
        held = Held(host)
        first = [ask("ann", f"ann {number}") for number in range(5)]
        await asyncio.sleep(0)
        second = ask("ben", "ann 4")
        await asyncio.sleep(0)
        held.go.set()
        assert (await second, await first[4]) == (2, 2)
        await asyncio.gather(*first)

    asyncio.run(talk())
    assert order == ["ann 0", "ann 4", "ann 1", "ann 2", "ann 3"]
    assert len(host.flights) == 0


def test_requests_in_steps_are_bounded_and_free_their_place(make_host) -> None:
    """Whichever is closed lets the next one in, and its iterator is closed on the device."""
    host = loaded(make_host(queue_size=3, queue_per_person=2))
    closed: list[str] = []

    def endless(resident) -> Iterator[int]:
        try:
            yield from iter(int, 1)
        finally:
            closed.append(threading.current_thread().name)

    async def talk() -> None:
        walks = [host.steps(KEY, endless, who=who) for who in ("ann", "ann", "ben")]
        assert [await anext(walk) for walk in walks] == [0, 0, 0]
        for who, words in (("ann", "3 long requests are"), ("cleo", "3 long requests are")):
            with pytest.raises(BusyError, match=words):
                await anext(host.steps(KEY, endless, who=who))
        await walks.pop().aclose()
        with pytest.raises(BusyError, match="2 long requests of yours are"):
            await anext(host.steps(KEY, endless, who="ann"))
        last = host.steps(KEY, endless, who="cleo")
        assert await anext(last) == 0
        for walk in (*walks, last):
            await walk.aclose()
        # Behind both of hers, and in her second round.
        await asyncio.wrap_future(host.submit(KEY, lambda resident: None, who="ann"))

    asyncio.run(talk())
    assert closed == ["device-cpu"] * 4


def test_a_cancelled_request_is_taken_out_of_the_queue(make_host: Callable[..., ModelHost]) -> None:
    host = loaded(make_host())
    ran: list[int] = []

    async def leave() -> None:
        held = Held(host)
        task = asyncio.create_task(host.run(KEY, lambda resident: ran.append(1)))
        await asyncio.sleep(0)
        assert host.workers["cpu"].depth == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert host.workers["cpu"].depth == 1
        held.go.set()

    asyncio.run(leave())
    assert asyncio.run(host.run(KEY, lambda resident: list(ran))) == []


def test_a_request_past_its_time_is_503(make_host: Callable[..., ModelHost]) -> None:
    host = loaded(make_host(request_seconds=0.01))

    async def late() -> None:
        held = Held(host)
        try:
            await host.run(KEY, lambda resident: 1)
        finally:
            held.go.set()

    with pytest.raises(UnavailableError) as caught:
        asyncio.run(late())
    assert caught.value.code == "timeout"


def test_an_unloaded_model_is_gone_and_its_memory_free(make_host: Callable[..., ModelHost]) -> None:
    host = loaded(make_host(memory_bytes=10_000_000))
    before = host.memory["cpu"].free()
    host.unload(KEY)
    assert host.memory["cpu"].free() > before
    with pytest.raises(NotFoundError):
        asyncio.run(host.run(KEY, lambda resident: 1))


def test_two_devices_hold_a_replica_each_and_share_the_load(make_host: Callable[..., ModelHost]) -> None:
    host = loaded(make_host(device="cpu, cpu:0"))
    assert [worker.device for worker, _ in host.entry(KEY).replicas] == ["cpu", "cpu:0"]

    async def both() -> set[int]:
        together = threading.Barrier(2)  # passed only when both run at the same time

        def meet(resident) -> int:
            together.wait(600)
            return threading.get_ident()

        return set(await asyncio.gather(host.run(KEY, meet), host.run(KEY, meet)))

    assert len(asyncio.run(both())) == 2


def test_a_missing_compiler_is_said_in_one_sentence(make_host, caplog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.kernels.choice.has_compiler", lambda: False)
    with caplog.at_level("WARNING", logger="app.core.residency.resident"):
        loaded(make_host(effects_backend="auto"))
    (said,) = [record.message for record in caplog.records if record.name == "app.core.residency.resident"]
    assert "install g++" in said


def test_what_follows_from_the_weights_is_built_once(make_host: Callable[..., ModelHost]) -> None:
    host = loaded(make_host())
    built: list[int] = []
    for n in (1, 1, 2, 1):
        asyncio.run(host.run(KEY, lambda resident, n=n: resident.cached(SPECTRUM, (n,), lambda: built.append(n) or 5)))
    assert built == [1, 2]


def test_device_names() -> None:
    assert devices("cpu, cpu:0,cpu") == ["cpu", "cpu:0"]
    for absent in ("nonsense", "cuda:77", ""):
        with pytest.raises(InputError, match="no device"):
            devices(absent)
    assert devices("auto")[0] in ("cuda", "mps", "cpu")
