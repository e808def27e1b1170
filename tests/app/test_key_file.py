"""The file of keys: what is in it, whatever becomes of it, and who changes it at once."""

import asyncio
import json
import logging
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from analysis.types import InputError, NullscopeError
from app.core.access.gate import COOKIE, Gate, Identity, check_address
from app.core.access.keys import KeyFile, Person, split
from app.core.access.roles import Doors
from app.core.errors import Failure, failure_of
from app.core.settings import Settings
from app.core.store import Database, logins
from tests.app.conftest import bearer, still

URL = "/api/v1/models"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash that takes no time, for tests that are not about it."""
    monkeypatch.setattr("app.core.access.keys.COST", {"n": 2, "r": 1, "p": 1})


def test_only_hashes_are_kept_and_the_file_is_ones_own(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "users.json")
    key = keys.add("ada", "run")
    text = keys.path.read_text()
    assert split(key)[1] not in text
    assert keys.path.stat().st_mode & 0o077 == 0
    assert keys.check(key) == keys.by_name("ada")
    for wrong in (key + "x", key[:-1], "", "ns_x_y", "ns__", "é", split(key)[1]):
        assert keys.check(wrong) is None
    with pytest.raises(InputError):
        keys.add("ada", "run")
    for name in ("", "a b", "../x", "-a", "a" * 70, "<b>", "local", "shared", "nullscope"):
        with pytest.raises(InputError):
            keys.add(name, "run")
    keys.revoke("ada")
    assert keys.check(key) is None  # although it was right before


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nothing"))


def _a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _its_folder_gone(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def _holding(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text)

    return write


PERSON = {"name": "x", "role": "run", "id": "1", "salt": "00", "hash": "00", "created": 1.0}
FATES: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "renamed": lambda path: path.rename(path.with_name("users.old")),
    "its folder gone": _its_folder_gone,
    "emptied": _emptied,
    "cut short": _cut,
    "a folder": _a_folder,
    "a link to nothing": _a_link_to_nothing,
    "a link to itself": _a_link_to_itself,
    "binary": lambda path: path.write_bytes(b"\xff\xfe\0"),
    "no object": _holding("[]"),
    "no people": _holding('{"people": null}'),
    "people by name": _holding('{"people": {"ada": {}}}'),
    "half a person": _holding(json.dumps({"people": [{"name": "x"}]})),
    "no such role": _holding(json.dumps({"people": [{**PERSON, "role": "owner"}]})),
    "the operator's name": _holding(json.dumps({"people": [{**PERSON, "name": "local", "role": "admin"}]})),
    "salt that is none": _holding(json.dumps({"people": [{**PERSON, "salt": "salt"}]})),
    "nested": _holding("[" * 100_000),
}


class Door:
    """A gate as requests meet it, without the program behind it."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database.of(settings)
        self.database.open()
        self.gate = Gate(settings, self.database, Doors(()), clock=still)

    def ask(self, **headers: str) -> Failure | Identity:
        """Who it takes the sender for, or how it refuses."""
        scope = {"type": "http", "method": "GET", "path": URL, "client": ("127.0.0.1", 1)}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
        try:
            return asyncio.run(self.gate.admit(scope))
        except NullscopeError as error:
            return failure_of(error)

    def status(self, **headers: str) -> int:
        found = self.ask(**headers)
        return found.status if isinstance(found, Failure) else 200

    def logged_in(self, person: Person) -> dict[str, str]:
        """Headers of a browser that logged in with this person's key."""
        with self.database.session() as session:
            return {"cookie": f"{COOKIE}={logins.begin(session, person.name, person.id, 1e9)}"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("fate", "named"),
    [*((fate, True) for fate in FATES), *((fate, False) for fate in FATES if "its folder" not in fate)],
)
def test_a_server_that_began_closed_stays_closed(
    make_settings: Callable[..., Settings], tmp_path: Path, fate: str, named: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever becomes of the file: nobody comes in, those with keys are told that it is not their fault."""
    caplog.set_level(logging.ERROR)
    keys = KeyFile(tmp_path / ("keys" if named else "data") / "users.json")
    known, fresh, eve = (keys.add(name, "admin") for name in ("ada", "ben", "eve"))
    door = Door(make_settings(**({"auth_file": keys.path} if named else {})))
    cookie = door.logged_in(keys.check(eve) or pytest.fail("a right key"))
    assert [door.status(**headers) for headers in (bearer(known), cookie, {})] == [200, 200, 401]
    before = keys.path.read_bytes()
    FATES[fate](keys.path)
    assert door.status() == 401
    for headers in (bearer(known), bearer(fresh), bearer("ns_00_wrong"), cookie):
        refused = door.ask(**headers)
        assert isinstance(refused, Failure)
        assert (refused.status, refused.code) == (503, "auth_file")
        assert int(refused.headers["Retry-After"]) > 0
        assert str(tmp_path) not in str(refused)
        assert "users.json" not in str(refused)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1  # a minute
    assert str(keys.path) in told[0]
    _put_back(keys.path, before)
    assert [door.status(**headers) for headers in (bearer(known), bearer(fresh), cookie, {})] == [200, 200, 200, 401]


def test_a_page_says_that_it_is_the_operators_fault(make_door: Callable[..., TestClient], tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "data" / "users.json")
    key = keys.add("ada", "admin")
    client = make_door()
    keys.path.rename(tmp_path / "users.json")
    assert client.get("/lab", headers={"accept": "text/html"}, follow_redirects=False).status_code == 303
    for answer in (client.post("/login", data={"key": key}), client.get("/lab", headers=bearer(key))):
        assert answer.status_code == 503
        assert "The operator finds the cause" in answer.text
        assert str(tmp_path) not in answer.text


def _put_back(path: Path, text: bytes) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)


@pytest.mark.usefixtures("quick")
def test_a_file_that_may_not_be_read_lets_nobody_in(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyFile(tmp_path / "data" / "users.json")
    key = keys.add("ada", "admin")
    door = Door(make_settings())

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert [door.status(), door.status(**bearer(key))] == [401, 503]


@pytest.mark.usefixtures("quick")
def test_a_server_that_became_closed_stays_closed(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "data" / "users.json")
    door = Door(make_settings())
    assert door.status() == 200
    keys.add("ada", "run")
    assert door.status() == 401
    keys.path.unlink()
    assert door.status() == 401


@pytest.mark.usefixtures("quick")
def test_a_file_broken_before_the_start_is_said_at_the_start(tmp_path: Path) -> None:
    for number, (fate, happens) in enumerate(FATES.items()):
        keys = KeyFile(tmp_path / str(number) / "users.json")
        keys.add("ada", "run")
        happens(keys.path)
        settings = Settings(data_dir=keys.path.parent)
        if fate in ("deleted", "renamed", "its folder gone"):  # nothing tells this from a folder that never had one
            continue
        with pytest.raises(InputError, match="cannot be read"):
            check_address(settings, "127.0.0.1")
        assert Gate(settings, Database.of(settings), Doors(())).closed


@pytest.mark.usefixtures("quick")
def test_the_shared_token_works_without_the_file(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "users.json")
    keys.add("ada", "run")
    door = Door(make_settings(auth_file=keys.path, token="the-token-of-the-lab"))
    keys.path.unlink()
    assert [door.status(**bearer(f"{word}-token-of-the-lab"[-20:])) for word in ("the", "one")] == [200, 503]


@pytest.mark.usefixtures("quick")
def test_a_proxys_people_keep_their_role_or_wait(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """Who may only look does not get the role of people that no file names, when the file is away."""
    keys = KeyFile(tmp_path / "users.json")
    keys.add("ada", "view")
    door = Door(make_settings(trusted_proxies=("127.0.0.1",), auth_file=keys.path))
    named = {"x-forwarded-user": "ada"}
    assert door.ask(**named) == Identity("ada", "view")
    keys.path.unlink()
    assert door.status(**named) == 503


def test_two_states_of_the_file_are_told_apart_whatever_its_times_say(tmp_path: Path) -> None:
    """A file system's clock is coarse and inode numbers come again."""
    keys = KeyFile(tmp_path / "users.json")
    key = keys.add("ada", "run")
    server = KeyFile(keys.path)
    assert server.check(key) is not None
    before = keys.path.stat()
    text = keys.path.read_text()
    with keys.path.open("r+") as file:  # the same inode
        file.write(text.replace('"run"', '"view"').rstrip("\n"))
        file.truncate()
    os.utime(keys.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert server.known(key) is None
    found = server.check(key)
    assert found is not None
    assert found.role == "view"


def _add(path: Path, name: str) -> str:
    return KeyFile(path).add(name, "run")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_people_who_are_added_at_once_are_all_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "users.json"
    KeyFile(path).add("first", "run")
    gone = [f"gone{i}" for i in range(8)]
    for name in gone:
        KeyFile(path).add(name, "run")
    pool: Executor = (
        ThreadPoolExecutor(8)
        if kind == "threads"
        else ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork"))
    )
    names = [f"p{i}" for i in range(24)]
    with pool:
        added = [pool.submit(_add, path, name) for name in names]
        removed = [pool.submit(_revoke, path, name) for name in gone]
        secrets = [future.result() for future in added]
        assert [future.result() for future in removed] == gone
    keys = KeyFile(path)
    assert {person.name for person in keys.people()} == {"first", *names}
    found = [keys.check(secret) for secret in secrets]
    assert [person and person.name for person in found] == names
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".tmp")] == []


