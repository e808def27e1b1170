"""Settings: each described, each from the environment, bad ones refused."""

from pathlib import Path

import click
import pytest
from pydantic import ValidationError

from app.core.request import TraceRequest
from app.core.settings import Limits, Settings, unknown_variables
from app.core.shell.session import refusing
from app.prompt.request import TOP_K
from tests.app.words import foreign


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_settings_come_from_the_environment_and_flags_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NULLSCOPE_PORT", "9000")
    monkeypatch.setenv("NULLSCOPE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NULLSCOPE_MAX_TOKENS", "99")
    monkeypatch.setenv("NULLSCOPE_MODELS", '["demo", "./other"]')
    found = Settings()
    assert (found.port, found.data_dir, found.max_tokens, found.models) == (9000, tmp_path, 99, ("demo", "./other"))
    assert Settings(port=9001).port == 9001


@pytest.mark.parametrize(
    "bad",
    [
        {"port": 70_000},
        {"max_tokens": 0},
        {"dtype": "float16"},
        {"nonsense": 1},
        {"request_seconds": 0},
        {"models": ()},
        {"label_thresholds": {"entropy_rhos": 0.5}},
        {"rate_per_minute": float("inf")},
    ],
)
def test_impossible_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_variable_that_cannot_be_read_is_one_sentence_that_names_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("", "²", "x", "-1", "nan", "1e400", '["demo"', "[[]]", '{"a": "b"}', "9" * 40, "null"):
        monkeypatch.setenv(f"NULLSCOPE_{name.upper()}", value)
        try:
            with refusing():
                Settings()
        except click.ClickException as refused:
            said = refused.message
        else:
            continue
        assert name in said.lower(), (value, said)
        assert foreign(said) == [], value
        assert said.endswith("."), value


def test_the_lowest_top_k_lets_the_page_and_default_requests_through() -> None:
    least = max(TOP_K, TraceRequest.model_fields["top_k"].default)
    assert Settings(max_top_k=least).max_top_k == least
    with pytest.raises(ValidationError, match="max_top_k"):
        Settings(max_top_k=least - 1)


def test_every_limit_is_a_setting() -> None:
    assert set(Limits.model_fields) <= set(Settings.model_fields)
    assert issubclass(Settings, Limits)


def test_a_misspelt_variable_is_named_with_what_was_meant() -> None:
    found = list(unknown_variables(["PATH", "NULLSCOPE_PORT", "nullscope_host", "NULLSCOPE_MODLES", "NULLSCOPE_ZZZ"]))
    assert found == [
        "NULLSCOPE_MODLES is no setting and does nothing here. Is NULLSCOPE_MODELS meant?",
        "NULLSCOPE_ZZZ is no setting and does nothing here.",
    ]
