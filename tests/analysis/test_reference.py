"""Reference means: the plain average over every position, saved whole or not at all."""

from __future__ import annotations

import pytest
import torch

from analysis import reference
from analysis.types import InputError
from tests import tiny
from tests.tolerance import close


def test_means_are_the_average_over_all_positions(tiny_model):
    model = tiny_model("gpt2")
    rows = [tiny.token_ids(n, seed=n) for n in (5, 12, 30)]
    *_, last = reference.compute(model, rows, source="three rows")
    assert last.result is not None
    assert last.result.n_tokens == 47
    for layer in range(model.n_layers):
        name = f"blocks.{layer}.mlp.hook_post"
        every = torch.cat([model.run(model.tokens(row), capture=[name])[name][0] for row in rows])
        scale = float(every.abs().mean(0).max())
        close(last.result.means[layer], every.mean(0), 1, scale=scale)  # summed in float64, kept in float32


def test_rows_cover_every_token_once_with_bos_in_front(tiny_model):
    model = tiny_model("gpt2")
    text = "the quick brown fox " * 8
    rows = reference.rows_of(model, [text], length=20)
    assert all(row[0] == model.bos_id and len(row) <= 20 for row in rows)
    assert [i for row in rows for i in row[1:]] == model.encode(text, prepend_bos=False)


def test_what_is_saved_is_read_back(tmp_path, tiny_model):
    *_, last = reference.compute(tiny_model("gpt2"), [tiny.token_ids()], source="a row")
    assert last.result is not None
    path = tmp_path / "reference.safetensors"
    reference.save(last.result, path)
    back = reference.load(path)
    assert torch.equal(back.means, last.result.means)
    assert (back.source, back.n_tokens, back.weights_sha256) == ("a row", 16, tiny_model("gpt2").weights_sha256)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_broken_file_is_named(content, tmp_path):
    path = tmp_path / "reference.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"reference\.safetensors"):
        reference.load(path)


def test_an_empty_text_has_no_mean(tiny_model):
    with pytest.raises(InputError):
        next(reference.compute(tiny_model("gpt2"), [], source="nothing"))
