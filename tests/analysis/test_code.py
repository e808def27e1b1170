"""A hash of code changes with whatever the code imports of ours, and with nothing else."""

from pathlib import Path

import pytest

from analysis import code


def test_the_closure_holds_what_is_imported_at_any_depth() -> None:
    found = code.closure("analysis.atlas")
    assert {"analysis.atlas", "analysis.weights", "analysis.readout", "analysis.model", "analysis.metrics"} <= found
    assert not any(name.startswith(("analysis.sweep", "analysis.effects", "app")) for name in found)
    assert "analysis.effects.engine" in code.closure("analysis.effects")


def test_the_version_follows_the_sources_and_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "analysis").mkdir()
    files = {name: tmp_path / "analysis" / f"{name}.py" for name in ("top", "middle", "bottom", "aside")}
    files["top"].write_text("from analysis.middle import x\n")
    files["middle"].write_text("def f():\n    from analysis import bottom\n")
    files["bottom"].write_text("import torch\n")
    files["aside"].write_text("")
    monkeypatch.setattr(code, "ROOT", tmp_path)

    def version() -> str:
        code.version.cache_clear()
        return code.version("analysis.top")

    try:
        first = version()
        files["aside"].write_text("changed = 1\n")
        assert version() == first
        files["bottom"].write_text("import torch\n\nx = 1\n")
        second = version()
        assert second != first
        monkeypatch.setattr(code, "installed", lambda library: "another")
        assert version() not in (first, second)
    finally:
        code.version.cache_clear()


def test_a_module_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ModuleNotFoundError):
        code.closure("torch")
