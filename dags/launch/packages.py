"""The project's packages as a zip, which executors of a cluster import; local executors read the folder itself."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from conf.settings import ROOT, load_settings
from conf.spark import PACKAGES, is_local, packages_zip


def build_zip(path: Path, root: Path = ROOT) -> None:
    """Write the packages' Python files and what they read beside them; the same files give the same bytes."""
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*") if file.suffix in (".py", ".yaml"))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(zipfile.ZipInfo(str(file.relative_to(root))), file.read_bytes())
    fresh.replace(path)


if __name__ == "__main__":
    settings = load_settings()
    if not is_local(settings):
        build_zip(packages_zip(settings))
