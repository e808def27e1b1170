"""What a run of the suite costs is written down, and a budget pays for the cheapest files."""

from tests import durations


def test_a_budget_pays_for_the_cheapest_files_and_for_new_ones() -> None:
    seconds = {"a": 5.0, "b": 1.0, "c": 3.0, "d": 30.0}
    assert durations.within(9.0, seconds) == {"d"}
    assert durations.within(4.0, seconds) == {"a", "d"}
    assert durations.within(0.5, seconds) == set(seconds)


def test_a_files_seconds_are_those_of_its_tests() -> None:
    lines = iter(
        ["0.250\ttests/x/test_a.py::test_b[x::y]\n", "1.000\ttests/x/test_a.py::test_c\n", "2\ttests/test_d.py::t"]
    )
    assert durations.summed(lines) == {"tests/test_d.py": 2.0, "tests/x/test_a.py": 1.2}


def test_what_is_written_down_is_here() -> None:
    """A file that was renamed or deleted is not paid for."""
    gone = [name for name in durations.recorded() if not (durations.ROOT / name).is_file()]
    assert gone == [], "record anew, or take these lines out of tests/durations.json"
