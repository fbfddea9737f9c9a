"""``python -m serving``: the API on loopback, on the port of the settings."""

from __future__ import annotations

import argparse
import sys

import uvicorn

from conf.database import NoPassword
from conf.settings import load_settings
from serving.app import create_app


def main() -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (0.0.0.0 behind a proxy)")
    host = parser.parse_args().host
    settings = load_settings()
    try:
        app = create_app(settings)
    except NoPassword as problem:
        print(problem, file=sys.stderr)
        return 1
    uvicorn.run(app, host=host, port=settings.ports.api, access_log=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
