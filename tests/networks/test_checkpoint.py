"""Reading files of parameters, and fitting them to a network that calls them otherwise."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cnncodes.errors import WeightsError
from cnncodes.networks.checkpoint import KeyRules, digest_of, fit_state, read_published, read_state


def network(classes: int = 3) -> nn.Module:
    return nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "bn": nn.BatchNorm2d(4),
            "block": nn.Sequential(nn.Linear(4, 4)),
            "head": nn.Linear(4, classes),
        }
    )


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {
        key: torch.randn(value.shape) if value.is_floating_point() else value
        for key, value in module.state_dict().items()
    }


def fit(module: nn.Module, state: dict[str, torch.Tensor], **options: Any) -> tuple[list[str], bool]:
    return fit_state(module, state, head="head", rules=options.pop("rules", KeyRules()), source="f.pth", **options)


def same(module: nn.Module, state: dict[str, torch.Tensor], *but: str) -> bool:
    own = module.state_dict()
    return all(torch.equal(own[key], state[key]) for key in own if not key.startswith(but or ("-",)))


class Anything:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('this file ran code')",))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_each_format_is_read(tmp_path: Path, suffix: str) -> None:
    state = state_of(network())
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    tensors = read_state(path)
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[key], state[key]) for key in state)


def test_dicts_in_dicts_become_one_and_an_optimizer_is_left_out(tmp_path: Path) -> None:
    state = state_of(network())
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    content: dict[str, Any] = {"checkpoint": {"ema": state}, "epoch": 3, "optimizer": optimizer}
    content["itself"] = content
    torch.save(content, tmp_path / "w.pth")
    tensors = read_state(tmp_path / "w.pth")
    assert tensors.keys() == {f"checkpoint.ema.{key}" for key in state}
    assert torch.equal(tensors["checkpoint.ema.conv.weight"], state["conv.weight"])


@pytest.mark.parametrize("wrapper", [[], ["state_dict"], ["model"]])
def test_a_published_file_is_opened_for_its_library(tmp_path: Path, wrapper: list[str]) -> None:
    state: dict[str, Any] = state_of(network())
    content = state
    for name in wrapper:
        content = {name: content, "epoch": 3}
    torch.save(content, tmp_path / "w.pth")
    assert read_published(tmp_path / "w.pth").keys() == state.keys()


@pytest.mark.parametrize("content", [Anything(), {"state_dict": {}, "args": Anything()}, network()])
def test_a_file_that_needs_objects_is_refused_and_nothing_runs(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"Python objects .*torch\.save\(model\.state_dict\(\), FILE\)"):
        read_state(tmp_path / "w.pth")


def test_plain_pickle_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Anything()))
    with pytest.raises(WeightsError, match=r"w\.pth"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_rubbish_is_an_error_that_names_the_file(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"w\{suffix}: cannot be read as weights"):
        read_state(path)


def test_no_file_and_no_tensors_are_errors(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        read_state(tmp_path / "none.pth")
    torch.save(torch.zeros(3), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds no parameters by name"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "net.", "teacher.", "encoder.", "model_ema.module.", "0.1.", "head.", "conv.", "bn."]
    + ["state_dict.model.backbone.", "a.b.c.d.e.f.g.h."],
)
def test_whatever_wraps_the_network_is_stripped(prefix: str) -> None:
    module = network()
    state = state_of(module)
    notes, head = fit(module, {prefix + key: value for key, value in state.items()} | {"loss": torch.zeros(1)})
    assert same(module, state)
    assert notes == ["f.pth: not used: loss"]
    assert head


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "_fsdp_wrapped_module._checkpoint_wrapped_module."])
def test_what_wraps_a_part_of_the_network_is_stripped(wrapper: str) -> None:
    module = network()
    state = state_of(module)
    wrapped = {f"net.{key.replace('.', f'.{wrapper}', 1)}": value for key, value in state.items()}
    assert fit(module, wrapped) == ([], True)
    assert same(module, state)


def test_a_prefix_that_the_network_has_itself_stays() -> None:
    module = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    state = state_of(module)
    fit(module, state)
    assert same(module, state)


def test_a_part_outside_the_prefix_is_reported_as_not_used() -> None:
    module = network()
    state = state_of(module)
    foreign = {f"backbone.{key}": value for key, value in state.items()} | {"projector.weight": torch.zeros(2)}
    notes, _ = fit(module, foreign)
    assert same(module, state)
    assert notes == ["f.pth: not used: projector.weight"]


@pytest.mark.parametrize(
    ("first", "second"), [("student.", "teacher."), ("", "teacher."), ("a.b.", "a.c."), ("model.", "ema.")]
)
def test_two_copies_of_the_network_are_ambiguous_unless_they_are_the_same(first: str, second: str) -> None:
    module = network()
    before = state_of(module)
    fit(module, before)
    student = {first + key: value for key, value in state_of(module).items()}
    teacher = {second + key: value for key, value in state_of(module).items() if not key.startswith("head")}
    names = f"{first}*" if first else "what has no prefix"
    for allow_partial in (False, True):
        with pytest.raises(WeightsError, match="ambiguous, it holds the network more than once") as caught:
            fit(module, student | teacher, allow_partial=allow_partial)
        assert f": {names} (8 tensors fit), {second}* (" in str(caught.value)
    assert same(module, before)
    copy = {second + key: value.clone() for key, value in before.items()}
    fit(module, {first + key: value for key, value in before.items()} | copy)
    assert same(module, before)


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        ("model.", "model_ema.module."),
        ("state_dict.", "state_dict_ema."),
        ("state_dict.model.", "state_dict.ema_model."),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_what_is_called_the_model_is_taken_and_not_an_average_beside_it(usual: str, other: str, first: bool) -> None:
    """As earlier versions did, so that their codes files are continued."""
    module = network()
    state = state_of(module)
    parts = [{usual + key: value for key, value in state.items()}]
    parts.insert(0 if first else 1, {other + key: torch.zeros_like(value) for key, value in state.items()})
    notes, _ = fit(module, parts[0] | parts[1])
    assert same(module, state)
    assert notes[0] == f"f.pth: taken is {usual}* (8 tensors fit), not {other}* (8 tensors fit)"


def test_of_two_networks_the_one_that_fits_best_is_taken_and_a_note_says_so() -> None:
    module = network()
    state = state_of(module)
    other = {f"student.{key}": torch.zeros_like(value) for key, value in state.items() if "conv" not in key}
    notes, _ = fit(module, {f"teacher.{key}": value for key, value in state.items()} | other)
    assert same(module, state)
    assert notes[0] == "f.pth: taken is teacher.* (8 tensors fit), not student.* (6 tensors fit)"


@pytest.mark.parametrize("allow_partial", [False, True])
@pytest.mark.parametrize(
    "state",
    [
        {"model.encoder.weight": torch.zeros(4, 3, 3, 3)},
        {"head.weight": torch.zeros(3, 4), "head.bias": torch.zeros(3)},
        {"bn.num_batches_tracked": torch.tensor(1)},
        {"conv.weight": torch.zeros(4, 3, 5, 5), "net.bn.weight": torch.zeros(5)},
    ],
)
def test_a_file_of_which_nothing_outside_the_head_fits_is_refused(
    state: dict[str, torch.Tensor], allow_partial: bool
) -> None:
    module = network()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        fit(module, state, allow_partial=allow_partial)
    key, tensor = next(iter(state.items()))
    assert str(caught.value).startswith(
        f"f.pth: no tensor of it fits the network: it holds {key} {tuple(tensor.shape)}"
    )
    assert "; expected conv.weight (4, 3, 3, 3), conv.bias (4,), " in str(caught.value)
    assert same(module, before)


def test_a_network_that_is_nothing_but_its_head_may_lack_it() -> None:
    notes, head = fit(nn.ModuleDict({"head": nn.Linear(2, 2)}), {"x": torch.zeros(1)})
    assert not head
    assert len(notes) == 2


def test_another_head_and_no_head_are_fine() -> None:
    module = network(3)
    state = state_of(network(7))
    notes, head = fit(module, state)
    assert same(module, state, "head")
    assert not head
    assert notes == [
        "f.pth: no head for this network (head.weight is (7, 4), expected (3, 4), head.bias is (7,), expected (3,)); "
        "codes need none"
    ]
    module = network(3)
    notes, head = fit(module, {key: value for key, value in state.items() if not key.startswith("head")})
    assert same(module, state, "head")
    assert not head
    assert "head.weight is missing" in notes[0]


def test_missing_misshaped_and_unexpected_keys_are_named() -> None:
    module = network()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = state_of(module)
    del state["bn.weight"]
    state["conv.weight"] = torch.zeros(4, 3, 5, 5)
    state["extra.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError) as caught:
        fit(module, state)
    assert str(caught.value) == (
        "f.pth: does not fit the network: conv.weight is (4, 3, 5, 5), expected (4, 3, 3, 3), bn.weight is missing; "
        "not used: extra.weight; another backbone? (extract(…, allow_partial=True) leaves these random)"
    )
    assert same(module, before)  # refused files change nothing

    notes, _ = fit(module, state, allow_partial=True)
    assert same(module, state, "conv.weight", "bn.weight")
    assert torch.equal(module.state_dict()["conv.weight"], before["conv.weight"])
    assert notes[0] == "f.pth: not used: extra.weight"
    assert notes[1].endswith("bn.weight is missing; left random, 2 of 8 tensors outside the head")


def test_many_keys_are_counted() -> None:
    with pytest.raises(WeightsError, match=r"conv\.weight is missing, .* and 2 more; "):
        fit(network(), {"bn.bias": torch.zeros(4)})


def test_batch_counters_may_be_absent() -> None:
    module = network()
    state = state_of(module)
    counter = state.pop("bn.num_batches_tracked")
    assert fit(module, state) == ([], True)
    assert same(module, state | {"bn.num_batches_tracked": counter})


def test_renames_and_ignored_parts() -> None:
    module = network()
    state = state_of(module)
    foreign = {key.replace("block.0.", "_blocks.0._fc."): value for key, value in state.items()}
    foreign["aux.fc.weight"] = torch.zeros(1)
    rules = KeyRules(renames=((r"^_blocks\.(\d)\._fc\.", r"block.\1."),), ignored=("aux.",))
    assert fit(module, {f"module.{key}": value for key, value in foreign.items()}, rules=rules) == ([], True)
    assert same(module, state)


def test_half_precision_becomes_the_precision_of_the_network() -> None:
    module = network()
    state = {key: value.half() if value.is_floating_point() else value for key, value in state_of(module).items()}
    fit(module, state)
    assert module["conv"].weight.dtype == torch.float32
    assert torch.equal(module["conv"].weight.half(), state["conv.weight"])


def test_values_that_are_not_finite_are_noted() -> None:
    module = network()
    state = state_of(module)
    state["block.0.bias"][1] = torch.nan
    assert fit(module, state)[0] == ["f.pth: holds values that are not finite: block.0.bias"]


def test_the_digest_tells_values_names_shapes_and_types_apart() -> None:
    base = {"a": torch.arange(6.0)}
    others = [
        {"b": torch.arange(6.0)},
        {"a": torch.arange(6.0) + 1},
        {"a": torch.arange(6.0).reshape(2, 3)},
        {"a": torch.arange(6.0).to(torch.bfloat16)},
    ]
    assert digest_of(base) == digest_of({"a": torch.arange(6.0)})
    assert len({digest_of(state) for state in [base, *others]}) == 5
