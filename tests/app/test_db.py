"""The database, SQLite and PostgreSQL: migrations, what is kept, versions, backup, faults of its surroundings."""

import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from analysis.types import InputError
from app.core.errors import UnavailableError
from app.core.settings import Settings
from app.core.store import Base, Database, logins, notes, results, transfer
from app.core.store.database import SchemaVersionError
from app.core.store.results import NewResult
from app.core.store.tables import Note

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a PostgreSQL server of our own, on a socket in a temporary folder; skipped where there is none."""
    pytest.importorskip("psycopg")
    if not POSTGRES:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    import os
    import pwd
    import tempfile

    root = os.geteuid() == 0
    if root and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
    folder = Path(tempfile.mkdtemp(prefix="nullscope-pg-"))  # short: a socket's path has a limit; readable for postgres
    user: dict[str, object] = {}
    if root:
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    ctl, data = POSTGRES[-1], folder / "data"

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=120, **user)  # type: ignore[call-overload]

    run(str(ctl.parent / "initdb"), "-D", str(data), "-U", "nullscope", "--auth=trust", "-E", "UTF8", "--no-sync")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    run(str(ctl), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+psycopg://nullscope@/postgres?host={folder}"
    finally:
        run(str(ctl), "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty, migrated database of each kind."""
    if request.param == "sqlite":
        opened = Database(f"sqlite:///{tmp_path}/x.sqlite")
    else:
        opened = Database(request.getfixturevalue("postgres"))
        with opened.engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    opened.open()
    yield opened
    opened.close()


def result(number: int = 1) -> NewResult:
    request = {"kind": "trace", "model": "m", "weights_sha256": "w" * 64, "token_ids": [number], "options": {}}
    return NewResult(f"{number:064x}", request, {"torch": "2"}, '{"clean": "\\u0000é"}', "a\0b\nc " + "x" * 200)


def test_the_migrations_make_the_tables_that_the_code_has(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"target_metadata": Base.metadata})
        assert compare_metadata(context, Base.metadata) == []
    assert database.version() == database.head()


def test_results_are_kept_once_and_listed_for_each_who_asked(database: Database) -> None:
    with database.session() as session:
        for person in ("ada", "ben", "ada"):
            results.keep(session, result(), person)
        results.keep(session, result(2), "ada")
    with database.session() as session:
        found = results.get(session, result().hash)
        assert found is not None
        assert (found.author, found.preview[:6], len(found.preview)) == ("ada", "a␀b c ", 80)
        assert results.answer_of(found) == {"clean": "\0é"}
        assert results.recent(session, person="ben", offset=0, limit=9)[0] == 1
        assert results.recent(session, person=None, offset=0, limit=9)[0] == 2
        assert results.get(session, "0" * 12) is None  # two begin so
        assert results.get(session, "%" * 8) is None
    with database.session() as session:
        assert results.forget(session, result().hash, "ada", everybody=False)
        assert results.get(session, result().hash) is not None
        assert results.forget(session, result().hash, "ben", everybody=False)
        assert results.get(session, result().hash) is None
        assert not results.forget(session, result().hash, "ben", everybody=False)
        assert results.forget(session, result(2).hash, "root", everybody=True)


def test_the_same_result_from_ten_threads_is_one(database: Database) -> None:
    barrier, failures = threading.Barrier(10), []

    def keep(person: str) -> None:
        barrier.wait()
        try:
            with database.session() as session:
                results.keep(session, result(), person)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=keep, args=(f"p{i}",)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.session() as session:
        assert results.recent(session, person=None, offset=0, limit=9)[0] == 1
        assert all(results.recent(session, person=f"p{i}", offset=0, limit=9)[0] == 1 for i in range(10))


