"""The state of a run: taken up by the same run only, and never in place of another program's file."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from cnncodes.errors import CnnCodesError
from cnncodes.finetuning import state as state_module
from cnncodes.finetuning.state import State, is_state


def test_what_is_kept_is_taken_up_by_the_same_run(tmp_path):
    path = tmp_path / "model.state"
    state = State.open(path, "run")
    state.finish_job({"decision": torch.arange(3.0)})
    state.job = {"step": 5, "losses": [0.5, float("nan")]}, {"now/a": torch.ones(2), "step/a": torch.tensor(5.0)}
    state.write()
    again = State.open(path, "run")
    assert again.n_done == 1
    assert again.arrays["0/decision"].tolist() == [0, 1, 2]
    values, tensors = again.job or ({}, {})
    assert values["step"] == 5
    assert tensors["now/a"].tolist() == [1, 1]
    assert tensors["step/a"].shape == ()
    assert is_state(path)


def test_state_of_another_run_is_begun_anew(tmp_path, caplog):
    path = tmp_path / "model.state"
    State.open(path, "one").finish_job({})
    other = State.open(path, "other")
    assert (other.n_done, other.arrays, other.job) == (0, {}, None)
    assert "is of another run" in caplog.text


def test_damaged_state_is_begun_anew(tmp_path, caplog):
    path = tmp_path / "model.state"
    save_file({"done/0/x": torch.ones(1)}, path, metadata={"cnncodes-finetuning": "{"})
    assert State.open(path, "run").n_done == 0
    assert "is damaged" in caplog.text


def test_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "model.state"
    path.write_text("precious")
    with pytest.raises(CnnCodesError, match="not a state of fine-tuning"):
        State.open(path, "run")
    assert path.read_text() == "precious"


def test_without_a_file_nothing_is_written(tmp_path):
    state = State.open(None, "run")
    state.finish_job({})
    assert not state.is_due()
    assert list(tmp_path.iterdir()) == []


def test_writing_takes_a_small_part_of_the_time(tmp_path, monkeypatch):
    clock = iter([5.0, 11.0, 20.0, 23.0, 60.0, 84.0])
    monkeypatch.setattr(state_module.time, "monotonic", lambda: next(clock))
    state = State(tmp_path / "model.state", "run", written=0.0)
    assert [state.is_due(), state.is_due()] == [False, True]
    state.write()  # takes 3 s, so that the next is due after 60
    assert [state.is_due(), state.is_due()] == [False, True]
