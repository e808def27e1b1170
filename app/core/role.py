"""The three roles, each with the rights of those before."""

from typing import Literal, get_args

Role = Literal["view", "run", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
