"""The wheel as users get it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "tree"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--quiet",
        "--wheel-dir",
        str(out),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_has_one_top_level_name(wheel: Path) -> None:
    names = {n.split("/")[0] for n in zipfile.ZipFile(wheel).namelist()}
    assert {n for n in names if not n.endswith(".dist-info")} == {"tcja_deploy"}


def test_the_wheel_holds_every_package_and_data_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package in settings["packages"]:
        assert f"{package.replace('.', '/')}/__init__.py" in names, package
    profiles = {p.name for p in (ROOT / "hardware_profiles").glob("*.toml")}
    assert profiles == {n.rpartition("/")[2] for n in names if n.endswith(".toml")}
    assert {"tcja_deploy/py.typed", "tcja_deploy/data/digits_checkpoint_max.pth"} <= names


@pytest.mark.slow
def test_the_installed_wheel_runs_the_demo_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, capture_output=True)
    python = environment / "bin" / "python"
    before = {p.name for p in _site(environment).iterdir()}
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    new = {p.name for p in _site(environment).iterdir()} - before
    assert {n for n in new if not n.endswith(".dist-info")} == {"tcja_deploy"}
    # The dependencies come from this environment, so that the test needs no network; CI installs them afresh.
    (_site(environment) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    result = subprocess.run(
        [str(environment / "bin" / "tcja-deploy"), "demo"],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    where = [str(python), "-c", "import tcja_deploy; print(tcja_deploy.__file__)"]
    origin = subprocess.run(where, cwd=folder, env=clean, capture_output=True, text=True, check=True).stdout
    assert str(environment) in origin
    assert list((folder / "tcja-deploy-demo").glob("*.onnx"))


def _site(environment: Path) -> Path:
    (site,) = environment.glob("lib/python*/site-packages")
    return site


@pytest.mark.parametrize("name", ["energy", "exporters"])
def test_a_bare_import_from_the_checkout_names_the_right_package(name: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert f"tcja_deploy.{name}" in result.stderr


def test_the_checkout_runs_from_its_own_root_without_an_install() -> None:
    code = "import tcja_deploy.exporters.onnx, tcja_deploy.hardware_profiles; print(tcja_deploy.__file__)"
    command = [
        sys.executable,
        "-S",
        "-c",
        f"import sys; sys.path.append({sysconfig.get_path('purelib')!r}); {code}",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(ROOT))
