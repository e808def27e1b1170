"""Whether a direction of the residual stream, moved along, makes the next-token predictions better calibrated.

The calibration direction of Joshi et al. 2025 (arXiv 2511.00280), read so for next tokens in running text: they find
that late layers take back confidence after the decision stands, and that the stream's movement there has a direction
whose perturbation lowers the calibration error and leaves the accuracy. Here: the layer after which the mean confidence
of the lens is largest; the mean over half of the documents of what all later blocks write; that direction's multiple
added to the last stream, chosen on the same half by its calibration error; told on the other half, beside random
directions of the same length chosen in the same way.

    python -m benchmarks.calibration_direction [FOLDER or key of another model]
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.model import Model, load
from analysis.registry import BUNDLED, BUNDLED_FOLDER, resolve
from benchmarks.measure import finish, table

DOCUMENTS, LENGTH, SKIP, BINS, RANDOM = 20, 96, 8, 10, 5
STEPS = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Half:
    """The streams behind every block [layer pos d_model], the last as the last, and the tokens that follow."""

    streams: Float[Tensor, "layer pos d_model"]
    follows: Tensor


def main(name: str = BUNDLED) -> None:
    """Told on the half that nothing was chosen on."""
    model = load(resolve(name))
    chosen_on, told_on = (_half(model, start) for start in (0, 1))
    confidence = [float(_confidence(model, stream, chosen_on.follows)[0].mean()) for stream in chosen_on.streams]
    peak = max(range(len(confidence)), key=confidence.__getitem__)
    wrote = (chosen_on.streams[-1] - chosen_on.streams[min(peak, len(confidence) - 2)]).mean(0)
    before = _calibration(model, told_on, torch.zeros_like(wrote))
    rows = [_row("none", before, 0.0), _row("calibration direction", *_best(model, chosen_on, told_on, wrote))]
    generator = torch.Generator().manual_seed(0)
    for i in range(RANDOM):
        random = torch.randn(len(wrote), generator=generator, dtype=wrote.dtype)
        random = random * wrote.norm() / random.norm()
        rows.append(_row(f"random {i}", *_best(model, chosen_on, told_on, random)))
    title = f"{model.key}: mean confidence of the lens is largest behind block {peak} of {len(confidence) - 1}"
    table(title, ("direction", "multiple", "ECE", "MCE", "accuracy"), [list(row.values()) for row in rows])
    finish("calibration_direction", {"model": model.key, "peak": peak, "confidence": confidence, "rows": rows})


def _row(name: str, found: tuple[float, float, float], multiple: float) -> dict[str, object]:
    return {"direction": name, "multiple": multiple, "ece": found[0], "mce": found[1], "accuracy": found[2]}


def _best(model: Model, chosen_on: Half, told_on: Half, direction: Tensor) -> tuple[tuple[float, float, float], float]:
    """The multiple of the lowest calibration error on one half, told on the other."""
    multiple = min(STEPS, key=lambda step: _calibration(model, chosen_on, step * direction)[0])
    return _calibration(model, told_on, multiple * direction), multiple


def _half(model: Model, start: int) -> Half:
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(model.n_layers)]
    streams, follows = list[Tensor](), list[Tensor]()
    for line in (BUNDLED_FOLDER / "sample.jsonl").read_text("utf-8").splitlines()[start : 2 * DOCUMENTS : 2]:
        ids = model.encode(json.loads(line)["text"])[:LENGTH]
        with torch.inference_mode():
            run = model.run(model.tokens(ids), capture=names)
        streams.append(torch.stack([run[name][0, SKIP:-1] for name in names]))
        follows.append(torch.tensor(ids[SKIP + 1 :]))
    return Half(torch.cat(streams, 1), torch.cat(follows))


@torch.inference_mode()
def _confidence(model: Model, stream: Tensor, follows: Tensor) -> tuple[Tensor, Tensor]:
    """The largest probability, and whether it is the token that follows."""
    found = [model.readout.log_probs(part.to(model.readout.W_U)).max(-1) for part in torch.split(stream, 256)]
    right = torch.cat([each.indices for each in found]) == follows
    return torch.cat([each.values for each in found]).exp().double(), right.double()


def _calibration(model: Model, half: Half, added: Tensor) -> tuple[float, float, float]:
    """Expected and largest calibration error over bins of equal width, and accuracy."""
    confidence, right = _confidence(model, half.streams[-1] + added, half.follows)
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    gaps, shares = list[float](), list[float]()
    for one in range(BINS):
        if int((inside := bins == one).sum()) >= 20:  # of fewer the largest error would be noise
            gaps.append(abs(float((confidence - right)[inside].mean())))
            shares.append(float(inside.double().mean()))
    return sum(gap * share for gap, share in zip(gaps, shares, strict=True)), max(gaps), float(right.mean())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
