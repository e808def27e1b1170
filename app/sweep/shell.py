"""nullscope sweep: corpus sweeps in a folder, without a server."""

import click

from app.sweep import shell_finished as sweep_finished
from app.sweep import shell_run as sweep_run


@click.group("sweep")
def command() -> None:
    """Ablate neurons over a text: run it, and read what came out."""


for _found in (
    sweep_run.estimate,
    sweep_run.run,
    sweep_run.status,
    sweep_run.resume,
    sweep_finished.export,
    sweep_finished.figures,
    sweep_finished.neuron,
    sweep_finished.calibration,
    sweep_finished.compare,
):
    command.add_command(_found)
