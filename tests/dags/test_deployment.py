"""What stands beside the code agrees with it: .env.example, images, compose file, Makefile."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile

import pytest
import yaml
from pydantic import BaseModel

from conf.settings import ROOT, Settings, load_settings
from conf.spark import PACKAGES
from dags.launch.airflow_home import commands
from dags.launch.packages import build_zip

ENV_EXAMPLE = (ROOT / ".env.example").read_text()
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
PASSWORDS = {f"MOSAIC_{role}_PASSWORD" for role in ("OWNER", "PUBLISHER", "READER", "INTAKE", "AIRFLOW")}


def setting_names() -> set[str]:
    """The environment variables of all settings."""
    names = set()
    for name, field in Settings.model_fields.items():
        section = field.annotation
        is_section = isinstance(section, type) and issubclass(section, BaseModel)
        leaves = [f"{name}__{leaf}" for leaf in section.model_fields] if is_section else [name]
        names |= {f"MOSAIC_{leaf.upper()}" for leaf in leaves}
    return names


def test_env_example_names_every_setting_and_no_other():
    named = set(re.findall(r"^#(MOSAIC_\w+)=", ENV_EXAMPLE, re.MULTILINE))
    assert named - PASSWORDS == setting_names()
    assert named >= PASSWORDS


def test_env_example_shows_the_defaults(monkeypatch):
    default = load_settings()
    # Of these another value tells more than the default.
    others = r"(?:KEYS|FETCHING__(?:CONTACT|\w+_COMPANIES|FRED)|NIGHT__FIRST_|SPARK__CONF|TRAINING__LEFT_OUT|FAIRNESS__ATTRIBUTES)"
    for name, value in re.findall(rf"^#(MOSAIC_(?!{others})[A-Z]+__\w+)=(.*)$", ENV_EXAMPLE, re.MULTILINE):
        monkeypatch.setenv(name, value.strip("'"))
    assert load_settings() == default


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())


def test_compose_has_the_servers_of_a_market(compose):
    assert {"postgres", "redis", "mlflow", "api"} <= set(compose["services"])
    started = {service["command"][-1] for name, service in compose["services"].items() if name.startswith("airflow-")}
    assert started == set(commands())


def test_compose_services_fit_together(compose):
    targets = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    built = {service["image"] for service in compose["services"].values() if "build" in service}
    for name, service in compose["services"].items():
        assert "image" in service, name
        assert set(service.get("depends_on", {})) <= set(compose["services"]), name
        if "build" in service:
            assert service["build"]["target"] in targets, name
        else:
            assert service["image"] in built or ":" in service["image"], f"{name}: nobody builds {service['image']}"
        for volume in service.get("volumes", []):
            # A folder of the machine, if named, else a volume.
            assert re.sub(r"\$\{\w+:-(\w+)\}", r"\1", volume).split(":")[0] in compose["volumes"], name


def test_compose_sets_only_what_is_a_setting(compose):
    for name, service in compose["services"].items():
        mosaic = {variable for variable in service.get("environment", {}) if variable.startswith("MOSAIC_")}
        assert mosaic <= setting_names() | PASSWORDS, name


def test_compose_asks_for_every_secret_by_a_name_of_the_example(compose):
    text = (ROOT / "docker" / "compose.yaml").read_text()
    for variable in set(re.findall(r"\$\{(\w+)", text)):
        assert f"#{variable}=" in ENV_EXAMPLE, variable
    # A secret has no default that somebody could forget to change.
    assert not re.findall(r"\$\{\w*(?:PASSWORD|KEY|SECRET):-[^}]", text)


def test_api_has_no_more_than_the_readers_password(compose):
    api = compose["services"]["api"]["environment"]
    assert [name for name in api if "PASSWORD" in name] == ["MOSAIC_READER_PASSWORD"]
    assert "@" not in api["MOSAIC_DATABASE_DSN"]


@pytest.mark.skipif(
    shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0,
    reason="no docker compose here",
)
def test_compose_is_valid_to_docker(tmp_path):
    environment = tmp_path / ".env"
    environment.write_text(re.sub(r"^#(\w+)=$", r"\1=secret", ENV_EXAMPLE, flags=re.MULTILINE))
    command = ["docker", "compose", "--env-file", str(environment), "-f", "docker/compose.yaml", "config", "--quiet"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_images_get_every_package():
    carried = set(re.findall(r"^!(\S+)", (ROOT / "docker" / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    assert set(PACKAGES) | {"dags", "serving", "pyproject.toml", "uv.lock"} <= carried
    assert not [name for name in carried if not (ROOT / name).exists()]


def test_make_help_lists_the_targets():
    answer = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^  make (\w+) ", answer, re.MULTILINE)
    assert targets == ["help", "setup", "run", "up", "job", "test", "psql", "rollback", "lint", "docs", "bench", "evaluate", "backtest", "clean"]


def test_zip_for_executors_holds_the_packages_and_is_the_same_twice(tmp_path):
    build_zip(tmp_path / "first.zip")
    build_zip(tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    names = zipfile.ZipFile(tmp_path / "first.zip").namelist()
    assert {f"{package}/__init__.py" for package in PACKAGES} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "dags/"))]
