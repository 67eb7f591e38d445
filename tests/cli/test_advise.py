"""`cnncodes advise`: the case, the evidence and the commands are shown."""

from __future__ import annotations

import json
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from command_line import run

from cnncodes.insight.evidence import Evidence


@pytest.fixture
def advice(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(
        summary="small and similar",
        evidence=[Evidence("images", "30", "small")],
        curve=SimpleNamespace(helped_most=lambda: [("Bag", 0.0512)]),
        commands=["cnncodes fit --layer layer3"],
        notes=["there is a note"],
        to_dict=lambda: {"summary": "small and similar"},
    )
    monkeypatch.setattr("cnncodes.insight.advise.advise", Mock(return_value=made))
    return made


def test_the_case_the_evidence_and_the_commands_are_shown(advice: SimpleNamespace) -> None:
    result = run("advise", "codes.h5")
    lines = result.stdout.splitlines()
    assert lines[0] == "small and similar."
    assert [line.split() for line in lines[2:4]] == [["evidence", "found", "says"], ["images", "30", "small"]]
    assert "The last doubling of the images helped these classes most: Bag (+5.1 points)." in lines
    assert lines[-2:] == ["Next:", "  cnncodes fit --layer layer3"]
    assert "note: there is a note" in result.stderr


def test_json_is_what_python_gives(advice: SimpleNamespace) -> None:
    assert json.loads(run("advise", "--json").stdout) == advice.to_dict()
