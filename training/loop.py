"""The training loop: `python -m training.loop --run RUN`. Kill it whenever you like; the same command goes on.

A step depends on nothing but the weights, the optimisers' state and its own number (rows and dropout are drawn from
it), so a checkpoint holds just these, and a run that was killed and resumed has the loss curve of one that never
stopped.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import click
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from training.loss import cross_entropy
from training.model import GPT
from training.optimiser import build_optimisers, set_rates
from training.recipe import Recipe
from training.rows import Rows
from training.texts import write_whole

SNAPSHOT_TOKENS = 1_000_000  # float16 weights are kept this often: the curves over training are computed from them


class Run:
    """Model, optimisers and the number of the next step, in a folder that holds everything needed to go on."""

    def __init__(self, folder: Path, recipe: Recipe, *, device: str = "cpu", compiled: bool = False) -> None:
        torch.manual_seed(recipe.seed)
        self.folder, self.recipe, self.device, self.step = folder, recipe, device, 0
        self._agree()
        self.rows = Rows.open(folder, recipe)
        self.model = GPT(recipe.shape).to(device)
        self.hidden = torch.compile(self.model) if compiled else self.model
        self.optimisers: list[Optimizer] = []
        self.log = folder / "log.jsonl"
        if (folder / "checkpoint.pt").exists():
            self._resume()
        else:
            self._equip()
        self._trim_log()

    def _agree(self) -> None:
        """ValueError if the folder holds a run of another recipe, which this one cannot go on."""
        if not (self.folder / "recipe.json").exists():
            self.recipe.save(self.folder)
        elif Recipe.of(self.folder) != self.recipe:
            raise ValueError(
                f"{self.folder} holds a run of another recipe (its recipe.json). Go on with the options that it was "
                "started with, or start this one in a folder of its own."
            )

    def _equip(self) -> None:
        """Fresh optimisers for the phase of the next step."""
        recipe = self.recipe
        self.optimisers = build_optimisers(self.model, recipe.rates, settling=recipe.settling(self.step))

    def _resume(self) -> None:
        state = torch.load(self.folder / "checkpoint.pt", map_location=self.device, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self._equip()
        if self.step == self.recipe.settle_step:
            return  # what was saved belongs to the phase before
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)

    def _trim_log(self) -> None:
        """Forget the steps after the checkpoint, which are about to be repeated, and a line that a kill has torn."""
        if self.log.exists():
            lines = [line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            kept = "".join(line for line in lines if json.loads(line)["step"] < self.step)
            write_whole(self.log, kept.encode())

    def save(self) -> None:
        """Everything needed to go on, under its name only when complete."""
        temporary = self.folder / "checkpoint.pt.tmp"
        states = [optimiser.state_dict() for optimiser in self.optimisers]
        torch.save({"step": self.step, "model": self.model.state_dict(), "optimisers": states}, temporary)
        os.replace(temporary, self.folder / "checkpoint.pt")

    def snapshot(self) -> None:
        """The weights as float16, named by the tokens seen."""
        (self.folder / "snapshots").mkdir(exist_ok=True)
        seen = self.step * self.recipe.tokens_a_step
        weights = {name: value.half().contiguous() for name, value in self.model.state_dict().items()}
        save_file(weights, self.folder / "snapshots" / f"{seen:012d}.safetensors")

    def advance(self) -> float:
        """One step; its loss in nats a token."""
        recipe = self.recipe
        if self.step == recipe.settle_step:
            self._settle()
        torch.manual_seed(recipe.seed * 10**9 + self.step)
        rows = torch.from_numpy(self.rows.step(self.step)).to(self.device)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            hidden = self.hidden(rows[:, :-1])
        loss = cross_entropy(hidden.bfloat16(), self.model.unembed, rows[:, 1:])
        loss.backward()
        set_rates(self.optimisers, recipe, self.step)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.model.close_slots()
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def _settle(self) -> None:
        """The second phase begins: from weights as a snapshot holds them, with fresh optimisers."""
        for parameter in self.model.parameters():
            parameter.copy_(parameter.half())
        self._equip()


@torch.no_grad()
def held_out_loss(run: Run, rows: int = 64) -> float:
    """Nats a token on clean text at the end of the stream, which no step ever sees."""
    ids = run.rows.held_out(rows).to(run.device)
    run.model.eval()
    with torch.autocast(torch.device(run.device).type, torch.bfloat16):
        losses: list[Tensor] = [
            cross_entropy(run.model(part[:, :-1]).bfloat16(), run.model.unembed, part[:, 1:]) for part in ids.split(16)
        ]
    run.model.train()
    return torch.stack(losses).mean().item()


def train(run: Run, *, save_every: int = 250, until: int | None = None) -> Iterator[dict[str, float]]:
    """Steps to the end of the recipe (or `until`), each yielded as the line that the log keeps of it."""
    every = max(1, SNAPSHOT_TOKENS // run.recipe.tokens_a_step)
    last = run.recipe.steps if until is None else until
    with run.log.open("a", buffering=1) as log:
        while run.step < last:
            record: dict[str, float] = {"step": run.step, "tokens": run.step * run.recipe.tokens_a_step}
            if run.step % every == 0:
                run.snapshot()
                record["held_out"] = held_out_loss(run)
            record["loss"] = run.advance()
            log.write(json.dumps(record) + "\n")
            yield record
            if run.step % save_every == 0 or run.step == last:
                run.save()


def progress(run: Run) -> Iterator[str]:
    """Train, with a line now and then: loss, tokens a second, minutes left."""
    started, first, smooth = time.monotonic(), run.step, None
    for record in train(run):
        smooth = record["loss"] if smooth is None else 0.98 * smooth + 0.02 * record["loss"]
        if run.step % 25 == 0 or "held_out" in record:
            speed = (run.step - first) * run.recipe.tokens_a_step / (time.monotonic() - started)
            left = (run.recipe.steps - run.step) * run.recipe.tokens_a_step / speed / 60
            held = f" held-out {record['held_out']:.3f}" if "held_out" in record else ""
            done = f"step {run.step}/{run.recipe.steps} loss {smooth:.3f}{held}"
            yield f"{done} {speed:,.0f} tokens/s, {left:.0f} min left"


@click.command()
@click.option("--run", "folder", type=click.Path(path_type=Path, exists=True), default=Path("training/runs/demo"))
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Try another number of the recipe: shape.slots=0."
)
@click.option("--threads", type=int, default=1)
@click.option("--compile/--no-compile", "compiled", default=False, help="Fuse the forward pass (needs a C++ compiler).")
def main(folder: Path, settings: tuple[str, ...], threads: int, compiled: bool) -> None:
    """Train, or go on training."""
    torch.set_num_threads(threads)
    try:
        recipe = Recipe().changed((name, value) for name, _, value in (setting.partition("=") for setting in settings))
        run = Run(folder, recipe, device="cuda" if torch.cuda.is_available() else "cpu", compiled=compiled)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for line in progress(run):
        click.echo(line)
    run.snapshot()


if __name__ == "__main__":
    main()
