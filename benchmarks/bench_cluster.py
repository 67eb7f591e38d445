"""Does extraction on a Ray cluster lose rows, time or work?

    python benchmarks/bench_cluster.py --faults 20        # nodes, actors, drivers, decoders: killed so often each
    python benchmarks/bench_cluster.py --rates            # two nodes beside each of them alone
    python benchmarks/bench_cluster.py --writer           # rows a second that the driver receives and writes

The nodes are processes of this machine (``tests/ray_nodes.py``); nothing else of Ray is touched.

``--faults`` extracts small images, each of which takes a while to be decoded without taking a processor; one of them
ends the process of its decoder, or, for ``decoders``, as many as are asked for, at random places. Meanwhile nodes (all
their processes at once), actors or drivers are killed at random moments, in as many extractions as it takes. Each file
must equal the local one in every dataset, bit for bit. The recovery is the time from a kill until every row is there
up to the last one that was written before it.

``--rates`` pins each node to a processor of its own; the network runs at its own size of image. Rates are those from
the first rows to the end, so that the start is not in them. Processors of a machine share memory and more, and the
driver has none of its own on a machine of two. So the same is measured with two programs without Ray, and with paced
nodes, whose images take ``--decode-seconds`` without taking a processor: there the ratio is that of the dealing of work
alone.

``--writer`` lets nodes hand out made-up codes of 1,280 float16, so that the driver is the limit.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from subprocess import PIPE

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ray_faults import (
    OPTIONS,
    Ordeal,
    differences,
    has_more_rows,
    is_done,
    kill_while_it_extracts,
    local_file,
    make_harmful,
    make_images,
    plant_faults,
    wait_for,
)
from ray_nodes import RayNodes

KINDS = ["nodes", "actors", "drivers", "decoders"]
PAUSES = (0.5, 4.0)  # seconds between two moments
AT_FULL_SIZE = ("--layer", "penultimate", "--precision", "fp32", "--no-compile")


# ---------------------------------------------------------------------------------------------------------- the faults


def measure_faults(args: argparse.Namespace, work: Path) -> None:
    faults = plant_faults(work / "faults")

    def prepare(name: str, killers: Sequence[int]) -> tuple[Path, Path]:
        """Return images, of which these end their decoders, and the codes file that this machine alone makes."""
        folder = make_images(work / name, args.images)
        make_harmful(folder, killers)
        return folder, local_file(folder, work / f"{name}.h5", faults)

    images, reference = prepare("images", [args.images // 30])
    pace = {"DECODE_SECONDS": str(args.decode_seconds)}
    print(
        f"\n{len(list(images.rglob('*.bmp'))):,} images, {args.decode_seconds:g} s to decode each; file against local"
    )
    print("| killed | moments | files | datasets that differ | recovery, median | recovery, longest | seconds |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with RayNodes(work / "nodes", environment=pace, python_path=(faults,)) as nodes:
        for name in ("one", "two"):
            nodes.add(name)

        def kill_node(generator: random.Random) -> int:
            name = generator.choice(["one", "two"])
            nodes.kill_node(name)
            nodes.add(name)
            return 1

        def kill_actors(generator: random.Random) -> int:
            return nodes.kill_actors(generator.choice(list(nodes.raylets)))

        def extract_and_kill(kill: Callable[[random.Random], int], out: Path, n: int, seed: int) -> Ordeal:
            return kill_while_it_extracts(nodes, images, out, kill, n=n, seed=seed, pauses=PAUSES)

        def kill_decoders(out: Path, n: int, seed: int) -> Ordeal:
            """Extract images of which `n` at random places end their decoders."""
            harmful, alone = prepare(f"decoders-{seed}", random.Random(seed).sample(range(args.images), n))
            ordeal = kill_while_it_extracts(nodes, harmful, out, lambda _: 0, n=0, seed=seed, pauses=PAUSES)
            references[out], ordeal.kills = alone, n
            return ordeal

        references: dict[Path, Path] = {}
        kinds: dict[str, Callable[[Path, int, int], Ordeal]] = {
            "nodes": partial(extract_and_kill, kill_node),
            "actors": partial(extract_and_kill, kill_actors),
            "drivers": partial(kill_drivers, nodes, images),
            "decoders": kill_decoders,
        }
        for what in args.kinds:
            kills, files, wrong, recoveries = 0, 0, list[str](), list[float]()
            began = time.monotonic()
            while kills < args.faults:
                out = work / f"{what}-{files}.h5"
                ordeal = kinds[what](out, args.faults - kills, args.seed + files)
                kills, files = kills + ordeal.kills, files + 1
                recoveries += ordeal.recoveries
                wrong += differences(out, references.get(out, reference))
            times = [f"{measure(recoveries):.1f} s" if recoveries else "–" for measure in (statistics.median, max)]
            figures = [kills, files, len(wrong), *times, f"{time.monotonic() - began:.0f}"]
            print(f"| {what} | {' | '.join(map(str, figures))} |", *wrong, sep="\n", flush=True)


def kill_drivers(nodes: RayNodes, images: Path, out: Path, n: int, seed: int) -> Ordeal:
    """Kill the program that writes, or interrupt it, at random moments of its runs until one ends."""
    generator, ordeal = random.Random(seed), Ordeal()
    while ordeal.kills < n:
        before = int(is_done(out).sum())
        driver = nodes.driver("extract", images, "-o", out, *OPTIONS, cwd=out.parent)
        if generator.random() < 0.8:  # else while it starts
            wait_for(has_more_rows(out, before), driver)
        time.sleep(generator.uniform(0, 2))
        driver.send_signal(signal.SIGKILL if generator.random() < 0.7 else signal.SIGINT)
        driver.communicate()
        if driver.returncode in (0, 3):
            return ordeal
        ordeal.kills += 1
    kill_while_it_extracts(nodes, images, out, lambda _: 0, n=0, seed=0, pauses=(0, 0))
    return ordeal


# ----------------------------------------------------------------------------------------------------------- the rates


def measure_rates(args: argparse.Namespace, work: Path) -> None:
    """Two nodes, beside each of them alone; and two programs without a cluster, for which all holds as well."""
    print("\n| images | one alone | two alone | both | of their sum |\n|---|--:|--:|--:|--:|")
    faults = plant_faults(work / "faults")
    images, outs = make_images(work / "images", args.images), (work / f"{i}.h5" for i in count())
    cores = dict(zip(("one", "two"), sorted(os.sched_getaffinity(0)), strict=False))

    def on_nodes(nodes: RayNodes, pace: float, options: Sequence[str], names: Sequence[str]) -> float:
        for name in names:
            nodes.add(name, core=cores[name], DECODE_SECONDS=str(pace))
        out = next(outs)
        rate, _ = rates_of(nodes.driver("extract", images, *options, "-o", out, cwd=work), out)
        for name in names:
            nodes.kill_node(name)
        return rate

    def without_ray(names: Sequence[str]) -> float:
        """Return the sum of the rates of programs that each extract all images."""
        command = [sys.executable, "-m", "cnncodes", "extract", str(images), *AT_FULL_SIZE, "--workers", "1", "-o"]
        files = [next(outs) for _ in names]
        with ThreadPoolExecutor() as pool:
            programs = [
                subprocess.Popen(
                    ["taskset", "-c", str(cores[name]), *command, str(out)],
                    cwd=Path(__file__).parents[1],
                    stdout=PIPE,
                    stderr=PIPE,
                    text=True,
                )
                for name, out in zip(names, files, strict=True)
            ]
            return sum(rate for rate, _ in pool.map(rates_of, programs, files))

    tabulate("computed without Ray", args.rounds, without_ray)
    for what, pace, options in (("computed", 0.0, AT_FULL_SIZE), ("paced", args.decode_seconds, OPTIONS)):
        with RayNodes(work / "nodes", head_cpus=0, python_path=(faults,)) as nodes:
            tabulate(what, args.rounds, partial(on_nodes, nodes, pace, options))


def tabulate(what: str, rounds: int, rate_of: Callable[[Sequence[str]], float]) -> None:
    rates = [[rate_of(names) for names in (["one"], ["two"], ["one", "two"])] for _ in range(rounds)]
    one, two, both = (f"{statistics.median(values):.1f}" for values in zip(*rates, strict=True))
    shares = [together / (a + b) for a, b, together in rates]
    spread = f"{statistics.median(shares):.2f} ({min(shares):.2f} – {max(shares):.2f})"
    print(f"| {what} | {one} | {two} | {both} | {spread} |", flush=True)


def rates_of(driver: subprocess.Popen[str], out: Path) -> tuple[float, float]:
    """Return rows a second, from the first ones that are written to the last; and the same by the driver's processor.

    The seconds of a processor tell what the driver could do if other programs left it one.
    """
    try:
        wait_for(lambda: is_done(out).any(), driver)
        first, began = is_done(out).sum(), (time.monotonic(), processor_seconds(driver.pid))
        wait_for(lambda: is_done(out).all(), driver)
        ended = time.monotonic(), processor_seconds(driver.pid)
        _, stderr = driver.communicate()
    finally:
        driver.kill()
    if driver.returncode:
        raise SystemExit(stderr)
    n_rows = len(is_done(out)) - first
    return n_rows / (ended[0] - began[0]), n_rows / (ended[1] - began[1])


def processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------------------------------------------------- the writer

MADE_UP = """
import sys
if any(word.endswith("default_worker.py") for word in sys.orig_argv):
    import numpy as np
    from cnncodes.cluster.worker import NodeWorker

    def made_up(self, load, *_):
        from cnncodes.extraction.worker_thread import Batch

        n = len(load.rows)
        codes = np.random.default_rng(int(load.rows[0])).random((n, 1280), np.float32).astype(np.float16)
        return Batch(load.rows, {"penultimate": codes}, np.ones((n, 32), np.uint8), {}, {})

    NodeWorker.run = made_up
