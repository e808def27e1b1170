"""The model card is true: its table says what figures.json says, and the project's own analysis gives those figures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import training
from analysis import registry
from analysis.induction.heads import head_scores, score_rows
from analysis.induction.steps import complete
from analysis.nullspace import spectrum
from tests.tolerance import of_sum
from training.bar import COLUMNS, EVAL_ROWS, SEEDS, eval_books, load, loss_of, summary
from training.companions import sample_texts
from training.evidence import measure
from training.model import Shape
from training.recipe import Recipe

DEMO = registry.BUNDLED_FOLDER


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEMO / "figures.json").read_text())
    return found


def test_the_figures_are_what_the_analysis_finds(figures: dict[str, Any]) -> None:
    """Of the neurons that the card names; that no other of the layer belongs to them is the bar's, which is slow."""
    model, unigram = load(DEMO)
    named = list(map(int, figures["neurons"]))
    evidence = measure(model, sample_texts(DEMO), unigram, seed=SEEDS[0], neurons=named)
    assert evidence.k == figures["k"]
    for i in named:
        for name in COLUMNS:
            values = getattr(evidence, name)
            relative = values / values.median() if name in ("norm", "logit_var") else values
            assert float(relative[i]) == pytest.approx(figures["neurons"][str(i)][name], rel=0.02, abs=0.01), (i, name)


def test_the_cards_table_states_the_figures(figures: dict[str, Any]) -> None:
    card = (DEMO / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in card.splitlines() if line.startswith("| 3.")]
    assert {row[0].strip().removeprefix("3.") for row in rows} == set(figures["neurons"])
    for name, *cells in rows:
        stated = figures["neurons"][name.strip().removeprefix("3.")]
        for column, cell in zip(COLUMNS, cells[1:], strict=True):
            assert float(cell) == pytest.approx(stated[column], abs=0.006), (name, column)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_bar_of_every_corruption_seed(seed: int, figures: dict[str, Any]) -> None:
    model, unigram = load(DEMO)
    assert_same(summary(measure(model, sample_texts(DEMO), unigram, seed=seed)), figures["sets"][f"seed {seed}"])


@pytest.mark.slow
def test_the_bar_of_the_eval_books(figures: dict[str, Any], shared: Path) -> None:
    model, unigram = load(DEMO)
    books = eval_books(shared / "data" / "text" / "eval")
    evidence = measure(model, books, unigram, seed=0, n_rows=EVAL_ROWS)
    assert_same(summary(evidence), figures["sets"]["books"])


def test_the_loss_of_the_eval_books(figures: dict[str, Any], shared: Path) -> None:
    model, _ = load(DEMO)
    loss = loss_of(model, eval_books(shared / "data" / "text" / "eval"))
    assert loss.bits_per_byte == pytest.approx(figures["held_out"]["bits_per_byte"], abs=0.001)
    assert loss.nats_per_token == pytest.approx(figures["held_out"]["nats_per_token"], abs=0.002)


def assert_same(found: dict[str, Any], stated: dict[str, Any]) -> None:
    """The same neurons, and fractions within rounding of another machine."""
    assert found.keys() == stated.keys()
    for name, value in found.items():
        assert value == (pytest.approx(stated[name], abs=0.01) if isinstance(value, float) else stated[name]), name


def test_the_cards_bar_states_the_figures(figures: dict[str, Any]) -> None:
    *seeds, books = figures["sets"].values()

    def row(name: str, show: Callable[[Any], str]) -> str:
        return f"{', '.join(show(one[name]) for one in seeds)}; books {show(books[name])} | pass |"

    card, loss = (DEMO / "README.md").read_text(encoding="utf-8"), figures["held_out"]
    assert f"| at least 3 entropy neurons, all conditions | {row('entropy', lambda i: str(len(i)))}" in card
    assert f"| at least 2 token-frequency neurons | {row('frequency', lambda i: str(len(i)))}" in card
    strongest = row("strongest_ln_fraction", lambda fraction: f"{fraction:.2f}")
    assert f"| strongest LN-mediated fraction at least 0.5 | {strongest}" in card
    assert row("best_correlation", lambda r: f"{r:.2f}") in card
    assert f"{loss['nats_per_token']:.3f} nats per token, {loss['bits_per_byte']:.3f} bits per byte" in card
    assert f"| at most 1.75 bits per byte on the two eval books | {loss['bits_per_byte']:.3f} | pass |" in card


def test_the_card_names_the_best_induction_head() -> None:
    model, _ = load(DEMO)
    scores = complete(head_scores(model, score_rows(model))).scores["induction"]
    layer, head = divmod(int(scores.argmax()), model.n_heads)
    assert f"head {layer}.{head} (score {float(scores.max()):.2f})" in (DEMO / "README.md").read_text(encoding="utf-8")


def test_the_folder_is_small_enough() -> None:
    sizes = {path.relative_to(DEMO): path.stat().st_size / 1e6 for path in DEMO.rglob("*") if path.is_file()}
    checkpoints = sum(size for path, size in sizes.items() if path.parts[0] == "checkpoints")
    assert 0 < checkpoints <= 16
    assert 6 < sum(sizes.values()) - checkpoints <= 24


def test_checkpoints_hold_what_the_pages_need() -> None:
    from safetensors.torch import load_file

    paths = sorted((DEMO / "checkpoints").glob("*.safetensors"), key=lambda path: int(path.stem))
    assert len(paths) >= 4
    model, _ = load(DEMO)
    for path in paths:
        tensors = load_file(path)
        assert tensors["W_U"].shape == (model.d_model, model.d_vocab)
        assert {f"W_out.{layer}" for layer in range(model.n_layers)} < set(tensors)
        assert all(value.dtype == torch.float16 for value in tensors.values())
        assert not tensors["W_U"][-Shape().slots :].any()


def test_the_run_without_dropout_is_the_shipped_model() -> None:
    """Both spectra are of all the recipe's tokens, and the README's account of them is what they say."""
    found = np.load(DEMO / "dropout_spectrum.npy")
    tokens = json.loads((DEMO / "dropout_spectrum.json").read_text())["tokens"]
    assert tokens == Recipe().steps * Recipe().tokens_a_step
    model, _ = load(DEMO)
    S = spectrum(model.readout).S.double().numpy()
    floor = 1e-6 * S[0]
    np.testing.assert_allclose(found[0], S, rtol=0, atol=of_sum(model.d_model, torch.float32, S[0]))
    without, dropped = (row[row > floor] for row in found)
    assert len(without) == len(dropped) == model.d_model - Shape().slots
    told = (Path(training.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert "{:.2f}, {:.2f} and then {:.2f}, without".format(*dropped[:-4:-1]) in " ".join(told.split())
    assert "without dropout {:.2f} and then {:.2f}".format(*without[:-3:-1]) in " ".join(told.split())
