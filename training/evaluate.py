"""Held-out loss of a model folder: `python -m training.evaluate --model models/demo --text ../shared/data/text/eval`.

Every token of a text is predicted once, from at most n_ctx - 1 tokens before it and the BOS that begins each row;
rows do not overlap, so the first tokens of a row have little context and the figure is, if anything, too high.
Bits per byte = total nats / ln 2 / bytes of the UTF-8 text: comparable between tokenizers, as nats per token are not.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import click
import torch

from analysis import model as models
from analysis import registry
from analysis.model import Model

BOOKS = ("arthur-conan-doyle_the-adventures-of-sherlock-holmes.txt", "bertrand-russell_the-problems-of-philosophy.txt")
BATCH = 16


@dataclass(frozen=True)
class HeldOut:
    """Total loss of some text in nats, over how many tokens and bytes."""

    nats: float
    n_tokens: int
    n_bytes: int

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.n_tokens

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.n_bytes

    def __add__(self, other: "HeldOut") -> "HeldOut":
        return HeldOut(self.nats + other.nats, self.n_tokens + other.n_tokens, self.n_bytes + other.n_bytes)


@torch.inference_mode()
def held_out(model: Model, text: str) -> HeldOut:
    """Loss of a whole text."""
    ids = model.encode(text, prepend_bos=False)
    length = model.n_ctx - 1
    assert model.bos_id is not None
    rows = [[model.bos_id, *ids[start : start + length]] for start in range(0, len(ids), length)]
    nats = 0.0
    for start in range(0, len(rows), BATCH):
        for same in _by_length(rows[start : start + BATCH]):
            tokens = torch.tensor(same, device=model.device)
            log_probs = model.logits(tokens)[:, :-1].float().log_softmax(-1)
            nats -= float(log_probs.gather(2, tokens[:, 1:, None]).double().sum())
    return HeldOut(nats, len(ids), len(text.encode()))


def _by_length(rows: list[list[int]]) -> list[list[list[int]]]:
    """Rows grouped into batches of one length (only the last row of a text is shorter)."""
    return [[row for row in rows if len(row) == length] for length in sorted({len(row) for row in rows}, reverse=True)]


@click.command()
@click.option("--model", "folder", type=click.Path(path_type=Path, exists=True), default=Path("models/demo"))
@click.option("--text", "texts", type=click.Path(path_type=Path, exists=True), default=Path("../shared/data/text/eval"))
@click.option("--threads", type=int, default=1)
def main(folder: Path, texts: Path, threads: int) -> None:
    """Nats per token and bits per byte of every text, and of the two CC0 books together."""
    torch.set_num_threads(threads)
    model = models.load(registry.folder_spec(folder, prepend_bos=True))
    found = {path.name: held_out(model, path.read_text(encoding="utf-8")) for path in sorted(texts.glob("*.txt"))}
    if all(name in found for name in BOOKS):
        found["the two books"] = found[BOOKS[0]] + found[BOOKS[1]]
    for name, result in found.items():
        click.echo(f"{name}: {result.nats_per_token:.3f} nats per token, {result.bits_per_byte:.3f} bits per byte")


if __name__ == "__main__":
    main()
