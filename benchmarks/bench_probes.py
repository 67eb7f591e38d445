"""How much faster are the dense solvers than scikit-learn's, at the same or a lower objective?

Each case runs all sides, each in a process of its own, on the same standardised rows; asserts that our objective is
not above the others (by more than 1e-6, or what the case says); then prints the ratio of the times or of the peak
memory. `LinearSVC` has two algorithms, and either may be the faster: ``dual=True`` and ``dual=False``, its default
where there are more rows than features. Both run, and the ratio is that to the better one that converged: within
``--limit`` seconds, after which a side is stopped, and within `MAX_ITER` iterations. Where neither did, the ratio is a
lower bound ("at least").

The case "million" has no other side: a file of float16 codes is written to ``--work``, fitted within ``--memory-limit``
bytes, and deleted; on 20,000 rows of it, the fit in blocks is compared with that in memory before.

    python benchmarks/bench_probes.py                      # all cases; up to 11 minutes a side
    python benchmarks/bench_probes.py --case few wide      # some of them
    python benchmarks/bench_probes.py --codes codes.h5     # real codes (`penultimate`) where they have enough rows
    python benchmarks/bench_probes.py --case million --rows 100000
    OPENBLAS_NUM_THREADS=1 BENCH_JOBS=1 python benchmarks/bench_probes.py --what cpu   # on a machine that is shared
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from joblib import Parallel, delayed
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from cnncodes import load_codes
from cnncodes.codes.file import CodesFile
from cnncodes.codes.layout import ImageTable
from cnncodes.codes.writer import CodesWriter
from cnncodes.models.fit import fit
from cnncodes.probes.out_of_core import fit_large_probe
from cnncodes.probes.search import search_tol
from cnncodes.solvers.classifiers import DenseLinearSVC
from cnncodes.solvers.path import fit_path

CS = np.logspace(-6, 5, 45)
FOLDS = 5
MAX_ITER = 100_000  # of liblinear, which often has not converged after its default, 1,000
WRITTEN = 5000  # rows of the large file at a time
STOPPED = "stopped at the limit"
JOBS = int(os.environ.get("BENCH_JOBS", "-1"))  # folds in parallel, on both sides


@dataclass(frozen=True)
class Case:
    question: str
    n: int
    d: int
    K: int
    ours: Callable
    theirs: dict[str, Callable]  # each way to do it with scikit-learn, by its name
    target: float
    slack: float = 1e-6  # by which our objective may exceed theirs, relative
    what: str = "seconds"


def synthetic(n: int, d: int, K: int, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Rows like pooled codes: ReLU units of overlapping clusters, averaged over positions."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, K, n)
    mix = rng.standard_normal((48, d), dtype=np.float32) / np.sqrt(48, dtype=np.float32)
    threshold, gain = rng.uniform(-0.2, 1.2, d).astype(np.float32), rng.lognormal(0, 0.5, d).astype(np.float32)
    latent = rng.standard_normal((K, 48))[y] + spread * rng.standard_normal((n, 48))
    X = np.zeros((n, d), dtype=np.float32)
    for _ in range(4):
        view = (latent + 0.7 * rng.standard_normal((n, 48))).astype(np.float32)
        X += np.maximum(view @ mix + 0.3 * rng.standard_normal((n, d), dtype=np.float32) - threshold, 0) * gain
    return X, y


def load(case: Case, codes: Path | None) -> tuple[np.ndarray, np.ndarray]:
    X = None
    if codes is not None:
        with CodesFile.open(codes) as file:
            rows = file.rows()
            y = np.unique(file.labels[rows], return_inverse=True)[1]
            if len(y) >= case.n and file.n_features("penultimate") == case.d and y.max() + 1 == case.K:
                chosen = np.random.default_rng(0).permutation(len(y))[: case.n]
                X, y = file.codes("penultimate", rows[chosen]), y[chosen]
    if X is None:
        X, y = synthetic(case.n, case.d, case.K)
    for start in range(0, case.d, 64):  # so that this takes no second copy
        part = X[:, start : start + 64]
        part -= part.mean(axis=0)
        part /= np.maximum(part.std(axis=0), 1e-6)
    return X, y


def svm_objective(coef: np.ndarray, intercept: np.ndarray, X: np.ndarray, y: np.ndarray, C: float) -> float:
    return sum(one_vs_rest(coef[k], intercept[k], X, y == k, C) for k in range(len(coef)))


def one_vs_rest(w: np.ndarray, b: float, X: np.ndarray, positive: np.ndarray, C: float = 1.0) -> float:
    slack = np.maximum(0.0, 1.0 - np.where(positive, 1.0, -1.0) * (X @ w + b))
    return float(0.5 * (w @ w + b**2) + C * (slack**2).sum())


def one_svm(kind: Callable, C: float) -> Callable:
    def run(X: np.ndarray, y: np.ndarray) -> Callable:
        model = kind(C=C).fit(X, y)
        return lambda: svm_objective(model.coef_, model.intercept_, X, y, C)

    return run


def both(fit: Callable) -> dict[str, Callable]:
    """Return a side for each of the two algorithms of `LinearSVC`; `fit` makes it from what makes the classifier."""
    return {f"dual={dual}": fit(partial(LinearSVC, dual=dual, max_iter=MAX_ITER)) for dual in (True, False)}


def some_classes(kind: Callable, X: np.ndarray, y: np.ndarray) -> Callable:
    """Five of the one-vs-rest problems, which liblinear solves one after the other; the time is multiplied to all."""
    classes = np.unique(y)
    some = classes[:: len(classes) // 5][:5]
    models = [kind(C=1.0).fit(X, np.where(y == k, 1, 0)) for k in some]

    def objective() -> float:
        return sum(
            one_vs_rest(model.coef_[0], model.intercept_[0], X, y == k) for k, model in zip(some, models, strict=True)
        )

    objective.factor = len(classes) / len(some)
    return objective


def all_classes(X: np.ndarray, y: np.ndarray) -> Callable:
    """All one-vs-rest problems; the objective is that of those which `some_classes` solves."""
    model = DenseLinearSVC(C=1.0).fit(X, y)
    some = np.unique(y)[:: len(model.classes_) // 5][:5]
    return lambda: sum(one_vs_rest(model.coef_[k], model.intercept_[k], X, y == k) for k in some)


def folds(y: np.ndarray) -> list:
    return list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(np.zeros(len(y)), y))


def fold_path(X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, loss: str) -> tuple:
    tol = search_tol("svm" if loss == "squared_hinge" else "logreg", X.size * len(CS))  # as `cnncodes fit` does
    path = fit_path(X[train], y[train], CS, loss=loss, tol=tol)
    return path.objective, (path.decision_function(X[test]).argmax(axis=2) == y[test]).mean(axis=1)


def our_search(loss: str) -> Callable:
    def run(X: np.ndarray, y: np.ndarray) -> Callable:
        jobs = (delayed(fold_path)(X, y, train, test, loss) for train, test in folds(y))
        results = Parallel(n_jobs=JOBS)(jobs)
        print("mean accuracy by C:", np.round(np.mean([r[1] for r in results], axis=0), 4), file=sys.stderr)
        return lambda: geometric_mean([r[0] for r in results]) if loss == "log_loss" else np.nan

    return run


def refitted_search(kind: Callable, X: np.ndarray, y: np.ndarray) -> Callable:
    """One fold and every fourth C; the times are multiplied to those of the whole search."""
    train, _ = folds(y)[0]
    for C in CS[::4]:
        kind(C=C).fit(X[train], y[train])

    def objective() -> float:
        return np.nan

    objective.factor = FOLDS * len(CS) / len(CS[::4])
    return objective


def logistic_search(X: np.ndarray, y: np.ndarray) -> Callable:
    options = {"use_legacy_attributes": True} if "use_legacy_attributes" in LogisticRegressionCV().get_params() else {}
    splits = folds(y)
    model = LogisticRegressionCV(Cs=CS, cv=splits, l1_ratios=(0.0,), n_jobs=JOBS, **options).fit(X, y)

    def objective() -> float:
        paths = np.squeeze(
            np.array([model.coefs_paths_[k] for k in sorted(model.coefs_paths_)])
        )  # (K, folds, C, d + 1)
        values = []
        for (train, _), path in zip(splits, np.moveaxis(paths, 0, 2), strict=True):
            for C, W in zip(CS, path, strict=True):
                scores = X[train] @ W[:, :-1].T + W[:, -1]
                loss = (logsumexp(scores, axis=1) - scores[np.arange(len(train)), y[train]]).sum()
                values.append(0.5 * (W[:, :-1] ** 2).sum() + C * loss)
        return geometric_mean(values)

    return objective


def geometric_mean(objectives: Any) -> float:
    """Of the objectives of all folds and values of C: each counts by its ratio."""
    return float(np.exp(np.mean(np.log(objectives))))


LIBLINEAR = both(lambda kind: one_svm(kind, 1.0))
CASES = {
    "few": Case("one fit, C=1", 200, 1280, 10, one_svm(DenseLinearSVC, 1.0), LIBLINEAR, 1.0),
    "c001": Case(
        "one fit, C=0.01",
        *(10_000, 1280, 10),
        one_svm(DenseLinearSVC, 0.01),
        both(lambda kind: one_svm(kind, 0.01)),
        10.0,
    ),
    "c1": Case("one fit, C=1", 10_000, 1280, 10, one_svm(DenseLinearSVC, 1.0), LIBLINEAR, 40.0),
    "large": Case("one fit, C=1", 60_000, 1280, 10, one_svm(DenseLinearSVC, 1.0), LIBLINEAR, 30.0),
    "hundred": Case(
        "one fit, C=1 (theirs: 5 classes, extrapolated)",
        *(10_000, 1280, 100),
        all_classes,
        both(lambda kind: partial(some_classes, kind)),
        40.0,
    ),
    "search": Case(
        "45 C x 5 folds against one fit, C=1",
        *(10_000, 1280, 10),
        our_search("squared_hinge"),
        LIBLINEAR,
        1.0,
    ),
    "wide": Case("one fit, C=1", 500, 50_176, 10, one_svm(DenseLinearSVC, 1.0), LIBLINEAR, 4.0),
    "wide-search": Case(
        "45 C x 5 folds (theirs: 12 fits, extrapolated)",
        *(500, 50_176, 10),
        our_search("squared_hinge"),
        both(lambda kind: partial(refitted_search, kind)),
        50.0,
    ),
    "logistic": Case(
        "45 C x 5 folds",
        *(10_000, 1280, 10),
        our_search("log_loss"),
        {"LogisticRegressionCV": logistic_search},
        5.0,
    ),
    "memory": Case(
        "peak memory of one fit, C=0.001, rows included",
        *(60_000, 1280, 10),
        one_svm(DenseLinearSVC, 0.001),
        both(lambda kind: one_svm(kind, 0.001)),
        3.0,
        what="peak_mb",
    ),
}


def run_side(name: str, side: str, codes: Path | None) -> dict:
    case = CASES[name]
    X, y = load(case, codes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start, cpu = time.perf_counter(), time.process_time()
        objective = ({"ours": case.ours} | case.theirs)[side](X, y)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    seconds, cpu = (getattr(objective, "factor", 1.0) * value for value in (seconds, cpu))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    notes = sorted({f"{w.category.__name__}: {w.message}" for w in caught})
    return {"seconds": seconds, "cpu": cpu, "peak_mb": peak, "objective": objective(), "notes": notes}


def write_large(path: Path, n: int, source: Path | None) -> None:
    """Write a codes file of n rows: real ones (or synthetic ones) again and again, with noise."""
    X, y = load_codes(source, return_X_y=True) if source else synthetic(20_000, 1280, 10)
    d = X.shape[1]
    y = np.array([str(label) for label in y])
    about = {"layers": {"penultimate": {"n_features": d, "pooling": "avg", "map_shape": [d], "dtype": "float16"}}}
    rng = np.random.default_rng(0)
    rows_of = rng.permutation(np.arange(n) % len(y))
    table = ImageTable([f"{i}.png" for i in range(n)], y[rows_of].tolist())
    CodesWriter.create(path, table, {**about, "preprocessing": {}})
    noise = (0.2 * X.std(axis=0) * rng.standard_normal((WRITTEN, d))).astype(np.float32)
    with CodesWriter(path) as file:
        for start in range(0, n, WRITTEN):
            rows = np.arange(start, min(start + WRITTEN, n))
            block = X[rows_of[rows]] + np.roll(noise, rng.integers(WRITTEN), axis=0)[: len(rows)]
            file.write(rows, {"penultimate": block.astype(np.float16)}, rng.integers(0, 256, (len(rows), 32), np.uint8))


def check_blocks(path: Path) -> None:
    """Compare, on as many rows as memory holds, the objective that is reached in blocks with that in memory."""
    with CodesFile.open(path) as file:
        rows = file.rows()[:20_000]
        y = np.unique(file.labels[rows], return_inverse=True)[1]
        blocks, *_ = fit_large_probe(file, ["penultimate"], rows, 5000, C=0.01, cv=2)
        X = blocks[0].transform(file.codes("penultimate", rows))
    here = DenseLinearSVC(C=0.01).fit(X, y)
    ours, theirs = (svm_objective(m.coef_, m.intercept_, X, y, 0.01) for m in (blocks[-1], here))
    assert ours <= theirs * (1 + 1e-6), (ours, theirs)
    agree = np.mean(blocks[-1].decision_function(X).argmax(axis=1) == here.predict(X))
    print(f"million      on {len(y)} rows: objective {ours:.9g} in blocks, {theirs:.9g} in memory; {agree:.5%} agree")


def million(arguments: argparse.Namespace) -> None:
    size = 2 * 1280 * arguments.rows
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        if shutil.disk_usage(folder).free < 1.5 * size + 2e9:
            sys.exit(f"{arguments.work}: has no room for {1.5 * size / 1e9:.1f} GB; choose another --work")
        path = Path(folder) / "large.h5"
        write_large(path, arguments.rows, arguments.codes)
        check_blocks(path)
        extra = ["--memory-limit", str(arguments.memory_limit), "--C", arguments.C]
        result = in_process("million", "ours", path, arguments.limit, extra)
    if STOPPED in result["notes"]:
        print(f"million      did not finish within {arguments.limit:.0f} s")
        return
    assert result["peak_mb"] * 2**20 <= arguments.memory_limit, result
    print(
        f"million      n={arguments.rows} d=1280 K=10 C={arguments.C}: {result['seconds']:.1f} s, peak "
        f"{result['peak_mb']:.0f} MB of {arguments.memory_limit / 2**20:.0f} MB {result['notes']}",
        flush=True,
    )


def run_million(arguments: argparse.Namespace) -> dict:
    start = time.perf_counter()
    C = arguments.C if arguments.C == "auto" else float(arguments.C)
    model = fit(arguments.codes, C=C, memory_limit=int(arguments.memory_limit))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.perf_counter() - start, "peak_mb": peak, "notes": model.notes}


def in_process(name: str, side: str, codes: Path | None, limit: float, extra: Sequence[str] = ()) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, __file__, "--case", name, "--side", side, "--out", str(out), *extra]
        command += ["--codes", str(codes)] if codes else []
        before = os.times().children_user
        try:
            subprocess.run(command, check=True, timeout=limit)
        except subprocess.TimeoutExpired:
            used = {"seconds": limit, "cpu": os.times().children_user - before, "peak_mb": np.nan}
            return {**used, "objective": np.nan, "notes": [STOPPED]}
        return json.loads(out.read_text())


def converged(side: dict) -> bool:
    return not any(note == STOPPED or note.startswith("ConvergenceWarning") for note in side["notes"])


def best_of(sides: dict[str, dict], what: str) -> str:
    """Return the name of the side that took least, of those that converged if any did."""
    return min(sides, key=lambda name: (not converged(sides[name]), sides[name][what]))


def compare(name: str, codes: Path | None, limit: float, what: str, known: dict[Any, dict]) -> None:
    """Run all sides of a case; what another one took in a case before, on the same rows, is in `known`."""
    case = CASES[name]
    what = case.what if case.what == "peak_mb" else what
    ours = in_process(name, "ours", codes, limit)
    if STOPPED in ours["notes"]:
        print(f"{name:12} ours did not finish within {limit:.0f} s")
        return
    print(f"{name:12} n={case.n} d={case.d} K={case.K} {case.question}; {what}: ours {show(ours, what)}", flush=True)
    theirs = {}
    for side, run in case.theirs.items():
        key = run, case.n, case.d, case.K
        if key not in known:
            known[key] = in_process(name, side, codes, limit)
        theirs[side] = known[key]
        print(f"{'':12} {side} {show(theirs[side], what)}", flush=True)
        if np.isfinite(ours["objective"]) and np.isfinite(theirs[side]["objective"]):
            assert ours["objective"] <= theirs[side]["objective"] * (1 + case.slack), (name, ours, side, theirs[side])
    best = best_of(theirs, what)
    ratio, bound = theirs[best][what] / ours[what], "" if converged(theirs[best]) else "at least "
    print(f"{'':12} ratio to {best}: {bound}{ratio:.1f} (target {case.target:g})", flush=True)


def show(side: dict, what: str) -> str:
    """Return what a side took, where it ended, and what it warned of."""
    return f"{side[what]:.2f} (objective {side['objective']:.8g}) {'; '.join(side['notes'])}".rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=[*CASES, "million"], default=[*CASES, "million"])
    parser.add_argument("--codes", type=Path, help="codes file with labels")
    parser.add_argument(
        "--limit", type=float, default=660.0, help="seconds for each side, loading included; default: %(default)g"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the case million")
    parser.add_argument("--memory-limit", type=float, default=2e9, help="bytes, of the case million")
    parser.add_argument("--C", default="0.01", help="number or auto, of the case million")
    parser.add_argument("--work", type=Path, help="folder for the file of the case million")
    parser.add_argument("--what", choices=("seconds", "cpu"), default="seconds", help="elapsed or processor seconds")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        (name,) = arguments.case
        result = run_million(arguments) if name == "million" else run_side(name, arguments.side, arguments.codes)
        arguments.out.write_text(json.dumps(result))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, scikit-learn {sklearn.__version__}")
    known: dict[Any, dict] = {}
    for name in arguments.case:
        if name == "million":
            million(arguments)
            continue
        compare(name, arguments.codes, arguments.limit, arguments.what, known)


if __name__ == "__main__":
    main()
