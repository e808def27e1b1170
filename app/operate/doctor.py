"""nullscope doctor: is everything here that a server needs, and what to do where it is not."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from app.core.shell.output import print_table

if TYPE_CHECKING:
    from pathlib import Path

    from app.core.settings import Settings

GB = 1 << 30
Finding = tuple[bool, str, str]  # (fine, what was found, what to do)


@click.command("doctor")
def command() -> None:
    """Check versions, device, memory, kernels, disk, database and models. Exit code 0 when all is well, 1 otherwise."""
    from app.core.shell.session import refusing

    with refusing():
        from app.core.settings import Settings

        settings = Settings()
        rows = [(name, *_tried(check, settings, remedy)) for name, (check, remedy) in CHECKS.items()]
    print_table(
        ("check", "", "found", "what to do"), [(n, "ok" if fine else "NO", found, to) for n, fine, found, to in rows]
    )
    sys.exit(0 if all(row[1] for row in rows) else 1)


def _tried(check: "Callable[[Settings], Finding]", settings: "Settings", remedy: str) -> Finding:
    from analysis.types import NullscopeError

    try:
        return check(settings)
    except NullscopeError as error:
        return False, error.message, error.hint or remedy
    except Exception as error:  # a check that cannot run is a finding too
        said = str(getattr(error, "orig", None) or error).strip()  # of a database's errors, what the database said
        return False, (said.splitlines() or [type(error).__name__])[0][:120], remedy


def versions(settings: "Settings") -> Finding:
    from app.core.to_view import versions as installed

    found = installed()
    missing = [name for name, version in found.items() if version == "not installed" and name != "nullscope"]
    return not missing, ", ".join(f"{k} {v}" for k, v in found.items()), "pip install -e ." if missing else ""


def device(settings: "Settings") -> Finding:
    from app.core.residency.devices import devices

    return True, ", ".join(devices(settings.device)), ""


def memory(settings: "Settings") -> Finding:
    from app.core.residency.devices import devices
    from app.core.residency.memory import Memory

    free = Memory(devices(settings.device)[0], settings.memory_bytes).free()
    return (
        free > GB,
        f"{free / GB:.1f} GiB free",
        "" if free > GB else "Close other programs, or choose a smaller model.",
    )


def kernels(settings: "Settings") -> Finding:
    """What effects are computed with; that they compile, a running server's self-check knows."""
    from analysis.kernels import choose
    from app.core.residency.devices import devices

    device = devices(settings.device)[0]
    found = choose(settings.effects_backend, device=device).name
    slow = device == "cpu" and settings.effects_backend == "auto" and found == "eager"
    return True, found, "Install g++: compiled kernels are several times faster." if slow else ""


def disk(settings: "Settings") -> Finding:
    import shutil

    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    fine = free > GB
    return (
        fine,
        f"{free / GB:.1f} GiB free for {settings.data_dir}",
        "" if fine else "Free some, or set NULLSCOPE_DATA_DIR.",
    )


def database(settings: "Settings") -> Finding:
    from app.core.store import Database

    found = Database.of(settings)
    if found.path is not None and not found.path.exists():
        return True, f"{found.address}: made at the first start", ""
    version = found.version()
    fine = version == found.head()
    return (
        fine,
        f"{found.address}, schema {version}",
        "" if fine else f"The program has {found.head()}: start it to migrate.",
    )


def models(settings: "Settings") -> Finding:
    """Folders that are not refused, files that are whole, and memory for all of them."""
    from analysis.folder import check, weight_files
    from analysis.registry import resolve
    from app.core.residency.devices import devices
    from app.core.residency.facts import read_facts
    from app.core.residency.hub import HubModels
    from app.core.residency.memory import Memory

    hub = HubModels(settings.data_dir, None, allow_download=False)
    memory = Memory(devices(settings.device)[0], settings.memory_bytes)
    found, needed = [], 0
    for spec in map(resolve, settings.models):
        snapshot = None if spec.folder else hub.local(spec)
        folder = snapshot.folder if snapshot else spec.folder
        if folder is None:
            found.append(
                f"{spec.key} (not on this machine" + (", downloaded at the start)" if settings.allow_download else ")")
            )
            if not settings.allow_download:
                return False, ", ".join(found), "Set NULLSCOPE_ALLOW_DOWNLOAD=true, or name a folder."
            continue
        check(folder, spec.key)
        _whole(weight_files(folder, spec.key))
        needed += read_facts(folder).bytes_needed(settings.dtype)
        found.append(spec.key)
    memory.admit(needed, "Loading " + ", ".join(found))
    return True, ", ".join(found), ""


def _whole(files: "list[Path]") -> None:
    """Raises where a file of weights is damaged or ends too early."""
    from safetensors import safe_open

    for file in files:
        with safe_open(file, framework="numpy"):
            pass


def access(settings: "Settings") -> Finding:
    from app.core.access.gate import auth_path, check_address
    from app.core.access.keys import KeyFile

    check_address(settings, settings.host)
    people = len(KeyFile(auth_path(settings)).people())
    return True, f"{settings.host}, {people} keys" + (", open to all" if settings.insecure_open else ""), ""


CHECKS = {
    "versions": (versions, "pip install -e ."),
    "device": (device, "Set NULLSCOPE_DEVICE=cpu."),
    "memory": (memory, "Set NULLSCOPE_MEMORY_BYTES."),
    "kernels": (kernels, "Install g++, or set NULLSCOPE_EFFECTS_BACKEND=auto."),
    "disk": (disk, "Set NULLSCOPE_DATA_DIR to a folder that can be written."),
    "database": (database, "Check NULLSCOPE_DATABASE_URL and that its server runs, or: nullscope restore FILE --yes"),
    "models": (models, "Copy the folder again, or name a smaller model."),
    "access": (access, "nullscope users list"),
}
