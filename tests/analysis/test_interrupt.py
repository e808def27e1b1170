"""Work ends at its next check once somebody says that nobody waits for it, however deep the blocks stand."""

from __future__ import annotations

import threading

import pytest

from analysis.interrupt import GivenUpError, check, until


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
