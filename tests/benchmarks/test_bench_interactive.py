"""The benchmark of the commands counts a process with its children, stops at the limit, and renders its rows."""

from __future__ import annotations

import math
from argparse import Namespace

import pytest
from bench_interactive import (
    COMMANDS,
    COMMANDS_ONCE,
    NAMES,
    TARGETS,
    Cost,
    Row,
    demo_steps,
    find_rival,
    render,
    repeat,
    run,
)

from cnncodes.cli.main import main

BUSY = "import time\nwhile time.process_time() < 0.3: pass"


def test_processor_time_is_that_of_the_process_and_its_children() -> None:
    cost = run(["-c", f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])\n{BUSY}"], 60)
    assert not cost.stopped
    assert 0.6 <= cost.processor < 3


def test_a_run_stops_at_the_limit_and_what_fails_is_shown() -> None:
    cost = run(["-c", "import time; print('begun', flush=True); time.sleep(60)"], 2)
    assert cost.stopped
    assert [line for _, line in cost.lines] == ["begun\n"]
    assert 2 <= cost.wall < 30
    with pytest.raises(SystemExit, match="ZeroDivisionError"):
        run(["-c", "1 / 0"], 60)


def test_what_takes_long_is_not_repeated() -> None:
    costs = iter([Cost(3.0, 4.0), Cost(1.0, 2.0), Cost(2.0, 3.0)])
    assert repeat(lambda: next(costs), Namespace(repeats=3, limit=100), "three") == Cost(2.0, 3.0)
    assert repeat(lambda: Cost(50.0, 60.0), Namespace(repeats=3, limit=100), "one") == Cost(50.0, 60.0)


def test_the_better_search_of_scikit_learn_counts() -> None:
    known = {"dual=True": Cost(9.0, 9.0, answer={"unfinished": 12}), "dual=False": Cost(5.0, 5.0, stopped=True)}
    options = Namespace(no_sklearn=False, limit=1)
    assert find_rival("fit", "codes.h5", known, options) == (known["dual=True"], "dual=True, 12 fits not converged")
    known["dual=True"] = Cost(6.0, 6.0, stopped=True)
    assert find_rival("fit", "codes.h5", known, options) == (known["dual=False"], "dual=True or dual=False")
    assert find_rival("compare", "codes.h5", known, options) == (None, "")


def test_the_second_search_runs_at_most_twice_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []

    def step(*words: str, limit: float) -> Cost:
        limits.append(limit)
        return Cost(20.0, 20.0, answer={"unfinished": 0})

    monkeypatch.setattr("bench_interactive.run_step", step)
    find_rival("fit", "codes.h5", {}, Namespace(no_sklearn=False, limit=600))
    find_rival("fit", "codes.h5", {}, Namespace(no_sklearn=False, limit=50))
    assert limits == [600, 70, 50, 50]


def test_rows_are_rendered_with_targets_and_ratios() -> None:
    row = Row("fit", 178, Cost(2.0, 0.5), Cost(30.0, 40.0, stopped=True), "dual=True")
    assert render(row) == "| fit | 178 | 2.0 | 0.500 | ≤ 1.5 s of processor | > 30.0 | dual=True | > 15.0 |"
    assert render(Row("fit", 2_000, Cost(2.0, 3.0, stopped=True))) == "| fit | 2,000 | > 2.0 | > 3.0 |  |  |  |  |"
    assert render(row._replace(cost=Cost(2.0, 0.5, stopped=True))).endswith("| > 30.0 | dual=True |  |")
    lines = [(1.0, "[1/5] $ cnncodes extract photos -o x\n"), (5.0, "done\n"), (6.0, "[2/5] $ cnncodes fit x\n")]
    steps = list(demo_steps(Cost(9.0, 9.0, lines=[*lines, (8.0, "Now\n")])))
    assert [(step.name, step.cost.wall) for step in steps] == [("demo: extract", 5.0), ("demo: fit", 2.0)]
    assert all(math.isnan(step.cost.processor) for step in steps)
    assert render(steps[0]) == "| demo: extract | 600 |  | 5.0 |  |  |  |  |"


def test_each_command_is_there_and_each_target_is_of_something_measured() -> None:
    assert {words.split()[0] for words in (COMMANDS | COMMANDS_ONCE).values()} <= set(main.commands)
    assert {name for name, _ in TARGETS} <= set(NAMES)
