"""How a field of a request is typed in a shell, where that is not simply `--its-name` with the API's default."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Typed:
    """Stands among the annotations of the field; `app.core.doors.command` makes the option of it.

    names: in place of `--its-name`. default: in place of the API's. metavar, help: as in click; help in place of the
    field's description. off: the option is a switch that turns off what is on.
    """

    names: tuple[str, ...] = ()
    default: Any = None
    metavar: str | None = None
    help: str | None = None
    off: bool = False
