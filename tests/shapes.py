"""The annotations of `analysis`, shapes included, checked at every call, at a price that a suite can pay.

jaxtyping's own decorator builds its checks anew whenever a nested function is defined (a hook, in every forward pass),
binds the arguments at each call and checks them twice: together more than half of what the tests of `analysis` took.
In this one the checks belong to the code of a function and are built once; parameters are checked before the call, the
result after it, under the same names of sizes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import beartype
from jaxtyping._storage import pop_shape_memo, push_shape_memo

Check = Callable[..., Any]
_BUILT: dict[
    int, Checks
] = {}  # by the code itself: what dataclasses write for equal fields is equal, its hints are not


class Checks:
    """Of one function: of its parameters and of its result; whether sizes have names in them, or are computed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.code = function.__code__
        self.signature = inspect.signature(function)
        hints = {name: _evaluated(hint, function) for name, hint in _annotations(function).items()}
        result = {name: hint for name, hint in hints.items() if name == "return"}
        given = {name: hint for name, hint in hints.items() if name != "return"}
        self.sized = any(map(_has_array, hints.values()))
        self.computed = self.sized and any("{" in str(hint) for hint in _annotations(function).values())
        self.parameters = _parameters(function, self.signature, given) if given else None
        self.result = _result(function, result) if result else None


def install() -> None:
    """jaxtyping's import hook decorates with this from here on: before the first import of what is checked."""
    jaxtyping.jaxtyped = jaxtyped


def jaxtyped(*, typechecker: Any) -> Callable[[Any], Any]:
    """What the import hook calls for every function and class of the packages named to pytest."""
    return checked


def checked(thing: Any) -> Any:
    """A function that checks its annotations; of a dataclass, what it is made of."""
    if inspect.isclass(thing):
        if is_dataclass(thing) and "__init__" in vars(thing) and not hasattr(thing.__init__, "__wrapped__"):
            thing.__init__ = checked(thing.__init__)  # type: ignore[misc]
        return thing
    if not _annotations(thing):
        return thing
    if (checks := _BUILT.get(id(thing.__code__))) is None:
        checks = _BUILT[id(thing.__code__)] = Checks(thing)
    return _sized(thing, checks) if checks.sized else _plain(thing, checks)


def _sized(function: Callable[..., Any], checks: Checks) -> Callable[..., Any]:
    parameters, result, signature = checks.parameters, checks.result, checks.signature

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        push_shape_memo(_bound(signature, args, kwargs) if checks.computed else {})
        try:
            if parameters is not None:
                parameters(*args, **kwargs)
            answer = function(*args, **kwargs)
            return answer if result is None else result(answer)
        finally:
            pop_shape_memo()

    return call


def _plain(function: Callable[..., Any], checks: Checks) -> Callable[..., Any]:
    parameters, result = checks.parameters, checks.result

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if parameters is not None:
            parameters(*args, **kwargs)
        answer = function(*args, **kwargs)
        return answer if result is None else result(answer)

    return call


def _bound(signature: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    return dict(getattr(function, "__annotations__", {}))


def _evaluated(hint: Any, function: Callable[..., Any]) -> Any:
    """What stands for a local name that is not known is anything."""

    def holder(value: Any) -> None: ...

    holder.__annotations__ = {"value": hint}
    try:
        return get_type_hints(holder, function.__globals__, include_extras=True)["value"]
    except Exception:
        return Any


def _has_array(hint: Any) -> bool:
    if isinstance(hint, list | tuple):
        return any(map(_has_array, hint))
    return (inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)) or any(map(_has_array, get_args(hint)))


def _parameters(function: Callable[..., Any], signature: inspect.Signature, hints: dict[str, Any]) -> Check:
    """A function of the same parameters that does nothing."""
    empty = inspect.Parameter.empty
    bare = [
        one.replace(annotation=empty, default=empty if one.default is empty else None)
        for one in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    made = _defined(f"def {function.__name__}{text}: pass", function)
    made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__  # type: ignore[attr-defined]
    made.__annotations__ = hints
    return beartype(made)


def _result(function: Callable[..., Any], hints: dict[str, Any]) -> Check:
    made = _defined(f"def {function.__name__}(result): return result", function)
    made.__annotations__ = hints
    return beartype(made)


def _defined(text: str, function: Callable[..., Any]) -> Callable[..., Any]:
    scope: dict[str, Any] = {}
    exec(text, scope)
    made: Callable[..., Any] = scope[function.__name__]
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    return made
