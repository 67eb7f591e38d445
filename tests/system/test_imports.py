"""Imports that are quick, and libraries that work as after usual ones."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from cnncodes.system.imports import deferred


@pytest.fixture
def slow_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with a module that is not to be imported, and one that takes from it what scikit-learn takes."""
    (tmp_path / "slowlib").mkdir()
    for name, text in {
        "__init__": "",
        "slow": "def double(x):\n    return 2 * x\n\nCONSTANT = 5\n",
        "user": "import slowlib.slow\nfrom slowlib import slow\nfrom slowlib.slow import double\n",
    }.items():
        (tmp_path / "slowlib" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield "slowlib"
    for module in [name for name in sys.modules if name.startswith("slowlib")]:
        del sys.modules[module]


def test_a_function_imports_its_module_when_it_is_called(slow_library):
    with deferred("slowlib.slow"):
        user = importlib.import_module("slowlib.user")
    assert "slowlib.slow" not in sys.modules
    assert not hasattr(sys.modules["slowlib"], "slow")
    assert user.double(21) == 42
    assert "slowlib.slow" in sys.modules
    assert user.slow.CONSTANT == 5  # the stand-in that a module kept gives what the real one has


def test_the_real_module_is_imported_afterwards(slow_library):
    with deferred("slowlib.slow", "slowlib.missing", "no_such_library"):
        importlib.import_module("slowlib.user")
        with pytest.raises(ImportError):
            importlib.import_module("slowlib.missing")
        with pytest.raises(ImportError):
            importlib.import_module("no_such_library")
    assert importlib.import_module("slowlib.slow").CONSTANT == 5


def test_what_is_there_already_stays(slow_library):
    real = importlib.import_module("slowlib.slow")
    with deferred("slowlib.slow"):
        assert importlib.import_module("slowlib.user").double is real.double
    assert sys.modules["slowlib.slow"] is real


PROGRAM = """
import sys
from cnncodes.system.imports import import_sklearn
from cnncodes.system.process import own_process
if {own}:
    own_process()
import_sklearn()
print(*(name in sys.modules for name in ("sklearn.svm", "scipy.stats", "pandas")))
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import quantile_transform
X = np.random.default_rng(0).normal(size=(60, 3))
search = GridSearchCV(LogisticRegression(), {{"C": [0.1, 1.0]}}).fit(X, X[:, 0] > 0)
print(sorted(search.cv_results_["rank_test_score"].tolist())[0])  # scipy.stats.rankdata
print(round(float(quantile_transform(X, n_quantiles=10, output_distribution="normal").max()), 1))  # norm.ppf
import scipy.stats, pandas
print(round(float(scipy.stats.norm.ppf(0.975)), 3), len(pandas.DataFrame(X)))
print(LogisticRegression().fit(pandas.DataFrame(X, columns=list("abc")), X[:, 0] > 0).feature_names_in_.tolist())
"""


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True])
def test_scikit_learn_works_without_what_it_never_calls(own):
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(own=own)], capture_output=True, text=True, check=True)
    first = "True False False" if own else "False False False"
    assert done.stdout.splitlines() == [first, "1", "5.2", "1.96 60", "['a', 'b', 'c']"]


def test_commands_import_scikit_learn_without_it():
    program = """
import sys
from cnncodes.system.imports import import_sklearn
from cnncodes.system.process import own_process
own_process()
import_sklearn()
import cnncodes.insight.audit, cnncodes.insight.compare, cnncodes.models.fit
print(*(name in sys.modules for name in ("sklearn.svm", "scipy.stats", "pandas")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


@pytest.mark.parametrize("own", [False, True])
def test_no_garbage_is_looked_for_while_a_program_of_ours_imports_torch(own: bool) -> None:
    program = f"""
import gc, sys
from cnncodes.system.imports import import_torch
from cnncodes.system.process import own_process
looks = []
gc.callbacks.append(lambda phase, _: looks.append(phase))
if {own}:
    own_process()
import_torch()
print("torch" in sys.modules, len(looks), gc.get_freeze_count() > 10_000, gc.isenabled())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout == f"{own} 0 {own} True\n"
