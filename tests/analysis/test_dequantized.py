"""GGUF files: the same numbers as the same model in Hugging Face format, whole or refused, and said where it counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from analysis import dequantized, folder
from analysis.model import Model, load
from analysis.registry import PACKAGED, folder_spec, resolve
from analysis.types import InputError, NullscopeError, UnsupportedModelError
from tests import tiny, tiny_gguf
from tests.tolerance import within

pytest.importorskip("gguf")


def served(file: Path) -> Model:
    spec = resolve(str(file))
    assert spec.gguf is not None
    return load(spec, folder=dequantized.convert(spec.gguf, spec.key))


@pytest.fixture(scope="module")
def hf() -> object:
    return tiny_gguf.model()


def test_a_gguf_file_gives_the_numbers_of_its_twin(tmp_path: Path, hf: object) -> None:
    tiny_gguf.write(tmp_path / "tiny.gguf", hf)
    found = served(tmp_path / "tiny.gguf")
    twin = tmp_path / "twin"
    hf.save_pretrained(twin)  # type: ignore[attr-defined]
    tiny.tokenizer().save_pretrained(twin)
    expected = load(folder_spec(twin))
    text = "It was so good, it was so bad"
    ids = expected.encode(text, prepend_bos=True)
    assert found.encode(text, prepend_bos=True) == ids
    assert torch.equal(found.logits(found.tokens(ids)), expected.logits(expected.tokens(ids)))
    assert torch.equal(found.readout.W_out, expected.readout.W_out)


def test_quantized_weights_are_dequantized_and_say_so(tmp_path: Path, hf: object) -> None:
    file = tmp_path / "small.gguf"
    tiny_gguf.write(file, hf, quantized=True)
    found = served(file)
    assert found.spec.dequantized == f"Q8_0, small.gguf, sha256 {folder.hash_files([file])}"
    W_out = hf.model.layers[1].mlp.down_proj.weight.T  # type: ignore[attr-defined]
    step = float(W_out.detach().abs().max()) / 127  # eight bits a number, one scale for 32 of them
    within(found.W_out(1), W_out.detach(), step)
    assert not torch.equal(found.W_out(1), W_out)


def test_it_is_converted_once_and_again_for_another_file(tmp_path: Path, hf: object) -> None:
    file = tmp_path / "tiny.gguf"
    tiny_gguf.write(file, hf)
    made = dequantized.convert(file, "tiny")
    stamp = (made / folder.WEIGHTS).stat().st_mtime_ns
    assert dequantized.convert(file, "tiny") == made
    assert (made / folder.WEIGHTS).stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    tiny_gguf.write(file, tiny_gguf.model(seed=1))
    assert dequantized.converted(file) is None
    dequantized.convert(file, "tiny")
    assert (made / folder.WEIGHTS).stat().st_mtime_ns != stamp


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"without": "blk.1.ffn_up.weight"}, "missing"),
        ({"extra": {"rope_freqs.weight": torch.ones(4)}}, r"left over \(rope_freqs.weight\)"),
        ({"extra": {"blk.0.attn_sinks.weight": torch.ones(4)}}, "left over"),
    ],
)
def test_it_is_whole_or_refused(change: dict, words: str, tmp_path: Path, hf: object) -> None:
    file = tmp_path / "odd.gguf"
    tiny_gguf.write(file, hf, **change)
    with pytest.raises(UnsupportedModelError, match=words) as error:
        dequantized.convert(file, "odd")
    assert error.value.code == "weights_incomplete"
    assert list(tmp_path.iterdir()) == [file]


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: -file.stat().st_size // 2])


def _text(file: Path) -> None:
    file.write_text("no such format")


@pytest.mark.parametrize("harm", [_cut, _text])
def test_a_file_that_is_no_gguf_is_one_sentence(harm: Callable[[Path], None], tmp_path: Path, hf: object) -> None:
    file = tmp_path / "bad.gguf"
    tiny_gguf.write(file, hf)
    harm(file)
    with pytest.raises(NullscopeError, match="bad cannot be read as GGUF") as error:
        dequantized.convert(file, "bad")
    assert str(tmp_path) not in error.value.told


def test_another_hash_than_the_recorded_one_is_refused(tmp_path: Path, hf: object) -> None:
    file = tmp_path / "tiny.gguf"
    tiny_gguf.write(file, hf)
    with pytest.raises(InputError, match="SHA-256"):
        dequantized.convert(file, "tiny", sha256="0" * 64)


def test_a_folder_that_holds_one_is_that_model(tmp_path: Path) -> None:
    (tmp_path / "one.gguf").touch()
    assert resolve(f"{tmp_path}/").gguf == tmp_path / "one.gguf"
    assert resolve(str(tmp_path / "one.gguf")).key == "one"
    (tmp_path / "two.gguf").touch()
    with pytest.raises(InputError, match="holds 2 GGUF files"):
        resolve(f"{tmp_path}/")


def test_the_list_records_what_it_needs() -> None:
    for spec in PACKAGED.values():
        assert resolve(spec.key) is spec
        assert spec.package is not None
        assert len(bytes.fromhex(spec.package.sha256)) == 32
