"""What comes from elsewhere is checked, and nothing comes unless it is asked for.

That no source runs what a file says is looked at in `io/test_hostile.py`, and that stored weights are never unpickled.
"""

import ast
import hashlib
import pickle
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_model
import pytest
import torch
import torchvision
from conftest import make_sections

import bleep_sc as bl
from bleep_sc.models.encoders.of_lite import LITE0
from bleep_sc.models.encoders.of_torchvision import WEIGHTS
from bleep_sc.models.encoders.registry import NETWORKS, encoder_named
from bleep_sc.models.encoders.weights import imagenet_state

ROOT = Path(__file__).parents[1]
NETWORK = {
    *("aiohttp", "boto3", "ftplib", "fsspec", "gdown", "http", "httpx", "huggingface_hub", "pooch", "requests"),
    *("smtplib", "socket", "ssl", "urllib", "urllib3", "webbrowser", "xmlrpc"),
}
FETCHES = re.compile(
    r"(from_pretrained|load_state_dict_from_url|get_state_dict|hf_hub_download|snapshot_download|urlretrieve|urlopen"
    r"|hub\.load)$"
)
ALLOWED = {"weights.get_state_dict"}
DOWNLOADED = [name for name in NETWORKS if name != LITE0]
"""Networks whose weights do not come with pip; `models/encoders/test_lite.py` looks at those that do."""


def fetching(source: str) -> list[str]:
    """What in a file could open a connection, or start a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in NETWORK]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [node.module or ""] if (node.module or "").split(".")[0] in NETWORK else []
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if (FETCHES.search(name) and name not in ALLOWED) or keywords.get("shell", "False") != "False":
                found.append(name)
            if keywords.get("pretrained", "False") != "False" and name != "timm.create_model":
                found.append(name)
    return found


@pytest.mark.parametrize("folder", ["src", "benchmarks"])
def test_no_source_opens_a_connection_or_a_shell(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    for path in paths:
        assert not fetching(path.read_text()), path


@pytest.mark.parametrize(
    "line",
    [
        *("import requests", "import urllib.request", "from http.client import HTTPConnection", "import socket as s"),
        *("from huggingface_hub import hf_hub_download", "torch.hub.load('a/b', 'c')", "Model.from_pretrained('a')"),
        *("torch.hub.load_state_dict_from_url(url)", "other.get_state_dict()", "subprocess.run(text, shell=True)"),
        *("get_model('resnet18', pretrained=True)", "request.urlopen(url)"),
    ],
)
def test_the_search_finds_them(line: str) -> None:
    assert fetching(line)
    assert not fetching(
        "import subprocess\nsubprocess.run(words)\nmodel.load_state_dict(state)\nmake(pretrained=False)"
    )


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each try to reach another machine fails, and is noted: what catches the error is not hidden."""
    tried: list[str] = []

    def refuse(what: str) -> Callable[..., Any]:
        def refused(*args: Any, **arguments: Any) -> Any:
            tried.append(what)
            msg = f"{what}: there is no network"
            raise OSError(msg)

        return refused

    for name in ("connect", "connect_ex", "sendto", "bind", "listen"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse(name))
    return tried


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the model has nearly collapsed")
def test_the_main_job_needs_no_network(offline: list[str]) -> None:
    ref, query = make_sections(30), make_sections(30, sections=("q",), seed=1)
    bl.tl.fit(ref, max_epochs=10)  # all else by default
    bl.tl.embed(ref)
    bl.tl.impute(query, ref)
    bl.tl.evaluate(query, n_bootstrap=10)
    assert query.layers["bleep"].shape == query.shape
    assert offline == []
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("localhost", 80))
    assert offline == ["create_connection"]


