"""What a number is called is what it is: ratios of lengths, ranks with ties, which mean."""

import re
from pathlib import Path

import numpy as np
import pytest

from app.core.evidence import baseline_text
from app.sweep.to_view import spearman
from tests.tolerance import near

ROOT = Path(__file__).resolve().parents[2]


def slow_rank(value: float, values: list[float]) -> float:
    """The mean of the places that equal values would take."""
    return sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2


@pytest.mark.parametrize("levels", [2, 3, 1000])
def test_equal_values_share_their_rank(levels: int) -> None:
    draw = np.random.default_rng(0)
    pairs = [(float(a), float(b)) for a, b in draw.integers(0, levels, (40, 2))]
    a, b = ([slow_rank(value, list(side)) for value in side] for side in zip(*pairs, strict=True))
    assert spearman(pairs) == near(np.corrcoef(a, b)[0, 1], 40, scale=1)
    assert spearman(pairs[::-1]) == near(spearman(pairs), 40, scale=1)  # the order of the neurons says nothing


def test_ties_in_the_order_of_the_other_side_are_no_agreement() -> None:
    """Mostly zeros, as small effects are: ranks by place would find the order of the neurons in both."""
    pairs = [(0.0, 0.0)] * 30 + [(1.0, 0.0), (0.0, 1.0), (2.0, 0.0), (0.0, 2.0)]
    found = spearman(pairs)
    assert found is not None
    assert -0.1 < found < 0
    assert spearman([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]) is None


def test_rho_is_nowhere_called_a_share() -> None:
    """rho 0.96 is 92 % of the squared length; shares are of squares."""
    said = re.compile(r"(ρ|\brho\b)\W{0,3}(is )?(the |a )?share\b|share[^.|]{0,40} \((ρ|rho)\)", re.I)
    files = [path for folder in ("app", "templates", "docs", "analysis") for path in (ROOT / folder).rglob("*.*")]
    files += [ROOT / "README.md", ROOT / "models" / "demo" / "README.md"]
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()[:80]}"
        for path in files
        if path.suffix in (".py", ".html", ".md")
        for line in path.read_text("utf-8").splitlines()
        if said.search(line)
    ]
    assert wrong == []
    assert said.search("ρ, share in the null space")
    assert said.search("ρ is the share of the output vector")


def test_a_sweep_s_mean_is_told_from_the_reference_mean() -> None:
    assert baseline_text("mean") == "mean over the sweep's own rows"
    assert baseline_text("zero") == "zero"
