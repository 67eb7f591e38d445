"""The wheel holds what it needs and nothing else, and works from an empty folder."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from cnncodes.system.shipped import EMBEDDED_WEIGHTS, SAMPLE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("layer1", "layer2", "layer3", "penultimate")  # layer4 has the same codes as penultimate
DEMO_COMMANDS = ("extract", "fit", "evaluate", "predict", "compare")


def run(*command: str | os.PathLike[str], cwd: Path) -> str:
    """Run a command without the checkout on its path, and return its standard output."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # With the build backend at hand nothing is fetched.
    offline = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *offline, "-w", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A new environment with the wheel, where everything but cnncodes comes from the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    site, scripts = (Path(sysconfig.get_path(name, "venv", {"base": str(folder)})) for name in ("purelib", "scripts"))
    # Looked up after the wheel; .pth files in there (an editable cnncodes) are not followed.
    here = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "outer.pth").write_text("\n".join(here))
    python = scripts / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
    return scripts


def test_wheel_holds_weights_sample_and_licences(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read(f"cnncodes/data/{EMBEDDED_WEIGHTS}") == (ROOT / "data" / EMBEDDED_WEIGHTS).read_bytes()
        assert archive.read("cnncodes/data/README.md") == (ROOT / "data" / "README.md").read_bytes()
    sample = {path.relative_to(ROOT).as_posix() for path in (ROOT / "data" / SAMPLE).rglob("*.png")}
    assert len(sample) == 600
    assert {name for name in names if name.endswith(".png")} == {f"cnncodes/{path}" for path in sample}
    assert [name for name in names if re.search(r"\.dist-info/.*LICENSE$", name)]


def test_wheel_holds_every_module_and_nothing_of_the_checkout(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    package = [path for path in (ROOT / "cnncodes").rglob("*") if path.suffix in {".py", ".j2", ".css", ".js"}]
    package.append(ROOT / "cnncodes" / "py.typed")  # else type checkers take the package for untyped
    assert {path.relative_to(ROOT).as_posix() for path in package} <= set(names)
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"cnncodes"}
    assert not [name for name in names if re.search(r"(^|/)(tests?_?\w*\.py|conftest\.py|__pycache__)", name)]
    assert not [name for name in names if name.endswith((".h5", ".safetensors", ".pyc"))]


def test_installed_package_is_the_wheel(environment, tmp_path):
    code = (
        "import cnncodes, cnncodes.system.shipped as s; print(cnncodes.__file__, s.shipped_path(s.SAMPLE), sep='\\n')"
    )
    package, sample = run(environment / "python", "-c", code, cwd=tmp_path).split()
    assert Path(package).is_relative_to(environment.parent)
    assert Path(sample) == Path(package).parent / "data" / SAMPLE


def test_version_is_that_of_the_metadata(environment, wheel, tmp_path):
    printed = run(environment / "cnncodes", "--version", cwd=tmp_path)
    assert printed.split()[-1] == wheel.name.split("-")[1]


def assert_demo(printed: str) -> None:
    """The demo names the commands that it stands for, and ends with a table of the accuracy of each layer."""
    for command in DEMO_COMMANDS:
        assert re.search(rf"\$ cnncodes {command}\b", printed), f"the demo does not show `cnncodes {command}`"
    table = printed[printed.rindex("$ cnncodes compare") :]
    for layer in LAYERS:
        row = re.search(rf"^.*\b{layer}\b.*$", table, re.M)
        assert row, f"the demo ends without the accuracy of {layer}"
        percent = [float(figure) for figure in re.findall(r"\d+\.\d", row[0])]
        assert any(50 < figure < 100 for figure in percent), row[0]  # chance is 10 %


def test_demo_works_from_the_wheel_in_an_empty_folder(environment, tmp_path):
    assert_demo(run(environment / "cnncodes", "demo", cwd=tmp_path))


def test_demo_works_from_the_checkout(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from cnncodes.cli.main import main; main(prog_name='cnncodes')"
    )
    assert_demo(run(sys.executable, "-c", code, "demo", cwd=tmp_path))
