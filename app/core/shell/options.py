"""Options that several commands have."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def model_options(function: Command) -> Command:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table."),
        click.option("--url", help="Ask a running server instead of loading the model here."),
        click.option("--model", help="Key or folder of the model; the server's first by default."),
    ):
        function = option(function)
    return function
