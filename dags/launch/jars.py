"""The jars beside Spark's own: resolved once through Spark's Ivy, checked against their pins, kept in project state.

Jobs then start offline. Runs in the jobs environment, whose ``spark-submit`` stands first on the PATH.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from conf.settings import ROOT, Settings, load_settings
from conf.spark import class_archive

PINS = ROOT / "conf" / "jars.txt"


class JarsUnavailable(RuntimeError):
    """The pinned jars could not be fetched, or are not what they should be."""


def lend_set_up(settings: Settings, home: Path) -> None:
    """Make a home that works with this one's jars and class archive; again: changes nothing."""
    home.mkdir(parents=True, exist_ok=True)
    for lent in (settings.home / "jars", class_archive(settings)):
        with suppress(FileExistsError):
            (home / lent.name).symlink_to(lent)


@dataclass(frozen=True)
class Pin:
    """One jar: Maven coordinate and SHA-256."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """The jar's file name, as Ivy writes it."""
        return f"{self.group}_{self.artifact}-{self.version}.jar"

    def fits(self, jar: Path) -> bool:
        """Whether the file is there and has the pinned content."""
        return jar.is_file() and hashlib.sha256(jar.read_bytes()).hexdigest() == self.sha256


def read_pins(path: Path = PINS) -> list[Pin]:
    """The pins, the first of which brings the others."""
    lines = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return [Pin(*coordinate.split(":"), sha256) for coordinate, sha256 in lines]


def resolve_jars(pins: list[Pin], folder: Path) -> None:
    """Fill the folder with exactly the pinned jars, all or nothing; a folder that has them is left alone.

    Raises JarsUnavailable, with what Ivy said.
    """
    if {jar.name for jar in folder.glob("*.jar")} == {pin.file for pin in pins} and all(pin.fits(folder / pin.file) for pin in pins):
        return
    print(f"fetching {len(pins)} jars into {folder}", flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="jars-") as scratch:
        ivy, fresh, empty = Path(scratch, "ivy"), Path(scratch, "jars"), Path(scratch, "nothing.py")
        empty.touch()
        first = pins[0]
        answer = subprocess.run(
            [
                "spark-submit", "--master", "local[1]",
                "--packages", f"{first.group}:{first.artifact}:{first.version}",
                "--conf", f"spark.jars.ivy={ivy}",
                "--conf", f"spark.jars.ivySettings={ROOT / 'conf' / 'ivysettings.xml'}",
                str(empty),
            ],
            env=os.environ | {"PYSPARK_PYTHON": sys.executable},
            capture_output=True,
            text=True,
        )
        wrong = [pin.file for pin in pins if not pin.fits(ivy / "jars" / pin.file)]
        if wrong:
            said = "\n".join((answer.stdout + answer.stderr).splitlines()[-20:])
            raise JarsUnavailable(f"missing or not as pinned in conf/jars.txt: {', '.join(wrong)}. Is Maven Central reachable?\n{said}")
        fresh.mkdir()
        for pin in pins:
            shutil.move(ivy / "jars" / pin.file, fresh / pin.file)
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        fresh.rename(folder)


if __name__ == "__main__":
    try:
        resolve_jars(read_pins(), load_settings().home / "jars")
    except JarsUnavailable as error:
        sys.exit(f"make: {error}")
