"""A model from a stranger never runs code, takes all memory, or leaves anything behind: one clear error refuses it.

Attackers make the checksum right, so these tests do too, unless they say otherwise.
"""

import ast
import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_model
import numpy as np
import pytest
import torch
from anndata import AnnData
from conftest import import_path

import bleep_sc as bl
from bleep_sc._untrusted import MAX_HEADER
from bleep_sc.io._stored import MAX_CONFIG, parse_config
from bleep_sc.io.upgrade import FORMAT_VERSION
from bleep_sc.models.nets.rules import MAX_CONTEXT, MAX_REPEATS
from bleep_sc.models.nets.serialize import model_from_bytes

pytestmark = pytest.mark.odd

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def good() -> fuzz_model.Good:
    """Small models of three kinds, and what they predict."""
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        return fuzz_model.Good()


@pytest.fixture(scope="module")
def good_today() -> fuzz_model.Good:
    """Models as this version writes them, one with a network in it among them."""
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        return fuzz_model.Good(fuzz_model.STORED / f"v{FORMAT_VERSION}")


def reference(good: fuzz_model.Good, name: str, *, weights: bytes | None = None, config: Any = None) -> AnnData:
    """With other weights or another config, and the checksum that goes with them."""
    entry = good.model(name)
    found = json.loads(entry["config"]) if config is None else config
    if weights is not None:
        entry["model"] = np.frombuffer(weights, dtype=np.uint8).copy()
        found["sha256"] = hashlib.sha256(weights).hexdigest()
    entry["config"] = found if isinstance(found, str) else json.dumps(found)
    return good.ref_with(name, entry)


def is_refused(ref: AnnData, good: fuzz_model.Good, name: str, message: str, *, most_mib: float = 64) -> None:
    """By each way in, within memory, with nothing written; and the models beside it still work."""
    before, query, peak = list(ref.uns), good.query.copy(), fuzz_model.peak_memory()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as caught:
            bl.tl.impute(query, ref, key=name)
        growth = max(tracemalloc.get_traced_memory()[1] / 2**20, fuzz_model.peak_memory() - peak)
    finally:
        tracemalloc.stop()
    assert growth < most_mib, f"memory grew by {growth} MiB"
    text = str(caught.value)
    assert f"`ref.uns['{name}']" in text
    assert len(text) < 1500
    assert any(remedy in text for remedy in ("undamaged copy", "train the model again", "Train it again", "Update"))
    assert list(ref.uns) == before
    assert list(query.layers) == list(good.query.layers)
    assert name not in query.uns
    with pytest.raises(ValueError, match=rf"adata\.uns\['{name}'\]"):
        bl.tl.embed(ref.copy(), key=name)
    other = next(each for each in good.names if each != name)
    np.testing.assert_array_equal(good.predict(ref, other), good.expected[other])