def _revoke(path: Path, name: str) -> str:
    return KeyFile(path).revoke(name).name


def test_one_name_added_by_many_at_once_is_one_person(tmp_path: Path) -> None:
    def attempt(_: int) -> str:
        try:
            return _add(tmp_path / "users.json", "ada")
        except InputError as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(attempt, range(8)))
    assert sorted(word == "name_taken" for word in said) == [False] + [True] * 7
    assert len(KeyFile(tmp_path / "users.json").people()) == 1


def test_an_addition_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyFile(tmp_path / "users.json")
    keys.add("ada", "run")
    before = keys.path.read_bytes()
    keys.path.chmod(0o640)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(InputError, match="No space left"):
            keys.add("ben", "run")
    assert keys.path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"users.json", "users.json.lock"}
    keys.add("ben", "run")
    assert keys.path.stat().st_mode & 0o777 == 0o640  # as the operator has it


def test_a_file_behind_a_link_stays_behind_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    KeyFile(tmp_path / "real" / "users.json").add("ada", "run")
    (tmp_path / "users.json").symlink_to(tmp_path / "real" / "users.json")
    KeyFile(tmp_path / "users.json").add("ben", "run")
    assert (tmp_path / "users.json").is_symlink()
    assert len(KeyFile(tmp_path / "real" / "users.json").people()) == 2
