"""The command line: each command parses, calls one library function, and renders what it returns."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import cnncodes
from cnncodes.errors import CnnCodesError, nearest
from cnncodes.rendering import (
    comparison_row,
    one_line,
    open_output,
    plain,
    print_json,
    print_notes,
    print_scores,
    print_table,
    progress_bar,
    quoted,
    short,
    stderr,
    waiting,
)

CODES, MODEL = "codes.h5", "model.safetensors"
EXIT_ERROR, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 1, 3, 130
FAILURES_SHOWN = 10


class Group(click.Group):
    """Commands in the order of the work; a `CnnCodesError` is one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError):  # not every stand-in for a stream can
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result
        except BrokenPipeError:
            raise
        except OSError as error:
            stderr.print(f"error: {error.filename or 'standard output'}: {error.strerror or error}", markup=False)
            ctx.exit(EXIT_ERROR)
        except CnnCodesError as error:
            stderr.print(f"error: {error}", style="red", markup=False)
            ctx.exit(EXIT_ERROR)
        except KeyboardInterrupt:
            stderr.print("interrupted")
            ctx.exit(EXIT_INTERRUPTED)


class Examples(click.Command):
    """A command whose help ends with examples, printed as they are to be typed."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def command(*examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command of `main` with its examples."""
    return main.command(cls=Examples, examples=examples, context_settings={"show_default": True})


option_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
option_model = click.option("-m", "--model", default=MODEL, show_default=True, help="Model file.")
option_device = click.option("--device", help="auto, cpu, cuda, cuda:N or mps.  [default: auto]")
option_workers = click.option("--workers", type=click.IntRange(1), help="Threads.  [default: one a core]")


option_weights_of_model = click.option(
    "--weights", metavar="FILE", help="Where the weights file of the model lies by now."
)
option_outside = click.option("--allow-outside", is_flag=True, help="Let a manifest name files outside its folder.")


