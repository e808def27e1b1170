"""Shapes of the allow-list's hub models as published, for what must be known before a download: the memory they need.

Once a model is on this machine its own files count (`facts.read_facts`). n_parameters counts tied matrices once, as the
files do; tests build each shape without weights and compare.
"""

from app.core.residency.facts import Facts


def _facts(
    architecture: str,
    d_model: int,
    n_layers: int,
    n_heads: int,
    d_mlp: int,
    d_vocab: int,
    n_ctx: int,
    n_parameters: int,
) -> Facts:
    return Facts(
        architecture=architecture,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        d_mlp=d_mlp,
        d_vocab=d_vocab,
        n_ctx=n_ctx,
        norm="LN" if architecture in LAYER_NORM else "RMS",
        n_parameters=n_parameters,
        n_copied=3 * n_layers * (d_model**2 + d_model) if architecture == NEOX else 0,
        bytes_on_disk=None,
    )


GPT2, NEOX, PHI, OPT = "GPT2LMHeadModel", "GPTNeoXForCausalLM", "PhiForCausalLM", "OPTForCausalLM"
LLAMA, MISTRAL, QWEN = "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"
GEMMA, GEMMA2, OLMO2 = "GemmaForCausalLM", "Gemma2ForCausalLM", "Olmo2ForCausalLM"
LAYER_NORM = frozenset({GPT2, NEOX, PHI, OPT})

PUBLISHED: dict[str, Facts] = {
    "gpt2": _facts(GPT2, 768, 12, 12, 3072, 50257, 1024, 124_439_808),
    "gpt2-medium": _facts(GPT2, 1024, 24, 16, 4096, 50257, 1024, 354_823_168),
    "gpt2-large": _facts(GPT2, 1280, 36, 20, 5120, 50257, 1024, 774_030_080),
    "gpt2-xl": _facts(GPT2, 1600, 48, 25, 6400, 50257, 1024, 1_557_611_200),
    "pythia-160m": _facts(NEOX, 768, 12, 12, 3072, 50304, 2048, 162_322_944),
    "pythia-410m": _facts(NEOX, 1024, 24, 16, 4096, 50304, 2048, 405_334_016),
    "pythia-1b": _facts(NEOX, 2048, 16, 8, 8192, 50304, 2048, 1_011_781_632),
    "pythia-1.4b": _facts(NEOX, 2048, 24, 16, 8192, 50304, 2048, 1_414_647_808),
    "pythia-2.8b": _facts(NEOX, 2560, 32, 32, 10240, 50304, 2048, 2_775_208_960),
    "pythia-6.9b": _facts(NEOX, 4096, 32, 32, 16384, 50432, 2048, 6_857_302_016),
    "phi-1.5": _facts(PHI, 2048, 24, 32, 8192, 51200, 2048, 1_418_270_720),
    "phi-2": _facts(PHI, 2560, 32, 32, 10240, 51200, 2048, 2_779_683_840),
    "opt-125m": _facts(OPT, 768, 12, 12, 3072, 50272, 2048, 125_239_296),
    "opt-1.3b": _facts(OPT, 2048, 24, 32, 8192, 50272, 2048, 1_315_758_080),
    "llama-2-7b": _facts(LLAMA, 4096, 32, 32, 11008, 32000, 4096, 6_738_415_616),
    "llama-3-8b": _facts(LLAMA, 4096, 32, 32, 14336, 128256, 8192, 8_030_261_248),
    "mistral-7b": _facts(MISTRAL, 4096, 32, 32, 14336, 32000, 32768, 7_241_732_096),
    "qwen2.5-0.5b": _facts(QWEN, 896, 24, 14, 4864, 151936, 32768, 494_032_768),
    "qwen2.5-1.5b": _facts(QWEN, 1536, 28, 12, 8960, 151936, 131072, 1_543_714_304),
    "gemma-2b": _facts(GEMMA, 2048, 18, 8, 16384, 256000, 8192, 2_506_172_416),
    "gemma-2-2b": _facts(GEMMA2, 2304, 26, 8, 9216, 256000, 8192, 2_614_341_888),
    "olmo-2-1b": _facts(OLMO2, 2048, 16, 16, 8192, 100352, 4096, 1_484_916_736),
}
