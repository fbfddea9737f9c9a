"""What a machine must offer, looked at before anything long starts. Runs with a bare Python: standard library only.

``preflight.py [data] [postgres|airflow|mlflow|api …]``: data where the command takes a source's files in, and the servers
that it starts. Each thing that is missing is one line that says what to do; the exit code is 1 then.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JAVA = "17"
# Measured: both environments 3.4 GB, the download cache 1.5 GB where it can be hard-linked; a simulated market 0.5 GB.
SETUP_GB = 6
RUN_GB = 2
OWNERS = {"postgres": "PostgreSQL", "airflow": "Airflow", "mlflow": "MLflow", "api": "the API"}


def setting(name: str, default: str = "") -> str:
    """A setting out of the environment, else out of conf/mosaic.yaml: a top-level scalar or section__key."""
    value = os.environ.get(f"MOSAIC_{name.upper()}")
    if value:
        return value
    section, _, key = name.rpartition("__")
    lines = (ROOT / "conf" / "mosaic.yaml").read_text(encoding="utf-8")
    if section:
        lines = re.search(rf"^{section}:.*\n((?:[ #].*\n|\n)*)", lines, re.MULTILINE)[1]
    found = re.search(rf"^ *{key}: *([^#\n]*)", lines, re.MULTILINE)
    return found[1].strip() if found else default


def market() -> Path:
    """The home of the chosen source."""
    return ROOT / setting("home") / setting("source")


def java_problem() -> str | None:
    """Why Spark cannot start here, or None."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    where = f"JAVA_HOME={home}" if home else "the PATH"
    install = f"install Java {JAVA} (Debian, Ubuntu: apt-get install openjdk-{JAVA}-jre-headless)"
    if java is None:
        return f"no Java found: {install} or set JAVA_HOME"
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60)
    except OSError as error:
        return f"Java from {where} does not start ({error.strerror}): {install} or correct JAVA_HOME"
    version = re.search(r'version "([^"]+)"', answer.stderr + answer.stdout)
    if answer.returncode or version is None:
        return f"Java from {where} does not start: {install} or correct JAVA_HOME"
    major = re.match(r"(?:1\.)?(\d+)", version[1])
    if major is None or major[1] != JAVA:
        return f"Java {version[1]} from {where}, but Java {JAVA} is needed: {install} and point JAVA_HOME at it"
    return None


def library_problem() -> str | None:
    """Why LightGBM cannot be loaded, or None: its wheel takes OpenMP from the system."""
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return "no libgomp.so.1, which LightGBM needs: install it (Debian, Ubuntu: apt-get install libgomp1)"
    return None


def disk_problem() -> str | None:
    """Why the disk is too small, or None: set-up needs more than a later run."""
    is_set_up = all((ROOT / ".venv" / name / ".synced").exists() for name in ("jobs", "airflow"))
    need = RUN_GB if is_set_up else SETUP_GB
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < need:
        return f"{free:.1f} GB free in {ROOT}, {need} GB needed: free some space or clone to another disk"
    home = ROOT / setting("home")
    while not home.exists():
        home = home.parent
    free = shutil.disk_usage(home).free / 1e9
    if free < RUN_GB:
        return f"{free:.1f} GB free in {home}, {RUN_GB} GB needed: free some space or name another disk with MOSAIC_HOME="
    return None


def source_problem() -> str | None:
    """Why there is no such market, or None."""
    sources = ROOT / "conf" / "sources"
    if (sources / f"{setting('source')}.yaml").is_file():
        return None
    known = ", ".join(sorted(path.stem for path in sources.glob("*.yaml")))
    return f"no source {setting('source')}: known are {known}; a new one is a file conf/sources/{setting('source')}.yaml"


def data_problem() -> str | None:
    """Why there are no files to take in, or None; the simulated market writes its own."""
    landing = market() / "landing"
    if setting("source") == "simulated" or os.environ.get("MOSAIC_DATA") or landing.is_dir():
        return None
    return f"no files of {setting('source')}: name the folder that holds them with DATA=, or put them into {landing}"


def folder_problem(variable: str) -> str | None:
    """Why the folder named by DATA= or MACRO= cannot be read, or None."""
    name = os.environ.get(f"MOSAIC_{variable}")
    if not name:
        return None
    folder = Path(name)
    if not folder.is_dir():
        return f"{variable}={name} is not a folder: name the folder that holds the files"
    try:
        is_empty = not any(folder.iterdir())
    except OSError as error:
        return f"{variable}={name} cannot be read ({error.strerror}): give this user read access"
    return f"{variable}={name} is empty: name the folder that holds the files" if is_empty else None


def is_own_server(name: str) -> bool:
    """Whether what listens may be this market's own: PostgreSQL's process file names the port and a living process;
    the others live as long as their owner holds the market's lock."""
    if name == "postgres":
        lines = [file.read_text().splitlines() for file in market().glob("postgres/postmaster.pid")]
        port = setting("ports__postgres")
        return any(len(line) > 3 and line[3].strip() == port and Path("/proc", line[0].strip()).exists() for line in lines)
    try:
        with (market() / "servers.lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def port_problem(name: str) -> str | None:
    """Why a server cannot start on its port, or None."""
    if name == "postgres" and os.environ.get("MOSAIC_DATABASE_DSN"):
        return None
    if name == "mlflow" and os.environ.get("MOSAIC_MLFLOW_TRACKING_URI", "").startswith("http"):
        return None
    port = int(setting(f"ports__{name}"))
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            if is_own_server(name):
                return None
            return (
                f"port {port} for {OWNERS[name]} is taken: stop what listens there (`ss -ltnp`)"
                f" or choose another with MOSAIC_PORTS__{name.upper()}={port + 1}"
            )
    return None


def problems(needs: list[str]) -> list[str]:
    """Everything that stands in the way, in the order of set-up."""
    found = [
        java_problem(), library_problem(), disk_problem(), source_problem(), folder_problem("DATA"), folder_problem("MACRO"),
        *(data_problem() if need == "data" else port_problem(need) for need in needs),
    ]
    return [problem for problem in found if problem]


def main(needs: list[str]) -> int:
    """Exit code: 0 where nothing stands in the way."""
    found = problems(needs)
    for problem in found:
        print(f"make: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