def test_an_edit_after_the_clock_was_set_back_comes_after_what_it_edits(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.session() as session:
        note = notes.create(session, Note, {"target": "neuron:m/1.1", "text": "one"}, "ada")
        monkeypatch.setattr(time, "time", lambda: note.created - 3600)
        notes.change(session, note, {"text": "two"}, "ada")
        assert note.updated >= note.created
        assert [row.body["text"] for row in notes.history(session, note)] == ["two", "one"]


def test_a_session_is_kept_as_a_digest_and_expires(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_800_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    with database.session() as session:
        secret = logins.begin(session, "ada", "k1", 60)
        assert logins.find(session, secret) is not None
        stored = session.execute(text("SELECT digest FROM logins")).scalar_one()
        assert secret not in stored
        now[0] += 59.0
        assert logins.find(session, secret) is not None
        now[0] += 1.0
        assert logins.find(session, secret) is None


def test_an_export_is_taken_in_by_the_other_kind(database: Database, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path}/other.sqlite")
    other.open()
    with database.session() as session:
        results.keep(session, result(), "ada")
        notes.create(session, Note, {"target": "neuron:m/1.1", "text": "é"}, "ada")
        exported = transfer.export(session)
    with other.session() as session:
        transfer.take_in(session, exported)
    with other.session() as session:
        assert transfer.export(session) == exported


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    class Broken(Exception):
        pass

    def half_way() -> None:
        with database.session() as session:
            results.keep(session, result(), "ada")
            raise Broken

    with pytest.raises(Broken):
        half_way()
    with database.session() as session:
        assert results.get(session, result().hash) is None


def test_a_database_of_a_newer_program_is_refused(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaVersionError, match="9999"):
        database.open()


def test_backup_while_open_and_restore(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.sqlite")
    database.open()
    with database.session() as session:
        results.keep(session, result(), "ada")
    with database.session() as session:  # a writer is at work
        results.keep(session, result(2), "ada")
        session.flush()
        transfer.backup(database, tmp_path / "b.sqlite")
    with database.session() as session:
        results.forget(session, result().hash, "ada", everybody=True)
    database.close()
    transfer.restore(database, tmp_path / "b.sqlite")
    with database.session() as session:
        assert results.recent(session, person=None, offset=0, limit=9)[0] == 1
        assert results.get(session, result().hash) is not None
    (tmp_path / "bad").write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="not a backup"):
        transfer.restore(database, tmp_path / "bad")


def test_a_locked_database_is_503_and_nothing_is_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.core.store.database.BUSY_SECONDS", 0.05)
    database = Database(f"sqlite:///{tmp_path}/x.sqlite")
    database.open()
    with sqlite3.connect(tmp_path / "x.sqlite") as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError) as refused, database.session() as session:
            results.keep(session, result(), "ada")
        assert refused.value.code == "database_unavailable"
        other.rollback()
    with database.session() as session:
        results.keep(session, result(), "ada")


def _garbage(file: Path) -> None:
    file.write_bytes(b"nonsense" * 1000)


def _half(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def _holes(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def _no_version(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE alembic_version")
    connection.close()


def _two_versions(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO alembic_version VALUES ('x')")
    connection.close()


@pytest.mark.parametrize("damage", [_garbage, _half, _holes, _no_version, _two_versions])
def test_a_damaged_file_is_one_sentence_with_a_remedy(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    file = tmp_path / "x.sqlite"
    database = Database(f"sqlite:///{file}")
    database.open()
    with database.session() as session:
        for number in range(20):
            results.keep(session, result(number), "ada")
    database.close()
    damage(file)
    with pytest.raises(InputError) as refused:
        Database(f"sqlite:///{file}").open()
    assert (refused.value.code, str(file) in refused.value.message) == ("database_damaged", True)
    assert "\n" not in refused.value.message
    assert "nullscope restore" in (refused.value.hint or "")


def test_damage_found_while_it_runs_is_503_and_no_backup_is_made_of_it(tmp_path: Path) -> None:
    file = tmp_path / "x.sqlite"
    database = Database(f"sqlite:///{file}")
    database.open()
    with database.session() as session:
        for number in range(200):
            results.keep(session, result(number), "ada")
    database.close()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + b"\xff" * (len(content) - len(content) // 2))
    database.open()  # what it looks at is whole
    with pytest.raises(UnavailableError) as refused, database.reading() as session:
        results.recent(session, person=None, offset=0, limit=500)
    assert refused.value.code == "database_damaged"
    database.close()
    with pytest.raises(InputError, match="cannot be backed up"):
        transfer.backup(database, tmp_path / "b.sqlite")
    assert [path.name for path in tmp_path.glob("b.*")] == []


def test_a_url_that_cannot_be_used_is_said_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        Database("nonsense://user:secret@host/db")
    assert "secret" not in refused.value.message
    shown = Database.of(Settings(data_dir=tmp_path, database_url="postgresql+psycopg://u:secret@h/d")).address  # type: ignore[arg-type]
    assert "secret" not in shown


def test_killed_while_writing_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A process that prints each hash after its commit, killed with -9: everything it printed is there."""
    import sys

    script = f"""
import sys
from app.core.store import Database, results
from app.core.store.results import NewResult
database = Database("sqlite:///{tmp_path}/x.sqlite"); database.open()
for i in range(100000):
    request = {{"kind": "trace", "model": "m", "weights_sha256": "w", "token_ids": [i], "options": {{}}}}
    with database.session() as session:
        results.keep(session, NewResult(f"{{i:064x}}", request, {{}}, "{{}}", "p"), "ada")
    print(i, flush=True)
"""
    seen = 0
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            seen = int(line)
            if seen == 30:
                process.kill()
    database = Database(f"sqlite:///{tmp_path}/x.sqlite")
    database.open()
    with database.session() as session:
        for i in range(seen + 1):
            assert results.get(session, f"{i:064x}") is not None
        assert session.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
