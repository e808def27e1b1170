"""Which role a request needs. Three roles, each with the rights of those before: view, run, admin.

view: look at pages, tables and stored results. run: compute, write notes and lists, start jobs. admin: load and unload
models, see and end everybody's jobs, take in exports. Whatever no rule names needs `view` to read and `run` to change.
"""

import re
from typing import Literal

from app.access.keys import ROLES, Role

Need = Literal["public"] | Role

READ = frozenset({"GET", "HEAD", "OPTIONS"})
PUBLIC = re.compile(r"/(healthz|readyz|login|static/.*)")
# (methods, path, role): the exceptions to the rule above, first match.
RULES: tuple[tuple[frozenset[str], re.Pattern[str], Role], ...] = (
    (frozenset({"POST", "DELETE"}), re.compile(r"/api/v1/models(/[^/]+)?"), "admin"),
    (frozenset({"POST"}), re.compile(r"/models/(load|[^/]+/unload)"), "admin"),
    (frozenset({"POST"}), re.compile(r"(/api/v1|/lab)/import"), "admin"),
)


def needed(method: str, path: str) -> Need:
    """`path` is without the proxy's prefix."""
    if (method in READ and PUBLIC.fullmatch(path)) or (method == "POST" and path in ("/login", "/logout")):
        return "public"
    for methods, pattern, role in RULES:
        if method in methods and pattern.fullmatch(path):
            return role
    return "view" if method in READ else "run"


def allows(role: Role, need: Need) -> bool:
    return need == "public" or ROLES.index(role) >= ROLES.index(need)
