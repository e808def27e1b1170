"""A trace of 64 tokens against the plain transformers forward pass of the same model (eager attention)."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from analysis import loading
from analysis.frequency import unigram
from analysis.model import Model, from_objects, load
from analysis.registry import ModelSpec, bundled
from analysis.trace import trace
from benchmarks.measure import DEMO, GPT2_SMALL, finish, seconds, table

N_TOKENS = 64


def gpt2_small() -> tuple[Model, Any]:
    """GPT-2 Small with random weights, wrapped, and a second copy that no hook has touched."""

    def build() -> Any:
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(attn_implementation="eager")).eval()

    tokenizer = loading.tokenizer(DEMO, DEMO.name)
    return from_objects(ModelSpec("random"), build(), tokenizer, weights_sha256=""), build()


def demo() -> tuple[Model, Any]:
    return load(bundled()), loading.weights(DEMO, DEMO.name, torch.float32)


def measure(model: Model, plain: Any) -> dict[str, float]:
    ids = torch.randint(model.n_tokens, (N_TOKENS,), generator=torch.Generator().manual_seed(0)).tolist()
    tokens = torch.tensor([ids])
    counts = unigram(torch.arange(model.d_vocab), d_vocab=model.d_vocab, source="made up")

    @torch.inference_mode()
    def forward() -> None:
        plain(input_ids=tokens, use_cache=False)

    ours = theirs = float("inf")
    for _ in range(4):  # in turns, so that both meet the same noise
        theirs = min(theirs, seconds(forward, repeats=3, clock=time.process_time))
        ours = min(ours, seconds(lambda: trace(model, ids, unigram=counts), repeats=3, clock=time.process_time))
    return {"forward_ms": 1e3 * theirs, "trace_ms": 1e3 * ours, "ratio": ours / theirs}


def main() -> None:
    torch.set_num_threads(1)
    result = {GPT2_SMALL.name: measure(*gpt2_small()), "the bundled model": measure(*demo())}
    table(
        f"A trace of {N_TOKENS} tokens, one core",
        ["model", "transformers forward, ms", "trace with every metric, ms", "ratio"],
        [[name, r["forward_ms"], r["trace_ms"], r["ratio"]] for name, r in result.items()],
    )
    finish("trace", {"threads": 1, "tokens": N_TOKENS, "sizes": result})


if __name__ == "__main__":
    main()
