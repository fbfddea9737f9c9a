"""The embedded server: passwords, rights, recovery, and one clear line where it cannot run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from pydantic import SecretStr

from conf.database import ROLES, admin_dsn, airflow_dsn, role_dsn, role_name
from conf.settings import ROOT, Settings
from spark_jobs import database_server
from spark_jobs.database import DatabaseUnreachable, connect
from spark_jobs.database_server import ServerProblem, ensure_database, server_state, start_server, stop_server


def with_port(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"ports": settings.ports.model_copy(update={"postgres": port})})


@pytest.mark.parametrize("role", ROLES)
def test_every_role_logs_in_with_its_own_password(database, role):
    with closing(connect(database, role)) as session, session.cursor() as cursor:
        cursor.execute("SELECT current_user, current_setting('listen_addresses')")
        assert cursor.fetchone() == (role_name(role), "127.0.0.1")
    assert database.secrets_file.stat().st_mode & 0o777 == 0o600


def test_no_entry_without_the_right_password(database):
    dsn = role_dsn(database, "reader")
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        psycopg2.connect(dsn.replace("mosaic_reader:", "mosaic_reader:x"))


def test_airflow_has_a_database_of_its_own_and_cannot_enter_the_market(database):
    with closing(psycopg2.connect(airflow_dsn(database))) as session, session.cursor() as cursor:
        cursor.execute("CREATE TABLE dag_run (id int)")
    with pytest.raises(psycopg2.OperationalError, match="permission denied"):
        psycopg2.connect(airflow_dsn(database).replace("/airflow", "/mosaic").replace("//mosaic:", "//airflow:"))


def test_ensuring_again_and_at_once_changes_nothing(database):
    before = server_state(database)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: ensure_database(database), range(3)))
    assert server_state(database) == before


def test_recovers_from_a_killed_server_and_its_pid_file(database):
    os.kill(server_state(database).pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while server_state(database).pid and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server_state(database).pid is None
    with pytest.raises(DatabaseUnreachable, match="make job SOURCE=simulated"):
        connect(database, "reader")
    # The dead server's pid now belongs to a living program, which must not be taken for a server.
    pid_file = database.market / "postgres" / "postmaster.pid"
    pid_file.write_text("\n".join([str(os.getpid()), *pid_file.read_text().splitlines()[1:]]))
    ensure_database(database)
    with closing(connect(database, "reader")):
        pass


def test_stops_and_starts_again(database):
    stop_server(database)
    assert server_state(database).pid is None
    stop_server(database)
    start_server(database)
    with closing(connect(database, "publisher")):
        pass


def test_a_taken_port_is_one_clear_line(settings):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServerProblem, match=f"port {port} is taken by another program: .*MOSAIC_PORTS__POSTGRES"):
            database_server._check_port(with_port(settings, port))


def test_the_port_of_another_market_is_named(database):
    other = database.model_copy(update={"source": "lendingclub"})
    with pytest.raises(ServerProblem, match="taken by the database server of market simulated"):
        database_server._check_port(other)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another user")
def test_a_home_that_the_servers_user_cannot_enter_is_one_clear_line(settings):
    settings.home.chmod(0o700)
    with pytest.raises(ServerProblem, match=r"cannot enter .*set MOSAIC_HOME"):
        ensure_database(settings)
    assert settings.home.stat().st_mode & 0o777 == 0o700


def test_the_command_line_says_what_is_wrong_in_one_line(database):
    environment = os.environ | {
        "MOSAIC_HOME": str(database.home), "MOSAIC_SOURCE": "lendingclub",
        "MOSAIC_PORTS__POSTGRES": str(database.ports.postgres),
    }
    asked = subprocess.run(
        [sys.executable, "-m", "spark_jobs.database_server", "ensure"], cwd=ROOT, env=environment,
        capture_output=True, text=True, check=False,
    )
    assert asked.returncode == 1
    assert len(asked.stderr.splitlines()) == 1 and "market simulated" in asked.stderr


def test_a_real_server_gets_the_same_roles_and_tables(empty_market):
    with closing(connect(empty_market, "reader")) as session, session.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM publication.latest_borrower_score")
        assert cursor.fetchone() == (0,)


def test_a_real_servers_roles_keep_their_passwords(empty_market, monkeypatch):
    monkeypatch.setenv("MOSAIC_READER_PASSWORD", "not the one that the server knows")
    with pytest.raises(ServerProblem, match="set MOSAIC_READER_PASSWORD"):
        ensure_database(empty_market)


def test_a_database_serves_one_market(empty_market):
    other = empty_market.model_copy(update={"source": "lendingclub"})
    other.market.mkdir(parents=True)
    other.secrets_file.write_text(empty_market.secrets_file.read_text())
    with pytest.raises(ServerProblem, match="belongs to market simulated, not lendingclub"):
        ensure_database(other)


def test_a_wrong_dsn_is_one_clear_line(settings, database):
    dsn = admin_dsn(database).replace("/mosaic", "/nowhere")
    lost = settings.model_copy(update={"database_dsn": SecretStr(dsn.replace("//nowhere_admin", "//mosaic_admin"))})
    with pytest.raises(ServerProblem, match=r'database "nowhere" does not exist.*MOSAIC_DATABASE_DSN'):
        ensure_database(lost)
