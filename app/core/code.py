"""Python that asks this server again: what the panels offer to copy. It needs httpx and nothing of ours."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from pydantic import BaseModel

TIMEOUT = 120  # seconds that the copied code waits


@dataclass(frozen=True)
class Server:
    """Where this server is asked, and whether it wants a key, which the copied code then takes from NULLSCOPE_KEY."""

    base: str
    keyed: bool = False

    def call(self, model: str | None, call: str, request: BaseModel, read: str | None = None) -> str:
        """A call of the API with the fields that differ from their defaults; prints what ``read`` takes of it."""
        body = request.model_dump(mode="json", exclude_defaults=True)
        lines = "".join(f"    {json.dumps(name)}: {value!r},\n" for name, value in body.items())
        given = f"body = {{\n{lines}}}\n"
        return self._ask(
            f"{self.base}/api/v1/models/{quote(model or '', safe='')}/{call}", given, "answer", "json=body", read
        )

    def page(self, path: str, query: Sequence[tuple[str, str]], form: Mapping[str, Any] | None, read: str) -> str:
        """A page as JSON; ``form``: what was asked for in a body, not in the address."""
        pairs = [(name, value) for name, value in query if name != "format"]
        address = f"{self.base}{quote(path)}?{urlencode([*pairs, ('format', 'json')])}"
        fields = {name: value for name, value in (form or {}).items() if name != "format" and value not in (None, "")}
        return self._ask(address, "", "page", f"data={fields!r}" if fields else "", read)

    def client(self) -> str:
        """Lines that open the project's own client."""
        os_import, key = ("import os\n\n", ', key=os.environ["NULLSCOPE_KEY"]') if self.keyed else ("", "")
        return f"{os_import}from nullscope import Client\n\nclient = Client({self.base!r}{key})"

    def _ask(self, url: str, given: str, name: str, sent: str, read: str | None) -> str:
        os_import, headers = "", ""
        if self.keyed:
            os_import = "import os\n\n"
            given += 'headers = {"Authorization": f"Bearer {os.environ[\'NULLSCOPE_KEY\']}"}\n'
            headers = "headers=headers"
        arguments = ", ".join(filter(None, ("url", sent, headers, f"timeout={TIMEOUT}")))
        asked = f"httpx.{'post' if sent else 'get'}({arguments}).raise_for_status().json()"
        shown = f"print({read})\n" if read else ""
        return f'{os_import}import httpx\n\nurl = "{url}"\n{given}{name} = {asked}\n{shown}'
