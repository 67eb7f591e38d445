"""How long does a person wait for each command, and how long for what scikit-learn does with the same codes?

    python benchmarks/bench_interactive.py                                    # 200, 2,000 and 10,000 images
    python benchmarks/bench_interactive.py --n 200 --repeats 5
    python benchmarks/bench_interactive.py --n 200 --only fit search compare
    python benchmarks/bench_interactive.py --n 10000 --only fit --limit 1200

The images are the first training images of Debian's package dataset-fashion-mnist. Their codes are extracted once, by
default layers, and kept in the work folder. Each command then runs as a process of its own, from the start of the
interpreter to its end: what counts is the processor time, user and system, of that process and its children, and what a
person sees on the clock. `extract` gets as many photographs, cut from those that come with scikit-learn, and `predict`
one. What a notebook repeats with a model that is loaded (``predict_images``, ``transform``) is timed inside a process,
without the first call. Figures are medians of ``--repeats`` runs; after ``--limit`` seconds a run is stopped.

Beside it stands what a user would write with scikit-learn: `GridSearchCV` over the same 45 values of C on the same five
folds, of a `StandardScaler` and a `LinearSVC`, in one process. Both of its algorithms run, the second one for at most
twice as long as the first, and the one that takes less counts. For ``fit --clf logreg`` it is `LogisticRegression`.
Iterations are as many as scikit-learn allows by default; how many fits end before they have converged is told. Only the
search is timed, without imports and reading; ``search`` is the same part of ``fit``, and its accuracy is asserted to be
that of scikit-learn for the C that it chose.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench_extraction import make_photos
from bench_fashion_mnist import SOURCE, SPLITS, Progress, describe_machine, read_split

from cnncodes import CNNCodes, CodesFile, ImageSet, ProbeModel, extract, fit, load_codes
from cnncodes.probes.protocol import TrainingData
from cnncodes.probes.search import C_GRID

LAYER = "penultimate"
SMALL = 200  # images, up to which the targets of small data hold
DEMO_IMAGES = 600
PHOTO_SIZE = 500, 375
START_SECONDS = 30  # of a process, at most
CALLS = 20  # of what is repeated inside a process
PARITY = 0.02  # by which two accuracies may differ: two solvers stop at different places

# Of each number of images; {codes}, {photos}, {photo} and {model} are files that are there, {out} is a new folder.
COMMANDS = {
    "fit": "fit {codes} -o {out}/model.safetensors",
    "fit --clf logreg": "fit {codes} --clf logreg -o {out}/model.safetensors",
    "compare": "compare {codes}",
    "advise": "advise {codes}",
    "audit": "audit {codes}",
    "report": "report {codes} -o {out}/report.html",
    "info": "info {codes}",
    "extract": "extract {photos} -o {out}/codes.h5",
}
COMMANDS_ONCE = {"predict": "predict {photo} --model {model}", "demo": "demo --folder {out}/demo"}
RIVALS = {
    "fit": ("dual=True", "dual=False"),
    "search": ("dual=True", "dual=False"),
    "fit --clf logreg": ("LogisticRegression",),
}
NAMES = (*COMMANDS, "search", *COMMANDS_ONCE, "predict_images", "transform")
TARGETS = {
    ("fit", SMALL): "≤ 1.5 s of processor",
    ("search", SMALL): "≥ 15 × less than scikit-learn",
    ("compare", SMALL): "≤ 4 s of processor",
    ("advise", SMALL): "≤ 5 s of processor",
    ("report", SMALL): "≤ 8 s of processor",
    ("extract", SMALL): "≤ 3.5 s of wall",
    ("predict", SMALL): "≤ 2.5 s of wall",
    ("predict_images", SMALL): "≤ 0.03 s of wall",
    ("transform", SMALL): "≤ 0.03 s of wall",
    ("fit", 10_000): "≤ 40 s of processor",
}


@dataclass(frozen=True)
class Cost:
    """Seconds of processor and of the clock; a run that was stopped would have taken more."""

    processor: float
    wall: float
    stopped: bool = False
    answer: dict[str, Any] = field(default_factory=dict)  # of a step
    lines: list[tuple[float, str]] = field(default_factory=list)  # what a process printed, with the second of each

    def show(self, what: str) -> str:
        value = getattr(self, what)
        return "> " * self.stopped + (f"{value:.3f}" if value < 1 else f"{value:.1f}")


class Row(NamedTuple):
    """One row of the table that is printed."""

    name: str
    n: int
    cost: Cost
    rival: Cost | None = None
    rival_name: str = ""


# ---------------------------------------------------------------------------------------------- inside a process


def timed(work: Callable[[], Any], calls: int = 1) -> tuple[dict[str, Any], Any]:
    """Return the median seconds of some calls, and what the last one returned."""
    processor, wall = [], []
    for _ in range(calls):
        began, used = time.perf_counter(), time.process_time()
        result = work()
        processor.append(time.process_time() - used)
        wall.append(time.perf_counter() - began)
    return {"processor": statistics.median(processor), "wall": statistics.median(wall)}, result


def our_search(codes: str) -> dict[str, Any]:
    with TrainingData.open(codes) as data:
        groups = data.groups()
        data.folds(groups)
        data.codes(LAYER)
        seconds, search = timed(lambda: data.search(LAYER, groups=groups, scale="standard"))
        return {**seconds, "C": search.C, "accuracy": float(np.mean(search.predictions == data.labels))}


def scikit_search(codes: str, kind: str) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    with TrainingData.open(codes) as data:
        folds = data.folds(data.groups())[0]
    X, y = load_codes(codes, layer=LAYER, return_X_y=True)
    classifier = LinearSVC(dual=kind == "dual=True") if "dual" in kind else LogisticRegression()
    pipe = Pipeline([("scale", StandardScaler()), ("classify", classifier)])
    search = GridSearchCV(pipe, {"classify__C": C_GRID}, cv=folds)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seconds, _ = timed(lambda: search.fit(X, y))
    sizes = [len(test) for _, test in folds]
    accuracy = np.average(
        [search.cv_results_[f"split{i}_test_score"] for i in range(len(folds))], axis=0, weights=sizes
    )
    unfinished = sum("converge" in str(warning.message) for warning in caught)
    return {**seconds, "accuracies": accuracy.tolist(), "unfinished": unfinished}


def repeated_predictions(model: str, photo: str) -> dict[str, Any]:
    loaded = ProbeModel.load(model)
    loaded.predict_images(photo)
    return timed(lambda: loaded.predict_images(photo), CALLS)[0]


def repeated_transforms(photo: str) -> dict[str, Any]:
    transformer = CNNCodes(layer=LAYER).fit([photo])
    transformer.transform([photo])
    return timed(lambda: transformer.transform([photo]), CALLS)[0]


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "search": our_search,
    "scikit-learn": scikit_search,
    "predict_images": repeated_predictions,
    "transform": repeated_transforms,
}


# ------------------------------------------------------------------------------------------------- whole processes


def run(words: list[str], limit: float) -> Cost:
    """Run a process to its end, or for so many seconds; what it has printed comes with the time of each line."""
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # which would make imports three times as slow as users have them
    options: dict[str, Any] = {"env": environment, "text": True, "start_new_session": True}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=errors, **options) as process,
    ):
        timer = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            lines = [(time.perf_counter() - began, line) for line in process.stdout]
            code = process.wait()
        except BaseException:  # Ctrl-C reaches this process only
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        stopped = code == -signal.SIGKILL and wall >= limit
        if code and not stopped:
            errors.seek(0)
            sys.exit(f"{shlex.join(words)} failed:\n{errors.read()[-2000:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(used, wall, stopped, lines=lines)


def run_command(words: str, files: dict[str, str], limit: float) -> Cost:
    with tempfile.TemporaryDirectory() as out:
        return run(["-m", "cnncodes", *(word.format(**files, out=out) for word in words.split())], limit)


def run_step(name: str, *arguments: str, limit: float) -> Cost:
    cost = run([__file__, "--step", name, *arguments], limit)
    if cost.stopped:
        return cost
    answer = json.loads(cost.lines[-1][1])
    return Cost(answer.pop("processor"), answer.pop("wall"), answer=answer)


def repeat(work: Callable[[], Cost], options: argparse.Namespace, what: str) -> Cost:
    """Return the medians of some runs, of fewer if they would take longer than the limit all together."""
    costs = []
    while len(costs) < options.repeats and sum(cost.wall for cost in costs + costs[-1:]) < options.limit:
        costs.append(work())
        print(f"{what}: {costs[-1].show('processor')} s of processor, {costs[-1].show('wall')} s", file=sys.stderr)
    processor, wall = (statistics.median(getattr(cost, name) for cost in costs) for name in ("processor", "wall"))
    return replace(costs[-1], processor=processor, wall=wall)


# --------------------------------------------------------------------------------------------------- the comparison


def make_codes(folder: Path, n: int) -> Path:
    """Extract the first training images, unless that was done before."""
    path = folder / f"codes-{n}.h5"
    if path.exists():
        with CodesFile.open(path) as file:
            if file.complete and len(file) == n:
                return path
    pixels, labels = read_split(SOURCE, SPLITS["train"], n)
    images = ImageSet([f"{i:05}" for i in range(n)], list(pixels), labels=labels.tolist())
    extract(images, path, progress=Progress())
    return path


def assert_parity(row: Row) -> None:
    """Compare our accuracy with that of scikit-learn for the C that was chosen."""
    if row.rival is None or row.rival.stopped or row.cost.stopped:
        return
    theirs = row.rival.answer["accuracies"][int(np.argmin(np.abs(np.log(C_GRID / row.cost.answer["C"]))))]
    if abs(theirs - row.cost.answer["accuracy"]) > PARITY:
        raise SystemExit(f"n = {row.n}: accuracy {row.cost.answer['accuracy']:.3f}, with scikit-learn {theirs:.3f}")


def find_rival(name: str, codes: str, known: dict[str, Cost], options: argparse.Namespace) -> tuple[Cost | None, str]:
    """Return the fastest search by scikit-learn, and what it is called; each runs once."""
    kinds = () if options.no_sklearn else RIVALS.get(name, ())
    for kind in kinds:
        if kind not in known:
            enough = [START_SECONDS + 2 * known[other].wall for other in kinds if other in known]
            known[kind] = run_step("scikit-learn", codes, kind, limit=min([options.limit, *enough]))
            print(f"scikit-learn, {kind}: {known[kind].show('processor')} s of processor", file=sys.stderr, flush=True)
    if not kinds:
        return None, ""
    best = min(kinds, key=lambda kind: (known[kind].stopped, known[kind].processor))
    if known[best].stopped:
        return known[best], " or ".join(kinds)
    unfinished = known[best].answer["unfinished"]
    return known[best], best + (f", {unfinished} fits not converged" if unfinished else "")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each command and number of images, as soon as it is measured."""
    for n in options.n:
        codes, known = str(make_codes(options.folder, n)), {}
        files = {"codes": codes, "photos": str(options.folder / f"photos-{n}")}
        works = {name: partial(run_command, words, files) for name, words in COMMANDS.items()}
        works["search"] = partial(run_step, "search", codes)
        for name in (name for name in works if name in options.only):
            if name == "extract":
                make_photos(Path(files["photos"]), n, PHOTO_SIZE)
            cost = repeat(partial(works[name], limit=options.limit), options, f"{name}, n = {n}")
            row = Row(name, n, cost, *find_rival(name, codes, known, options))
            if name == "search":
                assert_parity(row)
            yield row


