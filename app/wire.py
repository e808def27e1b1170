"""How the client talks to a server: typed answers, errors with their reason, 429 waited for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

V = TypeVar("V", bound=BaseModel)


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _get(self, view: type[V], path: str, query: Mapping[str, Any] | None = None, *, api: bool = True) -> V:
        params = {name: value for name, value in (query or {}).items() if value is not None}
        return view.model_validate(self._send("GET", path, api=api, params=params).json())

    def _post(self, view: type[V], path: str, body: Mapping[str, Any]) -> V:
        return view.model_validate(self._send("POST", path, json=dict(body)).json())

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


def _delay(response: httpx.Response) -> float:
    """Seconds to wait: the server names them; a proxy in between may name a date instead, or nothing."""
    named = response.headers.get("Retry-After", "")
    return float(named) if named.isdecimal() else 1.0


def _error(response: httpx.Response) -> ApiError:
    try:
        error = response.json()["error"]
        return ApiError(response.status_code, error["code"], error["message"], error["hint"])
    except (ValueError, KeyError, TypeError):
        return ApiError(response.status_code, "no_answer", f"The server answered {response.status_code}.", None)
