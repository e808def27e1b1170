"""Worked examples: pages that were computed beforehand, so that the first paint needs no model. One file each."""

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from analysis.files import write_bytes
from app.core.view import View


class ExampleRef(View):
    key: str
    title: str
    claim: str
    page: str = Field("/", description="The page that it is an example of.")


def write_json(content: dict[str, Any], file: Path) -> None:
    """Whole or not at all."""
    write_bytes(file, (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode())
