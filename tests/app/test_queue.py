"""The queue is fair: nobody waits for more than one item of each other person at a time, and batch waits for all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.residency.queue import FairQueue, FullError

arrivals = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["interactive", "batch"])), max_size=30)


def drain(queue: FairQueue, n: int) -> list:
    return [queue.take() for _ in range(n)]


def fill(queue: FairQueue, items: list) -> None:
    for number, (who, lane) in enumerate(items):
        queue.put((who, lane, number), who=who, lane=lane)


@given(arrivals)
def test_everything_comes_out_once_interactive_first_and_each_person_in_order(items: list) -> None:
    queue: FairQueue = FairQueue(size=100, per_person=100)
    fill(queue, items)
    out = drain(queue, len(items))
    assert sorted(number for _, _, number in out) == list(range(len(items)))
    lanes = [lane for _, lane, _ in out]
    assert lanes == sorted(lanes, key=["interactive", "batch"].index)
    for person in "abcd":
        for lane in ("interactive", "batch"):
            own = [number for who, its, number in out if (who, its) == (person, lane)]
            assert own == sorted(own)


@given(arrivals)
def test_nobody_is_served_twice_while_another_waits(items: list) -> None:
    queue: FairQueue = FairQueue(size=100, per_person=100)
    fill(queue, items)
    out = [who for who, lane, _ in drain(queue, len(items)) if lane == "interactive"]
    for place, who in enumerate(out):
        later = out[place + 1 :]
        if who in later:
            between = set(later[: later.index(who)])
            assert set(later) - {who} <= between  # everybody still waiting had a turn in between


@given(arrivals)
def test_ahead_is_the_number_of_items_of_the_lane_that_are_served_before(items: list) -> None:
    queue: FairQueue = FairQueue(size=100, per_person=100)
    fill(queue, items)
    entries = [(who, lane, number) for number, (who, lane) in enumerate(items)]
    told = {entry: queue.ahead(entry) for entry in entries}
    out = drain(queue, len(items))
    for entry in entries:
        before = [other for other in out[: out.index(entry)] if other[1] == entry[1]]
        assert told[entry] == len(before)


def test_a_hundred_of_one_person_delay_anothers_first_by_one() -> None:
    queue: FairQueue = FairQueue(size=200, per_person=100)
    for number in range(100):
        queue.put(("greedy", number), who="greedy")
    queue.put("modest", who="modest")
    assert "modest" in drain(queue, 2)


def test_bounds_hold_for_all_and_for_each() -> None:
    queue: FairQueue = FairQueue(size=3, per_person=2)
    queue.put(1, who="a")
    queue.put(2, who="a")
    with pytest.raises(FullError) as of_person:
        queue.put(3, who="a")
    assert (of_person.value.waiting, of_person.value.of_person) == (2, True)
    queue.put(4, who="b")
    with pytest.raises(FullError) as of_all:
        queue.put(5, who="c")
    assert (of_all.value.waiting, of_all.value.of_person) == (3, False)
    queue.put(6, who="c", lane="batch")


def test_a_discarded_item_leaves_room_and_never_comes_out() -> None:
    queue: FairQueue = FairQueue(size=2, per_person=2)
    queue.put(1, who="a")
    queue.put(2, who="a")
    assert queue.discard(1)
    assert not queue.discard(1)
    queue.put(3, who="b")
    assert sorted(drain(queue, 2)) == [2, 3]
    assert len(queue) == 0


def test_close_returns_what_waits_and_ends_take() -> None:
    queue: FairQueue = FairQueue(size=2, per_person=2)
    queue.put(1, who="a")
    assert queue.close() == [1]
    assert queue.take() is None
    with pytest.raises(RuntimeError):
        queue.put(2, who="a")
