"""How the last layer came to be: `python -m training.history --run RUN --model models/demo` writes history.json.

Computed from the snapshots that the loop keeps: held-out loss, the spectrum of W_U, and, for the neurons that the bar
names in the finished model, norm, rho and LN-mediated fraction; the best induction score of any head.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import torch

from analysis import model as models
from analysis import nullspace, registry
from analysis.induction.heads import head_scores, score_rows
from analysis.induction.steps import complete
from training.bar import entropy_neurons, frequency_neurons, load
from training.companions import sample_texts
from training.evidence import measure
from training.export import export

ROWS, STRIDE = 24, 8  # enough for a curve: the card's figures take all rows and every fourth position
BEST = 6  # neurons followed where the bar names none: those of the largest mean |dH|


def followed(folder: Path) -> list[int]:
    """The neurons whose history is worth showing, by the finished model's evidence."""
    model, unigram = load(folder)
    evidence = measure(model, sample_texts(folder), unigram, seed=0, n_rows=ROWS, stride=STRIDE)
    named = [*entropy_neurons(evidence), *frequency_neurons(evidence)]
    largest = evidence.d_entropy.argsort(descending=True)[:BEST].tolist()
    return sorted({*named, *largest})


def points(run: Path, folder: Path, neurons: Sequence[int], every: int) -> Iterator[dict[str, object]]:
    """One record for every ``every``-th snapshot, and for the last one, which is the finished model."""
    held_out = {
        record["tokens"]: record["held_out"]
        for record in map(json.loads, (run / "log.jsonl").read_text().splitlines())
        if "held_out" in record
    }
    texts = sample_texts(folder)
    _, unigram = load(folder)
    snapshots = sorted((run / "snapshots").glob("*.safetensors"))
    for snapshot in [*snapshots[:-1:every], snapshots[-1]]:
        with tempfile.TemporaryDirectory() as temporary:
            export(snapshot, run, Path(temporary))
            model = models.load(registry.folder_spec(Path(temporary), prepend_bos=True))
        evidence = measure(model, texts, unigram, seed=0, n_rows=ROWS, stride=STRIDE)
        tokens = int(snapshot.stem)
        spectrum = nullspace.spectrum(model.readout)
        yield {
            "tokens": tokens,
            "held_out": held_out.get(tokens),
            "singular_values": np.round(spectrum.S.numpy(), 4).tolist(),
            "k": spectrum.k,
            "median_norm": round(float(evidence.norm.median()), 5),
            "median_logit_var": round(float(evidence.logit_var.median()), 6),
            "induction_score": round(
                float(complete(head_scores(model, score_rows(model))).scores["induction"].max()), 4
            ),
            "neurons": {
                str(i): {
                    name: round(float(getattr(evidence, name)[i]), 5)
                    for name in ("norm", "logit_var", "rho", "ln_fraction", "frequency_fraction", "d_entropy")
                }
                for i in neurons
            },
        }


@click.command()
@click.option("--run", type=click.Path(path_type=Path, exists=True), default=Path("training/runs/demo"))
@click.option("--model", "folder", type=click.Path(path_type=Path, exists=True), default=Path("models/demo"))
@click.option("--every", type=int, default=4, help="Take every so-many-th snapshot.")
def main(run: Path, folder: Path, every: int) -> None:
    """Write the curves over training."""
    torch.set_num_threads(1)
    neurons = followed(folder)
    found = []
    for point in points(run, folder, neurons, every):
        found.append(point)
        click.echo(f"{point['tokens']:,} tokens: induction {point['induction_score']}")
    (folder / "history.json").write_text(json.dumps({"neurons": neurons, "points": found}) + "\n")


if __name__ == "__main__":
    main()