@pytest.mark.odd
def test_pretrained_weights_are_asked_for_once_and_refused_clearly(
    offline: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ref = make_sections(16)
    before = list(ref.uns), list(ref.obsm)
    with pytest.raises(RuntimeError, match=r"ImageNet weights of 'resnet18' could not be loaded.*`weights=None`"):
        bl.tl.fit(ref, preset="paper", encoder="resnet18", weights="imagenet", max_epochs=1)
    assert offline
    assert (list(ref.uns), list(ref.obsm)) == before


@pytest.mark.odd
@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_hash_of_every_download_is_checked_and_nothing_is_unpickled(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    state = {"features.denseblock1.denselayer1.norm.1.weight": torch.ones(3)}

    def fetch(url: str, **arguments: Any) -> dict[str, torch.Tensor]:
        asked.append((url, arguments))
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    assert list(imagenet_state(encoder_named(name))) == ["features.denseblock1.denselayer1.norm1.weight"]
    ((url, arguments),) = asked
    assert re.fullmatch(r"https://download\.pytorch\.org/models/[\w-]+-[0-9a-f]{8}\.pth", url), "the name has a hash"
    assert arguments["check_hash"] is True
    assert arguments["weights_only"] is True


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """`served(content, digits)` puts a file, with these digits of a hash in its name, where ResNet-18's weights lie."""

    def serve(content: bytes, digits: str | None = None) -> None:
        digits = digits or hashlib.sha256(content).hexdigest()[:8]
        path = tmp_path / f"resnet18-{digits}.pth"
        path.write_bytes(content)

        def fetch(url: str, **arguments: Any) -> Any:
            return torch.hub.load_state_dict_from_url(path.as_uri(), model_dir=str(tmp_path / "cache"), **arguments)

        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)

    return serve


@pytest.mark.odd
def test_a_download_is_read_and_one_with_another_hash_is_not(served: Callable[..., None], tmp_path: Path) -> None:
    torch.save({"fc.bias": torch.arange(5.0)}, tmp_path / "weights")
    content = (tmp_path / "weights").read_bytes()
    served(content)
    assert torch.equal(imagenet_state(encoder_named("resnet18"))["fc.bias"], torch.arange(5.0))
    served(content, "0" * 8)
    with pytest.raises(
        RuntimeError, match=r"'resnet18' could not be loaded \(RuntimeError: invalid hash value.*Choose"
    ):
        imagenet_state(encoder_named("resnet18"))
    assert not [path for path in (tmp_path / "cache").iterdir() if "0" * 8 in path.name]


@pytest.mark.odd
def test_a_download_that_would_run_code_does_not(served: Callable[..., None], tmp_path: Path) -> None:
    """Its name holds 8 digits of its hash: whoever can serve a file can find one that has them."""
    torch.save({"fc.bias": fuzz_model.Touch(tmp_path / "ran")}, tmp_path / "bomb")
    content = (tmp_path / "bomb").read_bytes()
    for bomb in (content, pickle.dumps(fuzz_model.Touch(tmp_path / "ran"), protocol=2)):
        served(bomb)
        with pytest.raises(RuntimeError, match=r"\(UnpicklingError: more than tensors\)\. Choose"):
            imagenet_state(encoder_named("resnet18"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.odd
@pytest.mark.parametrize("fails", [False, True])
def test_timm_checks_hashes_for_us_and_as_before_for_others(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    timm = pytest.importorskip("timm")
    seen = []

    def create(name: str, **arguments: Any) -> torch.nn.Module:
        seen.append((name, arguments["pretrained"], timm.models._builder._CHECK_HASH))
        if fails:
            raise OSError
        return torch.nn.Linear(1, 1, device="meta")

    monkeypatch.setattr(timm, "create_model", create)
    if fails:
        with pytest.raises(RuntimeError, match="'timm:resnet10t' could not be loaded"):
            imagenet_state(encoder_named("timm:resnet10t"))
    else:
        imagenet_state(encoder_named("timm:resnet10t"))
    assert seen == [("resnet10t", True, True)]
    assert timm.models._builder._CHECK_HASH is False


def test_every_listed_network_has_the_weights() -> None:
    for name in DOWNLOADED:
        assert WEIGHTS in torchvision.models.get_model_weights(name).__members__
