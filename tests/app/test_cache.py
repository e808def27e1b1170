"""What is kept of a model: under all that it depends on, within bounds, as long as the model is loaded."""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import code
from analysis.model import Model
from analysis.types import InputError, ModelId
from app.core.residency import means
from app.core.residency.atlas import ATLAS
from app.core.residency.cache import EVERYWHERE, Cache, Files, Key, Kind, bytes_of
from app.core.residency.resident import SPECTRUM
from app.core.settings import Settings

MODEL = ModelId("a" * 64, "float32", "c" * 64)
OTHERS = [replace(MODEL, **{field.name: "other"}) for field in fields(ModelId)]


def key(model: ModelId = MODEL, kind: Kind = SPECTRUM, place: str = EVERYWHERE, *inputs: int) -> Key:
    return Key(model, kind, place, inputs)


def opened(max_bytes: int = 1 << 20, *models: ModelId) -> Cache:
    cache = Cache(max_bytes)
    for model in models or (MODEL, *OTHERS):
        cache.open(model)
    return cache


def test_every_part_of_a_key_tells_values_apart() -> None:
    keys = [key(), *map(key, OTHERS), key(kind=ATLAS), key(place="cuda:1"), Key(MODEL, SPECTRUM, EVERYWHERE, (1,))]
    cache = opened()
    for number, each in enumerate(keys):
        assert cache.cached(each, lambda number=number: number) == number
    assert [cache.cached(each, lambda: -1) for each in keys] == list(range(len(keys)))
    assert cache.hits == len(keys)


def test_no_part_of_a_key_may_be_left_out() -> None:
    with pytest.raises(TypeError):
        Key(MODEL, SPECTRUM, EVERYWHERE)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="Two kinds"):
        Kind(SPECTRUM.name)


def test_a_files_name_follows_from_all_but_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [key(), *map(key, OTHERS), key(kind=ATLAS), Key(MODEL, SPECTRUM, EVERYWHERE, (1,))]
    assert len({each.name for each in keys}) == len(keys)
    assert key(place="cuda:1").name == key().name
    before = key().name
    monkeypatch.setattr(code, "version", lambda *modules: "other code")
    assert key().name != before


def test_means_are_of_the_text_and_of_how_it_is_read(tiny_model: Callable[..., Model], tmp_path: Path) -> None:
    text, jsonl = tmp_path / "a.txt", tmp_path / "a.jsonl"
    for file in (text, jsonl):
        file.write_text("The cat sat.")
    model, settings = tiny_model("gpt2"), Settings(data_dir=tmp_path)
    names = [means.key_of(settings, model, file).name for file in (text, jsonl)]
    names.append(means.key_of(settings.model_copy(update={"reference_tokens": 99}), model, text).name)
    names.append(means.key_of(settings, tiny_model("gpt2", seed=1), text).name)
    names.append(means.key_of(settings, tiny_model("gpt2", dtype=torch.float32), text).name)
    names.append(means.key_of(settings, tiny_model("gpt2", layer_norm_epsilon=1e-3), text).name)
    same = means.key_of(settings, model, text).name
    text.write_text("The cat sat")
    names.append(means.key_of(settings, model, text).name)
    assert len(set(names)) == len(names)
    assert same == names[0]


def test_what_was_used_longest_ago_makes_room() -> None:
    size = bytes_of(torch.zeros(1000))
    cache = opened(3 * size)
    for n in (1, 2, 3):
        cache.put(Key(MODEL, SPECTRUM, EVERYWHERE, (n,)), torch.zeros(1000))
    assert cache.bytes == 3 * size
    assert cache.get(Key(MODEL, SPECTRUM, EVERYWHERE, (1,))) is not None
    cache.put(Key(MODEL, SPECTRUM, EVERYWHERE, (4,)), torch.zeros(1000))
    assert {each.inputs for each in cache.held()} == {(1,), (3,), (4,)}
    cache.put(Key(MODEL, SPECTRUM, EVERYWHERE, (4,)), torch.zeros(1))  # in its place
    assert cache.bytes == 2 * size + bytes_of(torch.zeros(1))
    assert cache.cached(Key(MODEL, SPECTRUM, EVERYWHERE, (5,)), lambda: torch.ones(4000)).sum() == 4000
    assert {each.inputs for each in cache.held()} == {(1,), (3,), (4,)}, "too large for everything: not kept"


def test_at_the_last_unload_everything_goes_and_nothing_is_taken_in() -> None:
    cache = opened(1 << 20, MODEL, MODEL, OTHERS[0])
    for model in (MODEL, OTHERS[0]):
        cache.put(key(model), "kept")
    cache.close(MODEL)  # it is loaded under two names
    assert cache.get(key()) == "kept"
    cache.close(MODEL)
    assert cache.held() == [key(OTHERS[0])]
    assert cache.cached(key(), lambda: "late") == "late"  # work that was queued before
    assert cache.held() == [key(OTHERS[0])]
    assert cache.bytes == bytes_of("kept")
    cache.open(MODEL)
    assert cache.cached(key(), lambda: "new") == "new"


def test_bytes_are_counted_once_and_long_lists_by_a_sample() -> None:
    @dataclass(frozen=True, slots=True)
    class Table:
        values: torch.Tensor
        names: list[str]

    values = torch.zeros(10_000, dtype=torch.float64)
    assert 80_000 <= bytes_of(values[:10]) <= 81_000, "a view keeps the whole in memory"
    assert 80_000 <= bytes_of(Table(values, ["a"])) <= 81_000
    assert 80_000 <= bytes_of([values, values, values[5:]]) <= 81_000
    assert bytes_of({"x": np.zeros(1000)[::2]}) >= 8000
    assert 1000 * 32 <= bytes_of([0.5] * 1000) <= 1000 * 64
    assert 60_000 <= bytes_of([*map(float, range(1000)), *(f"a text of some {n}" for n in range(1000))]) < 200_000


def write(path: Path) -> None:
    path.write_bytes(b"x" * 1000)


def test_files_beyond_the_bound_go_in_the_order_of_their_use(tmp_path: Path) -> None:
    files = Files(tmp_path, 3000)
    keys = [Key(MODEL, ATLAS, EVERYWHERE, (n,)) for n in range(5)]
    for age, each in enumerate(keys[:3]):
        files.write(each, write)
        os.utime(files.path(each), (age, age))
    assert files.read(keys[0], Path.read_bytes) == b"x" * 1000
    assert files.path(keys[0]).stat().st_mtime == 0, "a file that is read is not written"
    files.write(keys[3], write)
    files.write(keys[4], write)
    assert [files.read(each, Path.read_bytes) is not None for each in keys] == [True, False, False, True, True]
    Files(tmp_path, 10).write(keys[1], write)
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == [files.path(keys[1]).name], "the newest stays"


def test_a_damaged_file_is_removed_and_counts_as_none(tmp_path: Path) -> None:
    files, each = Files(tmp_path, 3000), Key(MODEL, ATLAS, EVERYWHERE, ())
    files.write(each, write)

    def load(path: Path) -> None:
        raise InputError("half a file")

    assert files.read(each, load) is None
    assert not files.path(each).exists()
    with pytest.raises(ValueError, match="not kept on disk"):
        files.path(key())
