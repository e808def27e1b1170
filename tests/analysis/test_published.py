"""Published lists against a literature made up from the model itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from analysis import atlas, published
from analysis.model import Model
from analysis.registry import LISTED
from analysis.types import NeuronId, NotFoundError


def test_every_list_by_v_has_five_neurons_once_each_in_small_letters() -> None:
    for key, neurons in published.BY_V.items():
        assert len(set(neurons)) == 5
        assert key == key.lower()
    assert {"gpt2", "gpt2-medium", "gpt2-large", "pythia-1b", "opt-125m", "qwen2.5-0.5b"} <= LISTED.keys()


def test_the_order_by_v_is_that_of_logits_written_out(
    tiny_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padded ids and all, centred over the vocabulary; the folder's name counts without capitals."""
    model = tiny_model("llama")
    *_, last = atlas.compute(model)
    assert last.result is not None
    rows = model.write_rows(model.last_layer)
    logits = rows @ model.readout.W_U
    v = 1 / (1 + (logits - logits.mean(1, keepdim=True)).norm(dim=1) / rows.norm(dim=1))
    leading = v.argsort(descending=True)[:5].tolist()
    monkeypatch.setattr(model, "key", "Tiny-Llama-Named")
    monkeypatch.setitem(published.BY_V, "tiny-llama-named", tuple(leading))
    found = published.reproduce(model, last.result, None)
    assert [finding.what for finding in found] == [
        f"{NeuronId(model.last_layer, index)} place by v" for index in leading
    ]
    assert all(finding.holds for finding in found)
    monkeypatch.setitem(published.BY_V, "tiny-llama-named", tuple(leading[::-1]))
    assert sum(finding.holds for finding in published.reproduce(model, last.result, None)) == 1
    monkeypatch.setattr(model, "key", "nobody-wrote-about-it")
    with pytest.raises(NotFoundError, match="Nothing is published"):
        published.reproduce(model, last.result, None)
