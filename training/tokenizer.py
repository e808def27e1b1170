"""Byte-level BPE trained on the books; `<|endoftext|>` (id 0) begins every row and separates documents."""

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"


def train_tokenizer(texts: Iterator[str], vocabulary: int) -> Tokenizer:
    """A GPT-2-like tokenizer of `vocabulary` entries; every byte is encodable, so nothing is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(run: Path) -> Tokenizer:
    return Tokenizer.from_file(str(run / "tokenizer.json"))
