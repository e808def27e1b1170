"""Where what ships beside the code lies: templates, static files, models, documents.

In a checkout they are folders at its top; in an installed wheel they stand inside the package `nullscope`.
"""

from pathlib import Path

_TOP = Path(__file__).resolve().parent.parent  # of a checkout, or site-packages


def shipped(name: str) -> Path:
    """The folder of that name: "templates", "static", "models" or "docs"."""
    installed = _TOP / "nullscope" / name
    return installed if installed.is_dir() else _TOP / name