def _parse_shard(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    part, _, of = value.partition("/")
    if not (part.isdecimal() and of.isdecimal()):
        raise click.BadParameter(f"{value!r} is not like 2/8")
    return int(part), int(of)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(cnncodes.__version__, "-V", "--version", prog_name="cnncodes")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what is chosen and why.")
def main(verbose: bool) -> None:
    """A handful of labelled images, a frozen CNN, and a linear classifier whose score can be believed.

    Start with `cnncodes demo`, or with a folder that has one folder of images a class:

    \b
      cnncodes extract photos/     the images, once through the network  → codes.h5
      cnncodes fit --clf svm       a classifier on the codes, in seconds → model.safetensors
      cnncodes predict new/        labels of new images                  → standard output
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")


@command("cnncodes demo", "cnncodes demo --folder try")
@click.option("--folder", default="cnncodes-demo", help="Where the files are written.")
@click.pass_context
def demo(ctx: click.Context, folder: str) -> None:
    """Extract, fit, evaluate, predict and compare on the sample that ships with cnncodes.

    Each step is printed as the command that it is, to be repeated with your own folder.
    """
    from cnncodes.shipped import SAMPLE, shipped_path

    sample = str(shipped_path(SAMPLE))
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CnnCodesError(f"{folder}: no folder can be made there ({error.strerror}); choose another") from error
    codes, model = str(Path(folder, CODES)), str(Path(folder, MODEL))
    steps = [
        ["extract", sample, "-o", codes],
        ["fit", codes, "--clf", "svm", "-o", model],
        ["evaluate", codes, "--model", model],
        ["predict", str(Path(sample, "test", "Bag")), "--model", model, "-o", str(Path(folder, "predictions.csv"))],
        ["compare", codes, "--clf", "svm"],
    ]
    for number, step in enumerate(steps, 1):
        click.echo(click.style(f"\n[{number}/{len(steps)}] $ cnncodes {' '.join(map(quoted, step))}", bold=True))
        if code := main.main(step, standalone_mode=False, prog_name="cnncodes"):
            ctx.exit(code)
    click.echo("\nNow with your own images: cnncodes extract FOLDER, where FOLDER has one folder of images a class.")


@command(
    "cnncodes extract photos/",
    "cnncodes extract photos/ -o flowers.h5 --backbone resnet50 --layer layer3 --layer penultimate",
    "cnncodes extract photos/ --shard 2/8 -o part-2.h5          # on the second of eight machines",
    "cnncodes extract images.csv --resize pad --image-size 320      # columns path,label[,group][,split]",
)
@click.argument("images")
@click.option("-o", "--out", default=CODES, help="Codes file; continued when it is there.")
@click.option("--backbone", help="Network, see `cnncodes backbones`.  [default: mobilenet_v2]")
@click.option("--weights", metavar="NAME|FILE", help="Weights by name, or a .pth, .pt or .safetensors file.")
@click.option(
    "--layer", "layers", multiple=True, help="Layer to keep; may be repeated.  [default: layer1…4, penultimate]"
)
@click.option("--pool", "pooling", help="avg, max, gem, grid2 or flatten: how a map becomes a vector.  [default: avg]")
@click.option("--image-size", type=click.IntRange(1), help="Side in pixels that enters the network.")
@click.option("--resize", type=click.Choice(["crop", "pad", "squash"]), help="How an image becomes square.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), help="[default: auto]")
@option_device
@click.option("--batch-size", type=click.IntRange(1), help="Images that go through the network together.")
@option_workers
@click.option("--dtype", type=click.Choice(["auto", "float16", "float32"]), help="Of the codes.  [default: auto]")
@click.option("--exact-decode", is_flag=True, default=None, help="Decode JPEG at full size, resize in float32.")
@click.option("--compile/--no-compile", default=None, help="Compile the network.  [default: where it saves time]")
@click.option(
    "--image-timeout", type=click.FloatRange(0, min_open=True), default=60.0, help="Seconds to decode one image."
)
@click.option("--max-pixels", type=click.IntRange(1), default=120_000_000, help="Refuse an image file of more pixels.")
@click.option("--retry-failed", is_flag=True, help="Try the images again that are recorded as failed.")
@click.option("--allow-partial", is_flag=True, default=None, help="Accept a weights file that lacks parameters.")
@click.option("--shard", metavar="I/N", callback=_parse_shard, help="Extract part I of N; `cnncodes merge` joins them.")
@option_outside
@click.option("--strict", is_flag=True, help="Exit with 1 instead of 3 when some images failed.")
@option_json
@click.pass_context
def extract(
    ctx: click.Context, images: str, out: str, strict: bool, as_json: bool, allow_outside: bool, **options: Any
) -> None:
    """Run IMAGES through a pretrained network, once, and keep its codes in a file.

    IMAGES is a folder of class folders, a folder with train/ and test/ folders of those, a CSV or TSV file, one image,
    or a .npy or .npz file. Repeating the command continues what was interrupted, and computes only what is new.
    """
    from cnncodes.extraction import extract as run
    from cnncodes.images import load_images

    options["layers"] = options["layers"] or None
    with waiting("loading the network"), progress_bar("extracting") as progress:
        try:
            found = load_images(images, allow_outside=allow_outside)
            done = run(found, out, progress=progress, **options)
        except KeyboardInterrupt:
            kept = "; what is done is kept" if Path(out).exists() else ""
            stderr.print(f"interrupted{kept}. To continue: cnncodes {' '.join(map(quoted, sys.argv[1:]))}")
            ctx.exit(EXIT_INTERRUPTED)
    print_notes(done.notes)
    for name, reason in list(done.failures.items())[:FAILURES_SHOWN]:
        stderr.print(f"failed: {one_line(name)}: {reason}", markup=False)
    if done.failed > FAILURES_SHOWN:
        stderr.print(f"… and {done.failed - FAILURES_SHOWN} more: cnncodes info {quoted(out)}", markup=False)
    if as_json:
        summary = {
            name: getattr(done, name) for name in ("n", "ok", "failed", "computed", "seconds", "layers", "failures")
        }
        print_json({"path": str(done.path), **summary})
    else:
        rate = f", {done.computed / done.seconds:.0f} images/s" if done.computed else ""
        lengths = ", ".join(f"{name} {length}" for name, length in done.layers.items())
        click.echo(
            f"{done.path}: {done.ok} of {done.n} images, {done.failed} failed, {done.computed} computed now "
            f"({done.seconds:.1f} s{rate}); {lengths}"
        )
    if done.failed:
        ctx.exit(EXIT_ERROR if strict else EXIT_SOME_FAILED)


@command(
    "cnncodes fit --clf svm --layer layer3",
    "cnncodes fit flowers.h5 --clf logreg --layer layer3 --layer penultimate -o flowers.safetensors",
    "cnncodes fit --json | jq .cv_accuracy",
)
@click.argument("codes", default=CODES)
@click.option("--clf", type=click.Choice(["svm", "logreg"]), default="svm", help="Linear SVM or logistic regression.")
@click.option("--layer", "layers", multiple=True, default=["penultimate"], help="Layer; several are concatenated.")
@click.option("-C", "C", default="auto", metavar="auto|FLOAT", help="Inverse strength of the penalty.")
@click.option(
    "--scale", type=click.Choice(["standard", "l2", "none"]), default="standard", help="Scaling of the codes."
)
@click.option("--class-weight", type=click.Choice(["balanced"]), help="Weigh rare classes up.")
@click.option("--cv", type=click.IntRange(2), default=5, help="Folds of the cross-validation.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of the folds.")
@click.option("--one-se", is_flag=True, help="Smallest C within one standard error of the best.")
@click.option(
    "--nested", is_flag=True, help="Also an estimate that includes the choice of C: takes --cv times as long."
)
@click.option("--jobs", "n_jobs", type=int, help="Folds that run in parallel.  [default: 1]")
@click.option("-o", "--out", default=MODEL, help="Model file.")
@option_json
def fit(codes: str, C: str, out: str, as_json: bool, **options: Any) -> None:
    """Fit a linear classifier on CODES, in seconds, with a cross-validated score.

    Where the images have a split, it trains on `train` and reports on the held-out part as well.
    """
    from cnncodes.fitting import fit as run

    if C != "auto":
        try:
            options["C"] = float(C)
        except ValueError as error:
            raise click.BadParameter(f"{C!r} is neither 'auto' nor a number", param_hint="-C") from error
    model = run(codes, **options)
    model.save(out)
    print_notes(model.notes)
    if as_json:
        print_json({**model.scores, "model": out})
        return
    print_scores(model.scores)
    click.echo(f"{'saved':<25} {out}")


@command("cnncodes evaluate", "cnncodes evaluate new-photos/ --model model.safetensors --json")
@click.argument("data", default=CODES, metavar="[CODES|IMAGES]")
@option_model
@option_weights_of_model
@option_outside
@option_device
@option_workers
@option_json
def evaluate(data: str, model: str, as_json: bool, **options: Any) -> None:
    """Score a fitted model: accuracy, precision and recall by class, and the confusion matrix.

    On a codes file with a split the held-out images are used. IMAGES is a folder of class folders or a manifest.
    """
    from cnncodes.fitting import evaluate as run

    with progress_bar("extracting") as progress:
        result = run(data, model, progress=progress, **options)
    print_notes(result.notes)
    if as_json:
        print_json(result.to_dict())
        return
    print_scores(result.to_dict())
    rows = [
        (name, f"{row['precision']:.3f}", f"{row['recall']:.3f}", str(row["n"]))
        for name, row in result.per_class.items()
    ]
    print_table(["class", "precision", "recall", "images"], rows)
    counts = [(name, *map(str, row)) for name, row in zip(result.classes, result.confusion.tolist(), strict=True)]
    print_table(["true ↓ predicted →", *result.classes], counts)


@command(
    "cnncodes predict new/",
    "cnncodes predict new/ --format json | jq '.[] | select(.probability < 0.5)'",
    "cnncodes predict photo.jpg --model flowers.safetensors -o labels.csv",
)
@click.argument("images")
@option_model
@click.option("-o", "--out", help="File to write.  [default: standard output]")
@click.option("--format", "kind", type=click.Choice(["csv", "json"]), default="csv", help="Of the output.")
@option_weights_of_model
@option_outside
@option_device
@option_workers
@click.pass_context
def predict(ctx: click.Context, images: str, model: str, out: str | None, kind: str, **options: Any) -> None:
    """Label IMAGES (any folder, a file or a manifest) with a fitted model: path, label, probability."""
    from cnncodes.models import ProbeModel

    fitted = ProbeModel.load(model)
    with open_output(out) as stream:  # before the images: a place that cannot be written shows at once
        with progress_bar("predicting") as progress:
            predictions = fitted.predict_images(images, progress=progress, **options)
        rows = [{"path": one.path, "label": one.label, "probability": one.probability} for one in predictions]
        failed = [one for one in predictions if one.label is None]
        if kind == "json":
            json.dump(rows, stream, indent=2, ensure_ascii=False)
            stream.write("\n")
        else:
            writer = csv.DictWriter(stream, ["path", "label", "probability"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {**row, "probability": short(one.probability)} for row, one in zip(rows, predictions, strict=True)
            )
    for one in failed:
        stderr.print(f"failed: {one_line(one.path)}: {one.reason}", markup=False)
    if out:
        stderr.print(f"{out}: {len(rows) - len(failed)} of {len(rows)} images, {len(failed)} failed", markup=False)
    if failed:
        ctx.exit(EXIT_SOME_FAILED)


@command("cnncodes compare", "cnncodes compare mobilenet.h5 resnet.h5 --clf svm --json")
@click.argument("codes", nargs=-1)
@click.option("--clf", "clfs", multiple=True, type=click.Choice(["svm", "logreg"]), help="Probe.  [default: both]")
@click.option("--layer", "layers", multiple=True, help="Layer.  [default: all]")
@click.option("--cv", type=click.IntRange(2), default=5, help="Folds of the cross-validation.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of the folds.")
@option_json
def compare(codes: tuple[str, ...], clfs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Cross-validate layers × probes on the same folds, and print them best first."""
    from cnncodes.fitting import compare as run

    comparison = run(codes or (CODES,), clfs=clfs or ("svm", "logreg"), **options)
    print_notes(comparison.notes)
    if as_json:
        print_json(comparison.to_dict())
        return
    headers = ["layer", "probe", "features", "C", "accuracy", "95 % interval", "seconds"]
    print_table(headers, [comparison_row(row) for row in comparison.rows])


@command("cnncodes info codes.h5", "cnncodes info model.safetensors --json")
@click.argument("file", default=CODES)
@option_json
def info(file: str, as_json: bool) -> None:
    """Say what is in a codes file or a model file, and where it came from."""
    from cnncodes.codes_layout import is_hdf5

    if Path(file).is_file() and not is_hdf5(file) and Path(file).suffix != ".h5":
        from cnncodes.models import ProbeModel

        about = ProbeModel.load(file).info()
    else:
        from cnncodes.codes import CodesFile

        with CodesFile.open(file) as codes:
            about = codes.info()
    if as_json:
        print_json(about)
        return
    for name, value in about.items():
        if isinstance(value, dict):
            click.echo(f"{name}")
            for key, item in value.items():
                click.echo(f"  {one_line(str(key)):<20} {plain(item)}")
        else:
            click.echo(f"{name:<20}   {plain(value)}")


@command("cnncodes verify codes.h5", "cnncodes verify codes.h5 photos/ --sample 200")
@click.argument("file", default=CODES)
@click.argument("images", required=False)
@click.option("--sample", type=click.IntRange(1), default=64, help="Images of IMAGES that are computed again.")
@option_device
@option_workers
@option_json
@click.pass_context
def verify(ctx: click.Context, file: str, as_json: bool, device: str | None, **options: Any) -> None:
    """Compare every row of FILE with its checksum; exit with 1 where one is damaged.

    With IMAGES, from which it was made, a random sample is also computed again and compared.
    """
    from cnncodes.verification import verify as run

    with progress_bar("recomputing") as progress:
        found = run(file, device=device or "auto", progress=progress, **options)
    if as_json:
        print_json(found.to_dict())
    else:
        kinds = {
            "damaged": "damaged",
            "wrong": "its codes are not those of its image",
            "changed": "the image has changed, or is gone",
        }
        for kind, text in kinds.items():
            for name in getattr(found, kind):
                click.echo(f"{text}: {one_line(name)}")
        again = (
            f"; {found.recomputed} computed again, largest relative error {found.largest_error:.1g}, "
            f"{len(found.wrong)} wrong, {len(found.changed)} changed"
            if options["images"]
            else ""
        )
        intact = found.n - found.pending - len(found.damaged)
        counts = f"{intact} of {found.n} rows are intact, {found.pending} pending, {len(found.damaged)} damaged"
        click.echo(f"{file}: {counts}{again}")
    if not found.good:
        ctx.exit(EXIT_ERROR)


@command("cnncodes merge part-1.h5 part-2.h5 part-3.h5 -o codes.h5")
@click.argument("parts", nargs=-1, required=True)
@click.option("-o", "--out", default=CODES, help="Codes file to make.")
def merge(parts: tuple[str, ...], out: str) -> None:
    """Join the PARTS that `cnncodes extract --shard i/n` made into one codes file."""
    from cnncodes.codes import CodesFile
    from cnncodes.merging import merge as run

    run(parts, out)
    with CodesFile.open(out) as file:
        click.echo(
            f"{out}: {file.counts['ok']} of {file.n} images, {file.counts['failed']} failed, of {len(parts)} parts"
        )


@command("cnncodes backbones", "cnncodes backbones 'resnet*'", "cnncodes backbones 'timm:*lite*'")
@click.argument("pattern", required=False)
@option_json
def backbones(pattern: str | None, as_json: bool) -> None:
    """List the networks that can be used; PATTERN takes * and ?."""
    from dataclasses import asdict

    from cnncodes.backbones import backbone_table

    table = [asdict(row) for row in backbone_table(pattern)]
    if pattern and not table:
        every = [row.name for row in backbone_table("timm:*" if pattern.startswith("timm:") else None)]
        raise CnnCodesError(
            f"no network is called {pattern!r}.{nearest(pattern, every)} `cnncodes backbones` lists all"
        )
    if as_json:
        print_json(table)
        return
    print_table(list(table[0]) if table else [], [[plain(value) for value in row.values()] for row in table])


@command("cnncodes layers resnet50", "cnncodes layers mobilenet_v2 --image-size 320")
@click.argument("backbone")
@click.option("--image-size", type=click.IntRange(1), help="Side in pixels of the input.")
@option_json
def layers(backbone: str, image_size: int | None, as_json: bool) -> None:
    """List the layers of a network: name, map shape (channels, height, width), code length and stride."""
    from dataclasses import asdict

    from cnncodes.backbones import load_backbone

    table = [asdict(row) for row in load_backbone(backbone, "random").layer_table(image_size)]
    if as_json:
        print_json(table)
        return
    print_table(list(table[0]), [[plain(value) for value in row.values()] for row in table])
