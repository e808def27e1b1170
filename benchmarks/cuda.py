"""All neurons of 64 tokens at GPT-2 Small's size on a CUDA device; says so where there is none."""

from __future__ import annotations

from dataclasses import replace

import torch

from analysis.effects import Engine, next_tokens, stream
from analysis.trace import LastLayer
from benchmarks.measure import GPT2_SMALL, finish, random_layer, seconds, table

N_POSITIONS = 64


def main() -> None:
    if not torch.cuda.is_available():
        print("No CUDA device: nothing measured.")
        finish("cuda", {"skipped": "no CUDA device"})
        return
    readout, last, counts, ids = random_layer(GPT2_SMALL, N_POSITIONS)
    moved = replace(readout, **{name: getattr(readout, name).cuda() for name in ("W_U", "b_U", "W_out")})
    there = LastLayer(last.resid.cuda(), last.activations.cuda())
    engine = Engine.build(moved, unigram=counts.to("cuda", torch.float32), memory_bytes=8 << 30)
    baseline = torch.zeros(GPT2_SMALL.d_mlp, device="cuda")

    def run() -> None:
        list(stream(engine, there, next_tokens(ids), baseline=baseline))
        torch.cuda.synchronize()

    taken = seconds(run)
    x, out = torch.randn(1 << 20, device="cuda"), torch.empty(1 << 20, device="cuda")

    def tight() -> None:
        for _ in range(200):
            torch.exp(x, out=out)
        torch.cuda.synchronize()

    ceiling = 200 * len(x) / seconds(tight)
    rate = 2 * N_POSITIONS * GPT2_SMALL.d_mlp * GPT2_SMALL.d_vocab / taken
    table(
        "All neurons, 64 tokens, total and direct",
        ["device", "backend", "ms", "exp/s", "of a tight loop of exp"],
        [[torch.cuda.get_device_name(), engine.backend.name, 1e3 * taken, rate, rate / ceiling]],
    )
    finish("cuda", {"device": torch.cuda.get_device_name(), "ms": 1e3 * taken, "exp_per_s": rate, "ceiling": ceiling})


if __name__ == "__main__":
    main()
