"""What the commands on run folders share: the folder, the model that belongs to it, and how it is loaded."""

from pathlib import Path
from typing import Any

import click


def folder_argument(function: Any) -> Any:
    return click.argument("folder", type=click.Path(path_type=Path, file_okay=False))(function)


def on_model_options(function: Any) -> Any:
    for option in (
        click.option(
            "--dtype", type=click.Choice(["float32", "bfloat16", "float64"]), default="float32", show_default=True
        ),
        click.option("--device", default="cpu", show_default=True, help="Of the workers: cpu, cuda, cuda:1, ..."),
        click.option("--model", default="demo", show_default=True, help="Key or folder of the model."),
    ):
        function = option(function)
    return function


def load(name: str, device: str, dtype: str) -> tuple[Any, Any]:
    """(model, token counts or None)."""
    from analysis.distributed import Recipe, opened
    from analysis.registry import resolve
    from analysis.sweep import SweepConfig
    from analysis.types import NotFoundError
    from app.core.residency.hub import HubModels
    from app.core.settings import Settings

    spec = resolve(name)
    folder = spec.folder
    if folder is None:
        snapshot = HubModels(Settings().data_dir).local(spec)
        if snapshot is None:
            raise NotFoundError(f"{name} is not on this machine.", hint=f"nullscope get {name}, or name a folder.")
        folder = snapshot.folder
    return opened(Recipe(spec, folder, SweepConfig(), dtype=dtype, device=device, counts=spec.counts))
