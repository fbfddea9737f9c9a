"""Pinned jars are taken whole or not at all."""

from __future__ import annotations

import hashlib
import os

import pytest

from conf.settings import load_settings
from dags.launch.jars import JarsUnavailable, Pin, read_pins, resolve_jars

CONTENT = b"a jar"
PINS = [Pin("io.example", name, "1.0", hashlib.sha256(CONTENT).hexdigest()) for name in ("first", "second")]
# Stands for spark-submit: writes what Ivy would have fetched.
SPARK_SUBMIT = """#!/bin/sh
for option in "$@"; do case "$option" in spark.jars.ivy=*) ivy="${option#*=}";; esac; done
mkdir -p "$ivy/jars"
printf 'a jar' > "$ivy/jars/io.example_first-1.0.jar"
printf '%s' "$SECOND" > "$ivy/jars/io.example_second-1.0.jar"
echo "fetched $*"
"""


@pytest.fixture
def spark_submit(tmp_path, monkeypatch):
    path = tmp_path / "bin" / "spark-submit"
    path.parent.mkdir()
    path.write_text(SPARK_SUBMIT)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SECOND", CONTENT.decode())
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_fills_the_folder_with_exactly_the_pinned_jars(tmp_path, spark_submit):
    folder = tmp_path / "var" / "jars"
    folder.mkdir(parents=True)
    # An older pin's jar must go: every jar of the folder is on Spark's path.
    (folder / "io.example_first-0.9.jar").touch()
    resolve_jars(PINS, folder)
    assert names(folder) == ["io.example_first-1.0.jar", "io.example_second-1.0.jar"]
    assert names(folder.parent) == ["jars"]


def test_does_nothing_when_all_is_there(tmp_path, spark_submit):
    folder = tmp_path / "jars"
    resolve_jars(PINS, folder)
    spark_submit.write_text("#!/bin/sh\nexit 1\n")
    resolve_jars(PINS, folder)


def test_a_jar_that_is_not_as_pinned_leaves_the_folder_alone(tmp_path, spark_submit, monkeypatch):
    monkeypatch.setenv("SECOND", "another jar")
    folder = tmp_path / "jars"
    with pytest.raises(JarsUnavailable, match=r"io.example_second-1.0.jar. Is Maven Central reachable") as raised:
        resolve_jars(PINS, folder)
    assert "first" not in str(raised.value).splitlines()[0]
    assert not folder.exists()


def test_no_network(tmp_path, spark_submit):
    spark_submit.write_text("#!/bin/sh\necho 'Server access error' >&2; exit 1\n")
    with pytest.raises(JarsUnavailable, match="Server access error"):
        resolve_jars(PINS, tmp_path / "jars")


def test_project_has_the_jars_that_it_pins():
    folder = load_settings().home / "jars"
    assert all(pin.fits(folder / pin.file) for pin in read_pins())
