"""How the client talks to a server: typed answers, errors with their reason, 429 waited for."""

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

V = TypeVar("V", bound=BaseModel)

Prompt = str | Sequence[int] | Sequence[Mapping[str, str]]
"""A text, token ids, or the turns of a conversation: {"role": "user", "content": "Hello"}."""


class ApiError(Exception):
    """What the server refused, and why."""

    def __init__(self, status: int, code: str, message: str, hint: str | None) -> None:
        super().__init__(" ".join(filter(None, (message, hint))))
        self.status, self.code, self.message, self.hint = status, code, message, hint


class Wire:
    """One server. Paths are below /api/v1, unless a call says `api=False`."""

    def __init__(
        self,
        url: str,
        key: str | None,
        model: str | None,
        *,
        retries: int,
        timeout: float,
        transport: httpx.BaseTransport | None,
        sleep: Callable[[float], None],
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout, transport=transport)
        self._retries = retries
        self._sleep = sleep
        self._model = model

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def model(self) -> str:
        """Key of the model that is asked: the one given, else the server's first."""
        if self._model is None:
            self._model = str(self._send("GET", "/models").json()["models"][0]["key"])
        return self._model

    @property
    def path(self) -> str:
        """Of the model, below the API."""
        return f"/models/{part(self.model)}"

    def _ask_prompt(
        self,
        view: type[V],
        question: str,
        prompt: Prompt,
        options: Mapping[str, Any],
        *,
        store: bool = False,
    ) -> V:
        """A question about a prompt. store: so that the answer has a permalink."""
        return self._ask_post(view, question, {**of_prompt(prompt), **options}, store=store)

    def _ask_post(self, view: type[V], question: str, body: Mapping[str, Any], *, store: bool = False) -> V:
        path, given = f"{self.path}/{question}", {name: _plain(value) for name, value in body.items()}
        return self._post(view, path, given, query={"store": True} if store else None)

    def _ask_get(self, view: type[V], question: str, query: Mapping[str, Any]) -> V:
        return self._get(view, f"{self.path}/{question}", query)

    def _events(self, view: type[V], question: str, body: Mapping[str, Any]) -> Iterator[V]:
        """The answer as it comes (server-sent events). Leaving the iteration ends the work."""
        address, given = f"/api/v1{self.path}/{question}", {name: _plain(value) for name, value in body.items()}
        headers, kind, data = {"Accept": "text/event-stream"}, "message", ""
        for attempt in range(self._retries + 1):
            with self._http.stream("POST", address, json=given, headers=headers) as response:
                if response.status_code == 429 and attempt < self._retries:
                    self._sleep(_delay(response))
                    continue
                if response.status_code >= 400:
                    response.read()
                    raise _error(response)
                for line in response.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "data":
                        data = value
                    elif not line and data:
                        if kind == "error":
                            error = json.loads(data)["error"]
                            raise ApiError(response.status_code, error["code"], error["message"], error["hint"])
                        yield view.model_validate_json(data)
                        kind, data = "message", ""
                return

    def _get(self, view: type[V], path: str, query: Mapping[str, Any] | None = None, *, api: bool = True) -> V:
        params = {name: value for name, value in (query or {}).items() if value is not None}
        return view.model_validate(self._send("GET", path, api=api, params=params).json())

    def _post(self, view: type[V], path: str, body: Mapping[str, Any], *, query: Mapping[str, Any] | None = None) -> V:
        return view.model_validate(self._send("POST", path, json=dict(body), params=query).json())

    def _put(self, view: type[V], path: str, body: Mapping[str, Any]) -> V:
        return view.model_validate(self._send("PUT", path, json=dict(body)).json())

    def _delete(self, view: type[V], path: str, query: Mapping[str, Any] | None = None) -> V:
        return view.model_validate(self._send("DELETE", path, params=query).json())

    def _send(
        self, method: str, path: str, *, api: bool = True, fine: Sequence[int] = (), **content: Any
    ) -> httpx.Response:
        """The answer, once it is one; ApiError for a refusal that is not `fine`."""
        address = ("/api/v1" if api else "") + path
        for attempt in range(self._retries + 1):
            response = self._http.request(method, address, **content)
            if response.status_code != 429 or attempt == self._retries:
                break
            self._sleep(_delay(response))
        if response.status_code >= 400 and response.status_code not in fine:
            raise _error(response)
        return response


def of_prompt(prompt: Prompt) -> dict[str, Any]:
    """The prompt's part of a request."""
    if isinstance(prompt, str):
        return {"text": prompt}
    turns = [dict(turn) for turn in prompt if isinstance(turn, Mapping)]
    return (
        {"turns": turns} if turns else {"token_ids": [_id(token) for token in prompt if not isinstance(token, Mapping)]}
    )


def _id(token: int) -> int:
    """A token id of whatever integer type; TypeError for a bool or a float."""
    if isinstance(token, bool):
        raise TypeError(f"{token} is no token id")
    return operator.index(token)


def part(name: str) -> str:
    """A name as one part of a path: no character of it parts paths, starts a query or steps up."""
    return quote(name, safe="").replace(".", "%2E") if set(name) == {"."} else quote(name, safe="")


def _plain(value: Any) -> Any:
    """Models (an intervention) as JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _delay(response: httpx.Response) -> float:
    """Seconds to wait: the server names them; a proxy in between may name a date instead, or nothing."""
    named = response.headers.get("Retry-After", "")
    return float(named) if re.fullmatch("[0-9]{1,9}", named) else 1.0


def _error(response: httpx.Response) -> ApiError:
    try:
        error = response.json()["error"]
        return ApiError(response.status_code, error["code"], error["message"], error["hint"])
    except (ValueError, KeyError, TypeError):
        return ApiError(response.status_code, "no_answer", f"The server answered {response.status_code}.", None)
