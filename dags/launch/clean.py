"""``make clean``: stops what runs and removes the state of every market, or of one."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from conf.settings import Settings, load_settings
from conf.spark import JOBS_PYTHON, class_archive
from dags.launch.market import owner

STOP_SECONDS = 60
# Those of make evaluate, make backtest and make bench too: one that was killed may have left its database running.
MARKETS = ("*", "evaluation/*", "backtest/*", "bench/*/*")


def stop_servers(settings: Settings) -> bool:
    """Stop the market's servers, whoever started them; False where they would not stop."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        with owner(settings) as is_owner:
            if is_owner:
                break
        if time.monotonic() > deadline:
            return False
        with suppress(OSError, ValueError):
            os.kill(int((settings.market / "servers.lock").read_text()), signal.SIGTERM)
        time.sleep(1)
    environment = dict(os.environ) | {"MOSAIC_SOURCE": settings.source, "MOSAIC_HOME": str(settings.home)}
    # What is to stop is the embedded server, whatever is used today.
    environment.pop("MOSAIC_DATABASE_DSN", None)
    return subprocess.run([JOBS_PYTHON, "-m", "spark_jobs.database_server", "stop"], env=environment).returncode == 0


def remove(market: Settings) -> None:
    """Remove a market's home; the passwords stay where its roles do, on a server of one's own."""
    if not market.database_dsn:
        shutil.rmtree(market.market)
        return
    for path in market.market.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != market.secrets_file:
            path.unlink()


def main() -> int:
    """Exit code: 1 where something that runs could not be stopped; its state is left alone then."""
    parser = argparse.ArgumentParser(prog="make clean", description=__doc__)
    parser.add_argument("--source", help="the market to remove; all of them, the jars and the class archive, if not given")
    chosen = parser.parse_args().source
    settings = load_settings()
    # A market is known by what its servers leave: its mapping may be gone.
    left = (path for name in ("servers.lock", settings.secrets_file.name) for place in MARKETS for path in settings.home.glob(f"{place}/{name}"))
    for folder in [settings.home / chosen] if chosen else sorted({path.parent for path in left}):
        name = folder.name
        market = settings.model_copy(update={"source": name, "home": folder.parent})
        if not market.market.is_dir():
            continue
        if not stop_servers(market):
            print(f"make clean: servers of the market {name} do not stop; nothing of it was removed", file=sys.stderr)
            return 1
        remove(market)
        print(f"removed {market.market}")
        remote = {"MOSAIC_DATABASE_DSN": market.database_dsn, "MOSAIC_LAKE": market.lake, "MOSAIC_MLFLOW_TRACKING_URI": market.mlflow_tracking_uri}
        for name in (name for name, value in remote.items() if value):
            print(f"left as it is: what {name} names")
    if not chosen:
        # Only what is ours: the home may be a folder that holds other things.
        for path in (*(settings.home / name for name in ("jars", "dist", "bench", "evaluation", "backtest", "reports")), *settings.home.glob("postgresql-*")):
            shutil.rmtree(path, ignore_errors=True)
        class_archive(settings).unlink(missing_ok=True)
        _remove_empty(settings.home)
    return 0


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
