"""The names of options are the same everywhere: in what implements them, in the commands and in docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest
import torch

import cnncodes
from cnncodes import vocabulary
from cnncodes.cli.main import main
from cnncodes.exporting import parity
from cnncodes.networks import pooling
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.probes import probe, scaling
from cnncodes.runtime import precision

OPTIONS = {
    "clf": vocabulary.CLASSIFIERS,
    "scale": vocabulary.SCALINGS,
    "pooling": vocabulary.POOLINGS,
    "resize": vocabulary.RESIZE_MODES,
    "mode": vocabulary.RESIZE_MODES,
    "precision": (vocabulary.AUTO, *vocabulary.PRECISIONS),
    "dtype": (vocabulary.AUTO, *vocabulary.CODE_TYPES),
    "views": vocabulary.VIEWS,
}
OPTIONS |= {"clfs": OPTIONS["clf"], "scales": OPTIONS["scale"]}
OPTIONS_OF_ROOMS = {"exporting": {"dtype": vocabulary.EXPORTED_TYPES}}  # where a name means something else


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (probe.CLASSIFIERS, vocabulary.CLASSIFIERS),
        (probe.LOSSES, vocabulary.CLASSIFIERS),
        (scaling.SCALINGS, vocabulary.SCALINGS),
        (pooling.POOLINGS, vocabulary.POOLINGS),
        (precision.PRECISIONS, vocabulary.PRECISIONS),
        (parity.TOLERANCES, vocabulary.EXPORTED_TYPES),
    ],
    ids=["classifiers", "losses", "scalings", "poolings", "precisions", "exported types"],
)
def test_each_name_has_its_implementation(table, names):
    assert list(table) == list(names)


def test_precisions_are_the_types_that_they_are_called_after():
    assert {name: str(kind) for name, kind in precision.PRECISIONS.items()} == {
        name: f"torch.{kind}" for name, kind in vocabulary.PRECISIONS.items()
    }


@pytest.mark.parametrize("mode", vocabulary.RESIZE_MODES)
@pytest.mark.parametrize("views", vocabulary.VIEWS)
def test_each_resize_mode_and_each_kind_of_views_gives_squares_of_its_count(mode, views):
    preprocessing = Preprocessing(10, 8, "bilinear", (0.5,) * 3, (0.5,) * 3, mode=mode, views=views)
    squares = preprocessing.squares(torch.zeros(3, 20, 12, dtype=torch.uint8))
    assert tuple(squares.shape) == (*vocabulary.middle_axis({"views": views}), 3, 8, 8)


def option_choices():
    for command in (main.get_command(click.Context(main), name) for name in main.list_commands(click.Context(main))):
        for option in command.params:
            if option.name in OPTIONS and isinstance(option.type, click.Choice):
                yield f"{command.name} {option.opts[0]}", option


def test_commands_offer_the_names_of_the_vocabulary():
    choices = dict(option_choices())
    assert len(choices) >= 8
    for where, option in choices.items():
        assert list(option.type.choices) == list(OPTIONS[option.name]), where


def test_docstrings_name_all_of_the_vocabulary():
    sets = [
        (path.parent.name, name, re.findall(r'"([^"]+)"', values))
        for path in Path(cnncodes.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        for name, values in re.findall(
            r"^ *([\w, ]+) : (?:sequence of )?\{([^}]+)\}", ast.get_docstring(node) or "", re.M
        )
        if name in OPTIONS
    ]
    assert len(sets) > 20
    for room, name, values in sets:
        names = (OPTIONS | OPTIONS_OF_ROOMS.get(room, {}))[name]
        assert values in (list(names), [one for one in names if one != "auto"]), (room, name)


def test_splits_have_one_meaning_for_each_spelling():
    spellings = [name for names in vocabulary.SPLITS.values() for name in names]
    assert len(set(spellings)) == len(spellings)
    assert [vocabulary.split_of(name) for name in ("TRAIN", "valid", "Testing", "", "tests")] == [
        "train",
        "val",
        "test",
        None,
        None,
    ]