"""


def measure_writer(args: argparse.Namespace, work: Path) -> None:
    (work / "made_up").mkdir()
    (work / "made_up" / "sitecustomize.py").write_text(MADE_UP, encoding="utf-8")
    image = make_images(work / "one", 1) / "a" / "00000.bmp"
    for i in range(args.rows):
        path = work / "many" / f"{i // 1000:04d}" / f"{i:07d}.bmp"
        if i % 1000 == 0:
            path.parent.mkdir(parents=True)
            link = path
            link.write_bytes(image.read_bytes())
        else:
            os.link(link, path)
    options = ("--layer", "penultimate", "--image-size", "32", "--precision", "fp32", "--no-compile", "--no-thumbnails")
    command = ("extract", work / "many", *options, "--dtype", "float16", "-o")
    with RayNodes(work / "nodes", head_cpus=0, python_path=(work / "made_up",)) as nodes:
        for name in ("one", "two"):
            nodes.add(name)
        outs = [work / f"{round_}.h5" for round_ in range(args.rounds)]
        rates = [rates_of(nodes.driver(*command, out, cwd=work), out) for out in outs]
    print(f"\n{args.rows:,} rows of 1,280 float16, received and written: rows a second")
    for what, values in zip(("by the clock", "by the driver's processor time"), zip(*rates, strict=True), strict=True):
        print(f"{what}: {statistics.median(values):,.0f} ({min(values):,.0f} – {max(values):,.0f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, metavar="N", help="kill at N random moments each")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what --faults kills; default: all")
    parser.add_argument("--rates", action="store_true", help="two nodes beside each of them alone")
    parser.add_argument("--writer", action="store_true", help="rows a second that are received and written")
    parser.add_argument("--images", type=int, default=3000, help="of --faults and --rates; default: %(default)s")
    parser.add_argument("--rows", type=int, default=200_000, help="of --writer; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--decode-seconds", type=float, default=0.02, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args()
    from bench_fashion_mnist import describe_machine

    print(describe_machine(), f"command: {shlex.join(sys.argv)}", sep="\n")
    parts: dict[str, Callable[[argparse.Namespace, Path], None]] = {
        "faults": measure_faults,
        "rates": measure_rates,
        "writer": measure_writer,
    }
    for name, measure in parts.items():
        if getattr(args, name):
            with tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder:
                measure(args, Path(folder))


if __name__ == "__main__":
    main()