def pack(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file, whose header's length may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def unpack(weights: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", weights[:8])[0]
    return json.loads(weights[8 : 8 + length]), weights[8 + length :]


# --- nothing runs -----------------------------------------------------------------------------------------------------

BANNED_MODULES = {
    *("shelve", "marshal", "dill", "cloudpickle", "joblib", "subprocess", "yaml", "code", "runpy", "imp", "ctypes"),
    *("pickletools", "torch.hub", "pty", "commands"),
}
BANNED_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.spawnv"}


def dangers(source: str) -> list[str]:
    """What in a file could run what another file says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{name}" for name in names)]
            found += [name for name in names if name in BANNED_MODULES or name.split(".")[0] in BANNED_MODULES]
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pickle":
                found.append("from pickle")
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle" and node.attr != "UnpicklingError":
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if name in BANNED_CALLS or name.endswith((".read_pickle", ".load_pickle")):
                found.append(name)
            if name in ("torch.load", "load_state_dict_from_url") and keywords.get("weights_only") != "True":
                found.append(name)
            if (
                keywords.get("allow_pickle", "False") != "False"
                or keywords.get("trust_remote_code", "False") != "False"
            ):
                found.append(name)
    return found


def test_no_source_can_run_what_a_file_says() -> None:
    for path in sorted((ROOT / "src").rglob("*.py")):
        assert not dangers(path.read_text()), path


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle; pickle.load(f)", "from pickle import loads", "import pickle as p, shelve", "import yaml"),
        *("torch.load(path)", "torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "eval('1')"),
        *(
            "exec(text)",
            "import subprocess",
            "from os import path; os.system('ls')",
            "import marshal",
            "pd.read_pickle(p)",
        ),
        *("from joblib import load", "__import__(name)", "AutoModel.from_pretrained(n, trust_remote_code=True)"),
    ],
)
def test_the_search_for_dangers_finds_them(line: str) -> None:
    assert dangers(line)
    assert not dangers(
        "import pickle\ntorch.load(p, weights_only=True)\nmodel.eval()\nexcept_ = pickle.UnpicklingError"
    )


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_in_place_of_weights_is_not_run(protocol: int, good: fuzz_model.Good, tmp_path: Path) -> None:
    bomb = pickle.dumps(fuzz_model.Touch(tmp_path / "ran"), protocol=protocol)
    is_refused(reference(good, "published", weights=bomb), good, "published", "not a safetensors file")
    folder = copied(good, tmp_path)
    (folder / "model.safetensors").write_bytes(bomb)
    resign(folder)
    folder_is_refused(folder, good, r"model\.safetensors'.*not a safetensors file")
    (folder / "config.json").write_bytes(bomb)
    folder_is_refused(folder, good, r"config\.json'.*is not JSON")
    assert not (tmp_path / "ran").exists()
    pickle.loads(bomb)
    assert (tmp_path / "ran").exists(), "the bomb is one"


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors", ".npy"])
def test_a_pickle_given_as_weights_is_not_run(suffix: str, ref: AnnData, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    for save in (torch.save, lambda bomb, to: to.write_bytes(pickle.dumps(bomb, protocol=2))):
        save({"conv1.weight": fuzz_model.Touch(tmp_path / "ran")}, path)
        before = list(ref.uns)
        with pytest.raises(ValueError, match=r"weights=.*plain tensors.*can run code; save it again"):
            bl.tl.fit(ref, method="regressor", encoder="resnet18", weights=str(path), max_epochs=1)
        assert not (tmp_path / "ran").exists()
        assert list(ref.uns) == before


# --- weights ----------------------------------------------------------------------------------------------------------


def first(header: dict[str, Any]) -> str:
    return next(name for name in header if name != "__metadata__")


def set_entry(**changes: Any) -> Callable[[dict[str, Any], bytes], bytes]:
    def change(header: dict[str, Any], data: bytes) -> bytes:
        header[first(header)].update(changes)
        return pack(header, data)

    return change


def as_dtype(dtype: torch.dtype) -> Callable[[dict[str, Any], bytes], bytes]:
    """All tensors in another type, in a file that is sound."""

    def change(header: dict[str, Any], data: bytes) -> bytes:
        from safetensors.torch import load, save

        return save({name: value.to(dtype) for name, value in load(pack(header, data)).items()})

    return change


def changed(edit: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[dict[str, Any], bytes], bytes]:
    """Tensors changed, in a file that is sound."""

    def change(header: dict[str, Any], data: bytes) -> bytes:
        from safetensors.torch import load, save

        state = load(pack(header, data))
        edit(state)
        return save(state)

    return change


def all_over_each_other(header: dict[str, Any], data: bytes) -> bytes:
    for entry in header.values():
        size = entry["data_offsets"][1] - entry["data_offsets"][0]
        entry["data_offsets"] = [0, size]
    return pack(header, data)


def a_gap(header: dict[str, Any], data: bytes) -> bytes:
    for entry in header.values():
        entry["data_offsets"] = [place + 4 for place in entry["data_offsets"]]
    return pack(header, b"\0" * 4 + data)


def twice(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header)
    return pack(("{" + text[1:-1] + ", " + text[1:]).encode(), data)


def many_empty(header: dict[str, Any], data: bytes) -> bytes:
    header |= {f"e{i}": {"dtype": "F32", "shape": [0], "data_offsets": [len(data)] * 2} for i in range(25_000)}
    return pack(header, data)


LYING: dict[str, tuple[Callable[[dict[str, Any], bytes], bytes], str]] = {
    "header longer than the file": (lambda h, d: pack(h, d, length=2**20), "header should be"),
    "header of 2**63": (lambda h, d: pack(h, d, length=2**63), "header should be"),
    "header of all ones": (lambda h, d: b"\xff" * 8 + pack(h, d)[8:], "header should be"),
    "header of no length": (lambda h, d: pack(h, d, length=0), "not JSON"),
    "header a list": (lambda h, d: pack(b"[]"), "no list of tensors"),
    "header not UTF-8": (lambda h, d: pack(b"\xff" * 10, d), "not UTF-8"),
    "header nested": (lambda h, d: pack(b"[" * 100_000 + b"]" * 100_000, d), "nested|parts"),
    "header of 2 MB and more": (
        lambda h, d: pack(b" " * (MAX_HEADER + 1) + json.dumps(h).encode(), d),
        "header should be",
    ),
    "header of 100 MB": (lambda h, d: pack(json.dumps(h).encode() + b" " * 100_000_000, d), "header should be"),
    "25,000 empty tensors": (many_empty, "parts"),
    "names twice": (twice, "twice"),
    "offsets overlap": (all_over_each_other, "overlap"),
    "offsets leave a gap": (a_gap, "gaps"),
    "offsets outside": (set_entry(data_offsets=[2**40, 2**40 + 128]), "overlap|together"),
    "offsets backwards": (set_entry(data_offsets=[128, 0]), "together"),
    "offsets negative": (set_entry(data_offsets=[-128, 0]), "together"),
    "offsets fractions": (set_entry(data_offsets=[0.0, 128.0]), "together"),
    "offsets three": (set_entry(data_offsets=[0, 64, 128]), "together"),
    "offsets a word": (set_entry(data_offsets="ab"), "together"),
    "shape of 2**64 in all": (set_entry(shape=[2**32, 2**32]), "together"),
    "shape wraps round to the right size": (set_entry(shape=[2**31, 2**31, 2**31, 2**31 + 1]), "together"),
    "shape negative": (set_entry(shape=[-4, -8]), "together"),
    "shape of a billion": (set_entry(shape=[10**9]), "together"),
    "shape of a thousand dimensions": (set_entry(shape=[1] * 1000), "together"),
    "shape true": (set_entry(shape=[True]), "together"),
    "shape null": (set_entry(shape=None), "together"),
    "shape beyond float64": (set_entry(shape=[2**53 + 1]), "out of all bounds"),
    "dtype unknown": (set_entry(dtype="F31"), "together"),
    "dtype a list": (set_entry(dtype=["F32"]), "together"),
    "entry a number": (lambda h, d: pack(h | {first(h): 1}, d), "together"),
    "entry without a place": (lambda h, d: pack(h | {first(h): {"dtype": "F32", "shape": []}}, d), "together"),
    "dtype of the same width": (set_entry(dtype="I32"), "do not belong to the config"),
    "float64": (as_dtype(torch.float64), "do not belong to the config"),
    "float16": (as_dtype(torch.float16), "do not belong to the config"),
    "bfloat16": (as_dtype(torch.bfloat16), "do not belong to the config"),
    "whole numbers": (as_dtype(torch.int32), "do not belong to the config"),
    "complex numbers": (as_dtype(torch.complex64), "together"),
    "a tensor more": (changed(lambda s: s.update(more=torch.zeros(3))), "1 are unknown"),
    "a tensor less": (changed(lambda s: s.popitem()), "1 tensors are missing"),
    "a tensor by another name": (changed(lambda s: s.update(other=s.popitem()[1])), "1 tensors are missing.* 1 are"),
    "a tensor transposed": (
        changed(lambda s: s.update({n: v.T.contiguous() for n, v in s.items() if v.ndim == 2 and len(v) != len(v.T)})),
        "do not belong to the config",
    ),
    "NaN": (changed(lambda s: s["image_projection.hidden.weight"].view(-1)[5].fill_(np.nan)), "NaN or infinite"),
    "infinity": (changed(lambda s: s["image_projection.norm.bias"][0].fill_(-np.inf)), "NaN or infinite"),
    "a scale of 0": (changed(lambda s: s["image_encoder.scale"][1].fill_(0)), "'scale'.*too small"),
    "bytes after the end": (lambda h, d: pack(h, d + b"\0" * 16), "lie outside the file"),
    "twice the file": (lambda h, d: pack(h, d) * 2, "lie outside the file"),
}


@pytest.mark.parametrize("case", LYING)
def test_lying_weights_are_refused(case: str, good: fuzz_model.Good) -> None:
    change, message = LYING[case]
    header, data = unpack(good.model("published")["model"].tobytes())
    weights = change(header, data)
    # one copy of the file is made, whatever it says
    most = max(64, 1.5 * len(weights) / 2**20)
    is_refused(reference(good, "published", weights=weights), good, "published", message, most_mib=most)


@pytest.mark.parametrize("name", ["published", "hybrid", "regressor"])
def test_weights_cut_off_anywhere_are_refused(name: str, good: fuzz_model.Good) -> None:
    whole = good.model(name)["model"].tobytes()
    header, data = unpack(whole)
    start = len(whole) - len(data)
    borders = {place + start for entry in header.values() for place in entry.get("data_offsets", ())}
    places = {0, 1, 7, 8, 9, start - 1, start, start + 1, len(whole) - 1, *borders, *(b - 1 for b in borders)} - {
        len(whole)
    }
    for place in sorted(places):
        ref = reference(good, name, weights=whole[:place])
        with pytest.raises(ValueError, match=rf"`ref\.uns\['{name}'\]`: the weights are damaged"):
            bl.tl.impute(good.query.copy(), ref, key=name)
    assert len(places) > 10


@pytest.mark.parametrize("tensor", ["kernel.width", "feature_scale", "context_scale"])
def test_divisors_of_the_hybrid_are_not_0(tensor: str, good: fuzz_model.Good) -> None:
    header, data = unpack(good.model("hybrid")["model"].tobytes())
    weights = changed(lambda s: s[tensor].view(-1)[0].fill_(0))(header, data)
    is_refused(reference(good, "hybrid", weights=weights), good, "hybrid", "too small")


def test_a_negative_variance_is_refused() -> None:
    """As the root of it would be NaN."""
    from bleep_sc.models.nets.kinds import arguments_of
    from bleep_sc.models.nets.serialize import weights_to_bytes

    spec = {
        **{"kind": "regressor", "encoder": "resnet18", "image_size": 32, "n_image_features": None, "n_genes": 2},
        **{"standardize": False, "hidden": None, "rank": None, "dropout": 0.0, "loss": "mse", "symmetries": False},
    }
    with torch.random.fork_rng():
        model = arguments_of(spec).build()
    model_from_bytes(spec, weights_to_bytes(model), where="here")
    model.get_buffer("image_encoder.network.bn1.running_var")[3] = -1
    with pytest.raises(ValueError, match=r"here.*'running_var' of a BatchNorm2d is too small"):
        model_from_bytes(spec, weights_to_bytes(model), where="here")


def test_without_the_right_checksum_nothing_else_is_looked_at(good: fuzz_model.Good) -> None:
    entry = good.model("published")
    entry["model"] = entry["model"].copy()
    entry["model"][-1] ^= 1
    is_refused(good.ref_with("published", entry), good, "published", "checksums differ")


# --- config -----------------------------------------------------------------------------------------------------------


def at(path: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(config: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            config = config[parent]
        config[last] = value

    return change


def without(path: str) -> Callable[[dict[str, Any]], Any]:
    def change(config: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            config = config[parent]
        del config[last]

    return change


def network(name: Any) -> Callable[[dict[str, Any]], Any]:
    """A config that is sound but for the name of its network."""

    def change(config: dict[str, Any]) -> None:
        config["model"] |= {"encoder": name, "image_size": 32, "n_image_features": None, "standardize": False}
        scale = {"size": 32, "size_um": None, "spot_diameters": None}
        config["image"] |= {"kind": "network", "n_features": None, "scale": scale}

    return change


WORDS = ("hf-hub:a/b", "hf_hub:a/b", "timm:hf_hub:a/b", "timm:hf-hub:a/b", "timm:local-dir:/tmp", "timm:resnet18.:a/b")
PATHS = (
    "torch.nn.Linear",
    "os.system",
    "../resnet18",
    "/etc/passwd",
    "resnet18\n",
    "RESNET18",
    "",
    "x" * 5000,
    "__class__",
)
PUBLISHED: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{
        f"network {str(name)[:20]!r}": network(name)
        for name in (*WORDS, *PATHS, "resnet19", "timm:nothing", 5, True, ["a"])
    },
    **{
        f"{part} {value!r}"[:60]: at(f"model.{part}", value)
        for part in ("n_genes", "dim", "n_image_features")
        for value in (10**9, 2**31, 10**18, 10**30, -1, 8.0, "8", True, None, [8], {"a": 8})
    },
    **{
        f"{part} {value!r}": at(part, value)
        for part in ("model.dropout", "model.temperature")
        for value in (-1, float("nan"), float("inf"), "a", None, True, [0.1])
    },
    **{f"no {part}": without(part) for part in ("method", "model", "image", "expression", "units", "model.kind")},
    **{f"no {part}": without(part) for part in ("model.dim", "image.kind", "image.n_features", "expression.layer")},
    **{
        f"{part} {value!r}": at(part, value)
        for part in ("model", "image", "expression", "params", "versions", "spread")
        for value in (None, [], "a", 3, True)
    },
    **{
        f"method {value!r}": at("method", value) for value in ("magic", "knn", "counts", "../x", None, 3, ["bleep"], {})
    },
    **{f"version {value!r}": at("format_version", value) for value in (0, 4, -1, 1.0, True, "1", None, [1], 10**30)},
    "another kind": at("model.kind", "features"),
    "unknown kind": at("model.kind", "os.system"),
    "kind a list": at("model.kind", ["bleep"]),
    "an argument more": at("model.weights", "imagenet"),
    "a class in the model": at("model.__class__", "x"),
    "counts for images": lambda c: (
        c["image"].update(kind="counts", n_features=1) or c["model"].update(n_image_features=1)
    ),
    "places for images": at("image.kind", "place"),
    "crops without a scale": at("image.kind", "color"),
    "image kind unknown": at("image.kind", "pickle"),
    "image key a number": at("image.key", 5),
    "other number of features": at("image.n_features", 7),
    "an argument of expression more": at("expression.name", "x"),
    "layer a number": at("expression.layer", 5),
    "use_rep a list": at("expression.use_rep", ["X"]),
    "units a number": at("units", 5),
    "library_key a list": at("library_key", ["a"]),
    "a list in params": at("params.encoder", ["a"]),
    "a number in versions": at("versions.torch", 2),
    "k of a billion": at("chosen", {"k": 10**9}),
    "k of 0": at("chosen", {"k": 0}),
    "k a word": at("chosen", {"k": "a"}),
    "checksum a number": at("sha256", 5),
    "checksum short": at("sha256", "ab"),
    "number of 5,000 digits": at("more", 10**4000),
    "text with a zero": at("units", "a\0b"),
    "half a surrogate pair": at("units", "\ud800"),
    "nested 20 deep": at("more", [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]),
    "text without end": at("units", "x" * 100_000),
}
HYBRID: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{
        f"{part} {value!r}": at(f"model.{part}", value)
        for part in ("members", "n_landmarks", "n_components", "n_features", "hidden")
        for value in (0, 10**9, -3, 2.0, None, "a", 10**20)
    },
    "members just too many": at("model.members", MAX_REPEATS + 1),
    "context of a million": at("context", 10**6),
    "context true": at("context", True),
    "centers of words": at("centers", {"s1": ["a"]}),
    "centers of huge numbers": at("centers", {"s1": [10**400] * 3}),
    "centers of infinity": at("centers", {"s1": [float("inf")] * 3}),
    "weights a list": at("chosen.weight_linear", [1]),
    "weights negative": at("chosen.weight_linear", -1),
}


@pytest.mark.parametrize(("name", "case"), [("published", c) for c in PUBLISHED] + [("hybrid", c) for c in HYBRID])
@pytest.mark.slow
def test_configs_that_make_no_sense_are_refused(name: str, case: str, good: fuzz_model.Good) -> None:
    config = json.loads(good.model(name)["config"])
    {"published": PUBLISHED, "hybrid": HYBRID}[name][case](config)
    is_refused(reference(good, name, config=config), good, name, rf"^`ref\.uns\['{name}'\]`")


def of_network(**values: Any) -> Callable[[dict[str, Any]], Any]:
    """A config that tells the same of its network wherever it does."""

    def change(config: dict[str, Any]) -> None:
        config["model"]["encoders"][1]["network"] |= values
        record = config["image"]["encoders"][1]
        record["name"] = values.get("name", record["name"])
        record["reading"] |= {name: value for name, value in values.items() if name != "name"}

    return change


def of_width(number: int, value: Any) -> Callable[[dict[str, Any]], Any]:
    """A config in which one encoder has another number of features, and all sums are right where they can be."""

    def change(config: dict[str, Any]) -> None:
        for encoders in (config["model"]["encoders"], config["image"]["encoders"]):
            encoders[number]["n_features"] = value
        if type(value) is int:
            total = sum(encoder["n_features"] for encoder in config["image"]["encoders"])
            config["model"] |= {"n_image_features": total, "n_features": total}
            config["image"]["n_features"] = total

    return change


def encoders(change: Callable[[list[Any]], Any], *parts: str) -> Callable[[dict[str, Any]], Any]:
    """A config with other lists of encoders, in its model, its image or both."""
    return lambda config: [change(config[part]["encoders"]) for part in parts or ("model", "image")]


FUSED: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{
        f"network {str(name)[:20]!r}": of_network(name=name)
        for name in (*WORDS, *PATHS, "color", "resnet19", "resnet18", "timm:nothing", 5, True, None, ["a"])
    },
    **{f"width {value!r}": of_width(0, value) for value in (0, -1, 163, 10**9, 10**30, 2.0, "a", True, None, [8])},
    **{f"width of the network {value!r}": of_width(1, value) for value in (0, 15, 17, 10**9)},
    **{
        f"{part} {str(value)[:20]}": of_network(**{part: value})
        for part in ("view_px", "input_px")
        for value in (0, -1, 9, 10**5, 10**9, 10**30, 8.0, "8", True, None, [8])
        if (part, value) != ("input_px", 9)  # may be
    },
    **{
        f"stages {str(value)[:20]}": of_network(stages=value)
        for value in ([], [1], [0, 1], [7], [-1], [10**9], [0] * 65, [0.0], [True], ["0"], 0, "0", None, {"0": 0})
    },
    **{f"symmetries {value!r}": of_network(symmetries=value) for value in (0, 2, 9, 10**9, -1, 1.0, "1", True, None)},
    "another view in the image": at("image.encoders", [{}]),
    "the network is another encoder's": encoders(lambda found: found.reverse(), "model"),
    "encoders in another order": encoders(lambda found: found.reverse()),
    "an encoder less": encoders(lambda found: found.pop()),
    "an encoder less in the model": encoders(lambda found: found.pop(), "model"),
    "an encoder less in the image": encoders(lambda found: found.pop(), "image"),
    "an encoder twice": encoders(lambda found: found.append(found[1])),
    "ten thousand encoders": encoders(lambda found: found.extend(found[:1] * 10_000)),
    "no encoders": encoders(lambda found: found.clear()),
    "no encoders in the model": encoders(lambda found: found.clear(), "model"),
    "no encoders in the image": encoders(lambda found: found.clear(), "image"),
    "encoders a word": encoders(lambda found: found.insert(0, "color"), "model"),
    "a class in an encoder": encoders(lambda found: found[0].update(__class__="x"), "model"),
    "a class in a network": encoders(lambda found: found[1]["network"].update(__class__="x"), "model"),
    "no network": encoders(lambda found: found[1].update(network=None), "model"),
    "two networks": encoders(lambda found: found[0].update(network=found[1]["network"]), "model"),
    "the network by the user": encoders(lambda found: found[1].update(kind="custom"), "image"),
    "the network by hand": encoders(lambda found: found[1].update(kind="color"), "image"),
    "the colours by a network": encoders(lambda found: found[0].update(kind="network"), "image"),
    "the colours by another program": encoders(lambda found: found[0].update(kind="features"), "image"),
    "both by another program": encoders(
        lambda found: [e.update(kind="features", reading=None) for e in found], "image"
    ),
    "crops of no size": at("image.scale.size", None),
    "other weights, a number": encoders(lambda found: found[1].update(weights=5), "image"),
    "features for crops": at("image.kind", "features"),
    "colours for crops": at("image.kind", "color"),
    "crops for a network": at("image.kind", "network"),
    "the user's": at("image.kind", "custom"),
    "a hybrid": at("model.kind", "hybrid"),
    "smaller crops": at("image.scale.size", 4),
    "no scale": at("image.scale", None),
    "views of half a feature": at("model.n_features", 181),
    "three views": at("model.n_features", 540),
    "a context that was not learned": at("context", 4),
}


@pytest.mark.parametrize("case", FUSED)
def test_configs_of_fused_models_that_make_no_sense_are_refused(case: str, good_today: fuzz_model.Good) -> None:
    """A network is built only under a name and in a size that its weights fill."""
    config = json.loads(good_today.model("fused")["config"])
    FUSED[case](config)
    is_refused(reference(good_today, "fused", config=config), good_today, "fused", r"^`ref\.uns\['fused'\]`")


@pytest.mark.parametrize(
    ("method", "argument", "most"),
    [("bleep", "members", MAX_REPEATS), ("histogene", "depth", MAX_REPEATS), ("bleep", "context", MAX_CONTEXT)],
)
def test_what_fit_allows_can_be_read(method: Any, argument: str, most: int) -> None:
    from bleep_sc.methods.registry import choose

    _, recipe = choose(method, "default", {argument: most})
    assert getattr(recipe, argument) == most
    with pytest.raises(ValueError, match=f"`{argument}` must be at most {most}"):
        choose(method, "default", {argument: most + 1})


TEXTS: dict[str, tuple[Callable[[str], str], str]] = {
    "no JSON": (lambda text: text[:-5], "is not JSON"),
    "empty": (lambda text: "", "is not JSON"),
    "a list": (lambda text: "[]", "does not describe"),
    "null": (lambda text: "null", "does not describe"),
    "nested without end": (lambda text: '{"a":' + "[" * 90_000 + "]" * 90_000 + "," + text[1:], "nested"),
    "a million lists": (lambda text: '{"a": [' + "[]," * 10**6 + "0]," + text[1:], "parts"),
    "a million names": (lambda text: "{" + "".join(f'"{i}" :0,' for i in range(10**6)) + text[1:], "parts"),
    "names twice": (lambda text: '{"method": "mean",' + text[1:], r"name 'method' twice"),
    "names twice within": (lambda text: text.replace('"model": {', '"model": {"dim": 5, "dim": 6, ', 1), "twice"),
    "long": (lambda text: text + " " * MAX_CONFIG, "longer than any model needs"),
    "NaN": (lambda text: '{"a": NaN,' + text[1:], "NaN.*`a`"),
    "infinity": (lambda text: '{"a": {"b": [-Infinity]},' + text[1:], "infinity.*`a.b`"),
    "infinity by digits": (lambda text: '{"a": 1e999,' + text[1:], "infinity.*`a`"),
    "a million digits": (lambda text: '{"a": ' + "9" * 10**6 + "," + text[1:], "out of all bounds at `a`"),
    "two texts": (lambda text: text + text, "is not JSON"),
    "Python": (lambda text: "__import__('os').system('touch ran')", "is not JSON"),
}


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.slow
def test_texts_that_are_no_config_are_refused(case: str, good: fuzz_model.Good) -> None:
    change, message = TEXTS[case]
    text = change(good.model("published")["config"])
    is_refused(reference(good, "published", config=text), good, "published", message, most_mib=128)


def test_the_largest_text_takes_little_memory() -> None:
    """Within the limits, what takes most memory when it is read: short texts. An eighth of the longest, for speed."""
    text = '{"a": [' + '"ab",' * (MAX_CONFIG // 8 // 5) + "0]}"
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="does not describe a model"):
            parse_config(text, where="here")
        assert tracemalloc.get_traced_memory()[1] < 384 * 2**20 / 8
    finally:
        tracemalloc.stop()


PARTS: dict[str, tuple[str, Any]] = {
    "genes a text": ("genes", "g0"),
    "genes with a number": ("genes", np.array([*(f"g{i}" for i in range(7)), 5], dtype=object)),
    "genes of bytes": ("genes", np.array([f"g{i}".encode() for i in range(8)], dtype=object)),
    "genes with None": ("genes", np.array([*(f"g{i}" for i in range(7)), None], dtype=object)),
    "genes twice": ("genes", np.array(["g0"] * 8)),
    "no genes": ("genes", np.array([], dtype=object)),
    "one gene less": ("genes", np.array([f"g{i}" for i in range(7)])),
    "an empty name": ("genes", np.array([*(f"g{i}" for i in range(7)), ""])),
    "a name of a million letters": ("genes", np.array([*(f"g{i}" for i in range(7)), "x" * 10**6], dtype=object)),
    "lists for genes": ("genes", [["g0"], ["g1", "g2"]]),
    "a table of genes": ("genes", np.array([["g0"] * 4] * 2)),
    "long names for many genes": ("genes", np.array([f"{i:0>900}" for i in range(80_000)], dtype=object)),
    "panels a list": ("panels", ["g0"]),
    "a panel of numbers": ("panels", {"HVG-50": np.arange(5)}),
    "a panel with a path": ("panels", {"../x": np.array(["g0"])}),
    "a panel without a name": ("panels", {"": np.array(["g0"])}),
    "ten thousand panels": ("panels", {str(i): np.array(["g0"]) for i in range(10_000)}),
    "history a number": ("history", 5),
    "history of words": ("history", {"train_loss": np.array(["low"])}),
    "history a table": ("history", {"train_loss": np.zeros((2, 2))}),
    "history of two million epochs": ("history", {"train_loss": np.zeros(2 * 10**6)}),
    "model a text": ("model", "weights"),
    "model of floats": ("model", np.zeros(100)),
    "model a table": ("model", np.zeros((10, 10), dtype=np.uint8)),
    "model of objects": ("model", np.array([object()], dtype=object)),
    "model of lists": ("model", [[1], [1, 2]]),
    "model empty": ("model", np.zeros(0, dtype=np.uint8)),
    "config a number": ("config", 5),
    "config a list": ("config", ["{}"]),
}


@pytest.mark.parametrize("case", PARTS)
def test_parts_of_another_type_are_refused(case: str, good: fuzz_model.Good) -> None:
    part, value = PARTS[case]
    entry = good.model("published")
    entry[part] = value
    if case == "model empty":
        entry["config"] = json.dumps(json.loads(entry["config"]) | {"sha256": hashlib.sha256(b"").hexdigest()})
    is_refused(good.ref_with("published", entry), good, "published", r"^`ref\.uns\['published'\]", most_mib=256)


# --- folders ----------------------------------------------------------------------------------------------------------


def copied(good: fuzz_model.Good, place: Path, name: str = "published") -> Path:
    folder = place / "model"
    shutil.copytree(good.folder / name, folder, ignore=shutil.ignore_patterns("*.npy"))
    return folder


def resign(folder: Path, **changes: Any) -> None:
    """Make the checksum right again."""
    config = json.loads((folder / "config.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()
    config |= {"sha256": hashlib.sha256(weights).hexdigest(), **changes}
    (folder / "config.json").write_text(json.dumps(config))


def folder_is_refused(
    folder: Path, good: fuzz_model.Good, message: str, *, error: type[Exception] = ValueError, most_mib: float = 64
) -> None:
    ref = good.ref_with("published", {})
    before, start, peak = list(ref.obsm), time.monotonic(), fuzz_model.peak_memory()
    with pytest.raises(error, match=message) as caught:
        bl.io.read_model(ref, folder, key_added="published")
    assert time.monotonic() - start < 5
    assert fuzz_model.peak_memory() - peak < most_mib
    assert str(folder) in str(caught.value)
    assert "root:" not in str(caught.value), "what a link leads to is shown to nobody"
    assert ref.uns["published"] == {}
    assert list(ref.obsm) == before


def link(to: str) -> Callable[[Path], Any]:
    return lambda path: path.symlink_to(to)


def sparse(gib: int) -> Callable[[Path], Any]:
    def make(path: Path) -> None:
        path.touch()
        os.truncate(path, gib * 2**30)

    return make


def listening(path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # the path of a socket is short


SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a link to a file": (link("/etc/passwd"), "is a link.*put a copy"),
    "a link to a folder": (link("/"), "is a link.*put a copy"),
    "a link to nothing": (link("nowhere"), "is a link.*put a copy"),
    "a link to itself": (link("config.json"), "is a link.*put a copy"),
    "a link out of the folder": (link("../secret"), "is a link.*put a copy"),
    "a link to endless zeros": (link("/dev/zero"), "is a link.*put a copy"),
    "a folder": (Path.mkdir, "is a folder.*write_model"),
    "a pipe": (lambda path: os.mkfifo(path), "is a pipe.*write_model"),
    "a socket": (listening, "is a pipe.*write_model"),
    "10 GiB of nothing": (sparse(10), "bytes long, more than.*undamaged copy"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", ".config.json.next"])
@pytest.mark.parametrize("case", SPOILT)
def test_what_is_no_plain_file_is_refused(
    case: str, name: str, good: fuzz_model.Good, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(good, tmp_path)
    monkeypatch.chdir(folder)
    (tmp_path / "secret").write_text("root:")
    (folder / name).unlink(missing_ok=True)
    make, message = SPOILT[case]
    make(folder / name)
    folder_is_refused(folder, good, message)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_file_that_is_swapped_for_a_pipe_while_it_is_looked_at(
    good: fuzz_model.Good, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bleep_sc import _files
    from bleep_sc.io import _folder

    folder = copied(good, tmp_path)
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    for module in (_files, _folder):
        monkeypatch.setattr(module, "check_plain", lambda path: None)
    folder_is_refused(folder, good, "is no plain file")


def test_a_folder_that_is_a_link_itself_is_the_users_own_choice(good: fuzz_model.Good, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copied(good, tmp_path))
    ref = good.ref_with("published", {})
    bl.io.read_model(ref, tmp_path / "link", key_added="published")
    assert ref.uns["published"]["config"]


FOLDER_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "genes with a path": ({"genes": ["../x"] * 8}, "twice"),
    "genes with a number": ({"genes": [*(f"g{i}" for i in range(7)), 5]}, "`genes` must be a list of gene names"),
    "genes a text": ({"genes": "g0"}, "`genes` must be a list"),
    "one gene less": ({"genes": [f"g{i}" for i in range(7)]}, "another number of genes"),
    "one long name": ({"genes": [*(f"g{i}" for i in range(7)), "x" * 10**6]}, "`genes` must be a list of gene names"),
    "panels that climb out": ({"panels": {"../../x": ["g0"]}}, r"must go by names without '/'"),
    "panels of lists": ({"panels": {"HVG-50": [["g0"]]}}, r"`panels.HVG-50` must be a list of gene names"),
    "history of true": ({"history": {"train_loss": [True]}}, r"`history.train_loss` must be a list of numbers"),
    "history of lists": ({"history": {"train_loss": [[1]]}}, r"`history.train_loss` must be a list of numbers"),
    "history a list": ({"history": []}, "`history` must be a dict"),
    "checksum of another": ({"sha256": "0" * 64}, "checksums differ"),
    "checksum a number": ({"sha256": 5}, "`sha256` of the config must be 64"),
    "no method": ({"method": None}, "`method` of the config must be"),
    "a hub": ({"method": "x" * 20_000}, "`method` of the config must be"),
}


@pytest.mark.parametrize("case", FOLDER_CONFIGS)
def test_configs_of_folders_are_checked(case: str, good: fuzz_model.Good, tmp_path: Path) -> None:
    folder = copied(good, tmp_path)
    changes, message = FOLDER_CONFIGS[case]
    resign(folder, **changes)
    folder_is_refused(folder, good, message)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_may_not_be_read_is_named(
    what: str, good: fuzz_model.Good, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(good, tmp_path)

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    if what == "file":
        monkeypatch.setattr(os, "open", refuse)
    else:
        monkeypatch.setattr(Path, "lstat", refuse)
    folder_is_refused(folder, good, r"may not be read \(Permission denied\).*ask its owner", error=PermissionError)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write all")
def test_permissions_of_a_real_folder(good: fuzz_model.Good, tmp_path: Path) -> None:
    folder = copied(good, tmp_path)
    (folder / "config.json").chmod(0)
    folder_is_refused(folder, good, "may not be read", error=PermissionError)
    (folder / "config.json").chmod(0o600)
    folder.chmod(0o500)
    with pytest.raises(PermissionError, match="may not be written to"):
        bl.io.write_model(good.ref, folder, key="published")
    folder.chmod(0o700)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_folder_that_may_not_be_written_to(
    good: fuzz_model.Good, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        PermissionError, match=r"model' may not be written to \(Permission denied\)\. Name another folder"
    ):
        bl.io.write_model(good.ref, tmp_path / "model", key="published")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b'{"architectures": ["BertModel"]}', b"", b"\xff\xfe", b"[1]", b"[" * 5000])
def test_nothing_is_written_over_what_is_no_model(
    name: str, content: bytes, good: fuzz_model.Good, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileExistsError, match=rf"{name}'.*no part of a model.*not overwritten\. Name another folder"):
        bl.io.write_model(good.ref, tmp_path, key="published")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == content


def test_other_files_are_left_alone(good: fuzz_model.Good, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    bl.io.write_model(good.ref, tmp_path, key="published")
    bl.io.write_model(good.ref, tmp_path, key="hybrid")
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_link_in_place_of_a_file_is_not_written_through(good: fuzz_model.Good, tmp_path: Path) -> None:
    folder, precious = copied(good, tmp_path), tmp_path / "precious"
    precious.write_text("mine")
    for name in ("model.safetensors", "config.json"):
        (folder / name).rename(tmp_path / "kept")
        (folder / name).symlink_to(precious)
        with pytest.raises((ValueError, FileExistsError), match=r"is a link|no part of a model"):
            bl.io.write_model(good.ref, folder, key="hybrid")
        assert precious.read_text() == "mine"
        (tmp_path / "kept").replace(folder / name)
    (folder / ".config.json.next").symlink_to(precious)
    bl.io.write_model(good.ref, folder, key="hybrid")
    assert precious.read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="of other systems")
def test_files_are_as_open_as_the_user_wants(good: fuzz_model.Good, tmp_path: Path) -> None:
    """A temporary file's own mode would lock colleagues out."""
    before = os.umask(0o027)
    try:
        bl.io.write_model(good.ref, tmp_path / "model", key="published")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {0o640}


def what_is_there(folder: Path, good: fuzz_model.Good) -> str | None:
    """Which of the good models a folder holds, whole."""
    ref = good.ref_with("read", {})
    bl.io.read_model(ref, folder, key_added="read")
    held = [name for name in good.names if np.array_equal(ref.uns["read"]["model"], good.model(name)["model"])]
    found, expected = (json.loads(entry["config"]) for entry in (ref.uns["read"], good.model(held[0])))
    assert found == expected, "weights of one model, config of another"
    return held[0]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_a_write_that_fails_anywhere_leaves_a_whole_model(
    error: BaseException, good: fuzz_model.Good, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call to the system fails in turn: the folder holds the earlier model, or the new one."""
    seen: set[str | None] = set()
    for step in range(1, 100):
        folder = tmp_path / str(step)
        bl.io.write_model(good.ref, folder, key="published")
        left = step

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise error
                return original(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for module, name in ((os, "open"), (os, "fsync"), (os, "fdopen"), (Path, "replace")):
                patch.setattr(module, name, counted(getattr(module, name)))
            try:
                bl.io.write_model(good.ref, folder, key="hybrid")
            except BaseException as err:  # noqa: BLE001 - KeyboardInterrupt among them
                assert err is error or isinstance(err.__cause__, type(error))
                seen.add(what_is_there(folder, good))
                # the new one may still have its config under two names
                assert len(list(folder.iterdir())) <= (2 if what_is_there(folder, good) == "published" else 3)
        if left > 0:
            break
    assert step > 10
    assert what_is_there(folder, good) == "hybrid"
    assert {"published"} <= seen <= {"published", "hybrid"}


@pytest.mark.skipif(sys.platform == "win32", reason="of other systems")
@pytest.mark.slow
def test_a_killed_write_leaves_a_whole_model(good: fuzz_model.Good, tmp_path: Path) -> None:
    """The process is killed at every move of a file, without any chance to tidy up."""
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nimport bleep_sc as bl\nimport fuzz_model\n"
        "good = fuzz_model.Good.__new__(fuzz_model.Good)\nimport anndata, numpy as np\n"
        "folder, other = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "ref = anndata.AnnData(np.zeros((2, 2), dtype=np.float32))\nbl.io.read_model(ref, other)\n"
        "move = Path.replace\n"
        "def replace(self, to):\n"
        "    global left\n"
        "    left -= 1\n"
        "    if left == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    found = move(self, to)\n"
        "    left -= 1\n"
        "    if left == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return found\n"
        "Path.replace = replace\n"
        "for n in range(1, 8):\n"
        "    if os.fork() == 0:\n"
        "        left = n\n"
        "        bl.io.write_model(ref, folder / str(n))\n"
        "        os._exit(0)\n"
        "    print(os.wait()[1], end=' ')\n"
    )
    for n in range(1, 8):
        bl.io.write_model(good.ref, tmp_path / str(n), key="published")
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path, good.folder / "hybrid"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | import_path(ROOT / "benchmarks"),
    )
    # three moves of a file, killed before and after each; the seventh run is never killed
    assert run.stdout.split() == [str(int(signal.SIGKILL))] * 6 + ["0"]
    found = [what_is_there(tmp_path / str(n), good) for n in range(1, 8)]
    assert found == ["published"] * 3 + ["hybrid"] * 4
    for n in range(1, 7):  # and the next write sets all right
        bl.io.write_model(good.ref, tmp_path / str(n), key="regressor")
        assert what_is_there(tmp_path / str(n), good) == "regressor"
        assert not (tmp_path / str(n) / ".config.json.next").exists()


# --- the fuzzer -------------------------------------------------------------------------------------------------------


def test_a_short_fuzz_finds_nothing(good: fuzz_model.Good) -> None:
    report = fuzz_model.fuzz(executions=200, seed=1, good=good)
    assert not report.faults, "\n".join(report.faults)
    assert report.outcomes["refused"] > 100
    assert report.outcomes["taken, predicts the same"] > 5, "it only ever breaks everything"


def any_names(values: Any, *, where: str) -> np.ndarray:
    return np.array(values, dtype=str)


HOLES: dict[str, tuple[str, Callable[..., Any], str]] = {
    "no schema": ("bleep_sc.io._schema.check_config", lambda *args, **kwargs: None, "Error"),
    "any names": ("bleep_sc.io._stored.names_from", any_names, "Error|does not name"),
    "any values": ("bleep_sc.models.nets.serialize._check_values", lambda *args: None, "NaN or infinity were taken"),
    "any file": ("bleep_sc._files.check_plain", lambda path: None, "does not name|Error"),
}


@pytest.mark.parametrize("case", HOLES)
@pytest.mark.slow
def test_the_fuzzer_finds_a_hole(case: str, good: fuzz_model.Good, monkeypatch: pytest.MonkeyPatch) -> None:
    place, hole, fault = HOLES[case]
    monkeypatch.setattr(place, hole)
    report = fuzz_model.fuzz(executions=1000, seed=1, good=good, most_faults=1)
    assert report.faults
    assert re.search(fault, report.faults[0])


def test_the_fuzzer_finds_code_that_runs(good: fuzz_model.Good, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpickle(weights: bytes, *, where: str) -> dict[str, Any]:
        if weights[:1] == b"\x80":
            pickle.loads(weights)
        msg = f"{where}: undamaged copy"
        raise ValueError(msg)

    monkeypatch.setattr("bleep_sc.io._stored.tensors_in", unpickle)
    report = fuzz_model.fuzz(executions=1000, seed=2, good=good, most_faults=1)
    assert any("code was run" in fault for fault in report.faults)


def test_the_fuzzers_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz_model.py", "--only", "3", "--seed", "5"])
    assert fuzz_model.main() == 0
    assert "1 executions" in capsys.readouterr().out
    monkeypatch.setattr(fuzz_model, "_judge", lambda *args, **kwargs: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["fuzz_model.py", "--seconds", "1", "--seed", "5"])
    assert fuzz_model.main() == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