def measure_once(options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for what does not depend on the number of images."""
    (photo,) = make_photos(options.folder / "photo", 1, PHOTO_SIZE).rglob("*.jpg")
    model = options.folder / "model.safetensors"
    fit(make_codes(options.folder, SMALL), layers=LAYER, C=0.01).save(model, overwrite=True)
    files = {"photo": str(photo), "model": str(model)}
    works = {name: partial(run_command, words, files) for name, words in COMMANDS_ONCE.items()}
    works["predict_images"] = partial(run_step, "predict_images", str(model), str(photo))
    works["transform"] = partial(run_step, "transform", str(photo))
    for name in (name for name in works if name in options.only):
        cost = repeat(partial(works[name], limit=options.limit), options, name)
        yield Row(name, DEMO_IMAGES if name == "demo" else 1, cost)
        if name == "demo" and not cost.stopped:
            yield from demo_steps(cost)


def demo_steps(cost: Cost) -> Iterator[Row]:
    """Yield a row for each step of the demo, which prints a line before it."""
    headings = [(re.match(r"\[\d/\d\] \$ cnncodes (\w+)", line), second) for second, line in cost.lines]
    begun = [(heading[1], second) for heading, second in headings if heading]
    for (step, start), (_, end) in pairwise([*begun, ("", cost.lines[-1][0])]):
        yield Row(f"demo: {step}", DEMO_IMAGES, Cost(math.nan, end - start))


HEADING = """\
| command | n | processor, s | wall, s | target | scikit-learn's search, processor, s | by | ratio |
|---|--:|--:|--:|---|--:|---|--:|"""


def render(row: Row) -> str:
    """Return a line of the table in Markdown."""
    target = TARGETS.get((row.name, max(row.n, SMALL)), "")
    processor = "" if math.isnan(row.cost.processor) else row.cost.show("processor")
    cells = [row.name, f"{row.n:,}", processor, row.cost.show("wall"), target]
    if row.rival is None:
        cells += ["", "", ""]
    else:
        ratio = "" if row.cost.stopped else f"{'> ' * row.rival.stopped}{row.rival.processor / row.cost.processor:.1f}"
        cells += [row.rival.show("processor"), row.rival_name, ratio]
    return f"| {' | '.join(cells)} |"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[200, 2_000, 10_000], help="images; default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="COMMAND", help=", ".join(NAMES))
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; default: %(default)s")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of a run; default: %(default)g")
    parser.add_argument("--no-sklearn", action="store_true", help="measure cnncodes alone")
    parser.add_argument("--folder", type=Path, default=Path("bench-work/interactive"), help="codes and images, kept")
    return parser.parse_args()


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(STEPS[sys.argv[2]](*sys.argv[3:])))
        return
    options = parse()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(describe_machine(), f"command: {shlex.join(['python', *sys.argv])}", sep="\n", flush=True)
    run(["-c", "import cnncodes.models.fit, sklearn.svm, torchvision"], options.limit)  # reads the files from the disk
    print(HEADING, flush=True)
    for row in chain(measure(options), measure_once(options)):
        print(render(row), flush=True)


if __name__ == "__main__":
    main()
