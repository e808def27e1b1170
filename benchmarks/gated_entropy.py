"""Whether entropy times attention to the first token tells wrong predictions better than entropy alone.

The score of INTRYGUE (arXiv 2603.21607), which gates H by the sink rate of induction heads, on the bundled model and
its sample: area under the ROC curve of "the most probable token is not the next one", for H, for H times the mean
attention to the first token over all heads, and over each head.

    python -m benchmarks.gated_entropy [FOLDER or key of another model, on the same sample]
"""

from __future__ import annotations

import json
import sys

import torch
from torch import Tensor

from analysis.model import load
from analysis.registry import BUNDLED, BUNDLED_FOLDER, resolve

DOCUMENTS, LENGTH, SKIP = 40, 128, 8


def area(score: Tensor, wrong: Tensor) -> float:
    """Under the ROC curve: the probability that a wrong prediction's score is above a right one's."""
    ranks = torch.empty_like(score)
    ranks[score.argsort()] = torch.arange(1, len(score) + 1, dtype=score.dtype)
    n = int(wrong.sum())
    return float((ranks[wrong].sum() - n * (n + 1) / 2) / (n * (len(wrong) - n)))


def measured(name: str) -> dict[str, float]:
    model = load(resolve(name))
    heads = [f"{layer}.{head}" for layer in range(model.n_layers) for head in range(model.n_heads)]
    patterns = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.n_layers)]
    last = f"blocks.{model.last_layer}.hook_resid_post"
    entropies, wrong, sinks = list[Tensor](), list[Tensor](), list[Tensor]()
    for line in (BUNDLED_FOLDER / "sample.jsonl").read_text("utf-8").splitlines()[:DOCUMENTS]:
        ids = model.encode(json.loads(line)["text"])[:LENGTH]
        with torch.inference_mode():
            run = model.run(model.tokens(ids), capture=[*patterns, last])
            log_p = model.readout.log_probs(run[last][0].to(model.readout.W_U)).double()
        at = slice(SKIP, -1)
        entropies.append(-(log_p.exp() * log_p).sum(-1)[at])
        wrong.append(log_p.argmax(-1)[at] != torch.tensor(ids[SKIP + 1 :]))
        sinks.append(torch.cat([run[name][0, :, at, 0] for name in patterns]).double())
    entropy, missed, sink = torch.cat(entropies), torch.cat(wrong), torch.cat(sinks, 1)
    areas = {"H": area(entropy, missed), "H x sink, all heads": area(entropy * sink.mean(0), missed)}
    for head, each in zip(heads, sink, strict=True):
        areas[f"H x sink of {head}"] = area(entropy * each, missed)
    return areas | {"predictions": float(len(missed))}


if __name__ == "__main__":
    found = measured(*(sys.argv[1:] or [BUNDLED]))
    best = sorted(found, key=lambda name: -found[name])[:12]
    for name in best:
        print(f"{name:24} {found[name]:.3f}")
    print(f"better than H: {sum(value > found['H'] for name, value in found.items() if name.startswith('H x'))} heads")
