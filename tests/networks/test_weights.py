"""Finding, fetching and verifying the files of published weights, from file:// addresses."""

from __future__ import annotations

import hashlib
import urllib.error
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cnncodes.errors import WeightsError
from cnncodes.networks import weights
from cnncodes.networks.preprocessing import Preprocessing
from cnncodes.networks.weights import EMBEDDED, WeightsEntry, file_digest, locate
from cnncodes.system.shipped import EMBEDDED_WEIGHTS, shipped_path

PLAIN = Preprocessing(256, 224, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CONTENT = b"the bytes of some weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def published(folder: Path, content: bytes = CONTENT, prefix: str = DIGEST[:8]) -> WeightsEntry:
    folder.mkdir(exist_ok=True)
    path = folder / f"net-{prefix}.pth"
    path.write_bytes(content)
    return WeightsEntry("V1", PLAIN, url=path.as_uri())


def test_a_file_is_fetched_once_into_the_hub_cache(
    tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    entry = published(tmp_path / "server")
    path, digest = locate(entry)
    assert path == cache / f"net-{DIGEST[:8]}.pth"
    assert digest == DIGEST
    assert path.read_bytes() == CONTENT
    assert "100%" in capfd.readouterr().err  # the progress bar
    (tmp_path / "server" / path.name).unlink()
    assert locate(entry) == (path, DIGEST)
    assert capfd.readouterr().err == ""


def test_a_fetched_file_with_another_hash_is_refused_and_not_kept(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(WeightsError, match="invalid hash value"):
        locate(published(tmp_path / "server", b"something else"))
    assert list(cache.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_refused(tmp_path: Path, cache: Path) -> None:
    entry = published(tmp_path / "server")
    cache.mkdir(parents=True)
    (cache / f"net-{DIGEST[:8]}.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=rf"net-{DIGEST[:8]}\.pth: damaged.*expected {DIGEST[:8]}.*delete it"):
        locate(entry)


def test_without_internet_the_error_says_which_file_to_put_where(tmp_path: Path, cache: Path) -> None:
    entry = WeightsEntry("V1", PLAIN, url=(tmp_path / "nowhere" / "net-0123abcd.pth").as_uri())
    with pytest.raises(WeightsError) as caught:
        locate(entry)
    for part in ("nowhere/net-0123abcd.pth", f"put it into {cache}", "weights=FILE"):
        assert part in str(caught.value)


def test_the_embedded_file_needs_no_cache_and_is_checked_in_full(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = Path(EMBEDDED_WEIGHTS).name
    entry = WeightsEntry("V1", PLAIN, url=f"https://invalid.example/{name}")
    assert locate(entry) == (shipped_path(EMBEDDED_WEIGHTS), EMBEDDED[name][1])
    assert len(EMBEDDED[name][1]) == 64
    assert not cache.exists()
    damaged = tmp_path / name
    damaged.write_bytes(shipped_path(EMBEDDED_WEIGHTS).read_bytes()[:-1] + b"!")
    monkeypatch.setattr(weights, "shipped_path", lambda name: damaged)
    with pytest.raises(WeightsError, match=r"damaged.*reinstall cnncodes"):
        locate(entry)


def test_a_local_file_is_digested_or_missed(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    entry = WeightsEntry("mine", PLAIN, file=path)
    with pytest.raises(WeightsError, match="no such file"):
        locate(entry)
    path.write_bytes(CONTENT)
    assert locate(entry) == (path, DIGEST)
    assert file_digest(path) == DIGEST


def test_weights_without_an_address_say_so() -> None:
    with pytest.raises(WeightsError, match="no file is published for the weights V9"):
        locate(WeightsEntry("V9", PLAIN))


def test_the_digest_in_a_file_name() -> None:
    assert (
        WeightsEntry("V1", PLAIN, url="https://h/mnasnet0.5_top1_67.823-3ffadce67e.pth").digest_prefix == "3ffadce67e"
    )
    assert WeightsEntry("V1", PLAIN, url="https://h/regnet_y_16gf_swag-43afe44d.pth").digest_prefix == "43afe44d"
    assert WeightsEntry("V1", PLAIN, url="https://h/some-network.pth").digest_prefix == ""


def test_the_hub_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own client retries for most of a minute; it must not even be started without a network."""
    hub = pytest.importorskip("huggingface_hub")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "hf_hub_download", lambda *args: pytest.fail("the client was started"))

    def unreachable(request: object, timeout: float) -> None:
        assert timeout <= 10
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    entry = WeightsEntry("tag", PLAIN, hub="timm/no_such_network")
    with pytest.raises(WeightsError, match=r"huggingface\.co/timm/no_such_network: .*no route.*weights=FOLDER"):
        locate(entry)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        locate(entry)


def test_a_file_in_the_hub_cache_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    path = tmp_path / "model.safetensors"
    path.write_bytes(CONTENT)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda repository, name: str(path))
    assert locate(WeightsEntry("tag", PLAIN, hub="timm/net")) == (path, DIGEST)


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("GatedRepoError", 401, "access is restricted; accept the terms on that page, and log in with `hf auth login`"),
        ("GatedRepoError", 403, "access is restricted; accept the terms on that page, and log in with `hf auth login`"),
        ("HfHubHTTPError", 403, "access is restricted; accept the terms on that page, and log in with `hf auth login`"),
        ("RepositoryNotFoundError", 401, "does not show it to strangers; if you may see it, log in with `hf auth"),
        ("HfHubHTTPError", 503, "what the server says; try again when the hub can be reached"),
        ("OfflineModeIsEnabled", None, "what the server says; try again when the hub can be reached"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_where_the_hub_refuses_one_line_says_what_to_do(
    kind: str, status: int | None, expected: str, wrapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    errors = pytest.importorskip("huggingface_hub.errors")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    response = SimpleNamespace(headers={}, request=None, status_code=status)
    text = "what the server says\nand more"
    refusal = getattr(errors, kind)(text, **({} if status is None else {"response": response}))

    def refused(request: object, timeout: float) -> None:  # the answer to a request without a token
        raise urllib.error.HTTPError("https://hub", status or 404, "refused", Message(), None)

    def download(repository: str, name: str) -> None:
        if wrapped:  # as the client does where it looks for another copy first
            raise errors.LocalEntryNotFoundError("what the server says") from refusal
        raise refusal

    monkeypatch.setattr("urllib.request.urlopen", refused)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(WeightsError) as caught:
        locate(WeightsEntry("tag", PLAIN, hub="timm/gated"))
    message = str(caught.value)
    assert message.startswith("cannot fetch model.safetensors of https://huggingface.co/timm/gated: ")
    assert expected in message
    assert message.endswith("and give it with weights=FOLDER")
    assert "\n" not in message
