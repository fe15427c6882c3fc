"""Damage good models on purpose, in thousands of ways, and see that each is refused or does no harm.

    python benchmarks/fuzz_model.py --seconds 300 --seed 0

Weights lose, gain and change bytes, their header is edited, values of the config are replaced, files of a folder become
links or pipes; mostly the checksum is then made right again, as an attacker would. A damaged model must be refused with
one clear error, or predict without another exception. Also watched for: memory, time, anything half-stored, and code
that a pickle would run. It reads the small models that lie under `tests/io/stored`. The exit code is 1 if anything was
found; `--only` runs one case again.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import pickle  # nosec B403 - it makes bombs, and never lights one
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

import bleep_sc as bl
from bleep_sc._checks import MissingKeyError

STORED = Path(__file__).parents[1] / "tests" / "io" / "stored"
MOST_GROWTH = 256
"""MiB that a single case may add to the process."""
MOST_SECONDS = 10.0

Model = dict[str, Any]
"""As it stands in `uns`."""

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 63, 65, 10**6, 10**9, 2**31, 2**53, 2**63, 10**30, -(10**30)),
    *(0.0, -0.5, 0.5, 1.5, 1e300, float("nan"), float("inf"), float("-inf")),
    *("", "a", "color", "hybrid", "bleep", "regressor", "features", "histogene", "network", "custom", "place"),
    *(
        "counts",
        "knn",
        "ridge",
        "mean",
        "resnet18",
        "timm:resnet10t",
        "hf-hub:a/b",
        "timm:hf_hub:a/b",
        "timm:resnet18.:a",
    ),
    *("torch.nn.Linear", "os.system", "../x", "/etc/passwd", "a/b", "__class__", "\0", "\ud800", "x" * 20_000, "g0"),
    *([], {}, [None], [[]], [1, "a"], ["g0", "g0"], {"a": 1}, {"": {}}, {"a/b": [1]}, {"k": 10**9}, {"__proto__": 1}),
    [float("nan")] * 3,
    ["x" * 5_000] * 3,
    list(range(100)),
    {str(i): i for i in range(50)},
)


class Touch:
    """A pickle of it makes a file wherever it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@dataclass
class Report:
    """What came of it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    growth: int = 0
    """MiB that the process grew by, beyond the good models."""

    @property
    def executions(self) -> int:
        """Cases that were run."""
        return sum(self.targets.values())

    def __str__(self) -> str:
        lines = [f"{self.executions} executions ({', '.join(f'{n} {name}' for name, n in self.targets.items())})"]
        lines += [f"{n:>9} {name}" for name, n in self.outcomes.most_common()]
        lines += [f"memory grew by {self.growth} MiB", f"{len(self.faults)} faults"]
        return "\n".join([*lines, *self.faults[:20]])


class Good:
    """The undamaged models, and what they predict."""

    def __init__(self, folder: Path = STORED / "v1") -> None:
        spec = importlib.util.spec_from_file_location("make_stored", STORED / "make.py")
        if spec is None or spec.loader is None:
            msg = f"{STORED / 'make.py'} is not there: run this from a checkout."
            raise FileNotFoundError(msg)
        stored = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(stored)
        self.folder = folder
        self.names = tuple(name for name in stored.MODELS | stored.ADDED if (folder / name).is_dir())
        self.ref, self.query = stored.load(folder)
        self.expected = {}
        for name in self.names:
            bl.io.read_model(self.ref, folder / name, key_added=name)
            if name not in ("regressor", "ridge"):
                bl.tl.embed(self.ref, key=name)
            self.expected[name] = self.predict(self.ref, name)

    def predict(self, ref: AnnData, name: str) -> np.ndarray:
        """What a model makes of the query."""
        found = bl.tl.impute(self.query, ref, key=name, k=None if name == "hybrid" else 5, copy=True)
        return np.asarray(found.layers[name])

    def model(self, name: str) -> Model:
        """A copy of a good model, whose parts may be replaced."""
        entry = self.ref.uns[name]
        return {part: dict(value) if isinstance(value, dict) else value for part, value in entry.items()}

    def ref_with(self, name: str, entry: Model) -> AnnData:
        """The reference with a damaged model beside the good ones."""
        ref = AnnData(self.ref.X, obs=self.ref.obs, var=self.ref.var, obsm=dict(self.ref.obsm))
        ref.uns.update({**self.ref.uns, name: entry})
        return ref


def fuzz(
    *,
    seconds: float = np.inf,
    executions: float = np.inf,
    seed: int = 0,
    first: int = 0,
    most_faults: float = np.inf,
    good: Good | None = None,
) -> Report:
    """Run cases until the time or their number is spent, or so much is found; each has a seed of its own."""
    report, good = Report(), good or Good()
    end, start = time.monotonic() + seconds, peak_memory()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as place, _quiet():
        warnings.simplefilter("ignore")
        for i in range(first, sys.maxsize):
            if time.monotonic() > end or report.executions >= executions or len(report.faults) >= most_faults:
                break
            _one(np.random.default_rng([seed, i]), good, Path(place), report, label=f"--seed {seed} --only {i}")
    report.growth = peak_memory() - start
    return report


def _one(rng: np.random.Generator, good: Good, place: Path, report: Report, *, label: str) -> None:
    name = str(rng.choice(good.names))
    target = str(rng.choice(list(TARGETS), p=[0.6, 0.25, 0.15]))
    canary, before, began = place / "ran", peak_memory(), time.monotonic()
    report.targets[target] += 1
    problem = ""
    try:
        outcome = TARGETS[target](rng, good, name, place, canary)
    except Harm as harm:
        outcome, problem = "harm", str(harm)
    except Exception as err:  # noqa: BLE001 - whatever it is, it is what is looked for
        outcome, problem = "another exception", "".join(traceback.format_exception(err)[-3:])
    report.outcomes[outcome] += 1
    if canary.exists():
        canary.unlink()
        problem += " code was run"
    if (growth := peak_memory() - before) > MOST_GROWTH:
        problem += f" memory grew by {growth} MiB"
    if (took := time.monotonic() - began) > MOST_SECONDS:
        problem += f" it took {took:.0f} s"
    if problem:
        report.faults.append(f"{label} ({target}, {name}): {problem}")


class Harm(Exception):
    """A damaged model was taken, and something came of it that should not."""


def _in_uns(rng: np.random.Generator, good: Good, name: str, place: Path, canary: Path) -> str:
    """A reference that someone sent."""
    entry = damaged(rng, good.model(name), canary)
    ref = good.ref_with(name, entry)
    return _judge(good, ref, name, f"ref.uns['{name}']", same=_as_before(entry, good.model(name)))


def _in_folder(rng: np.random.Generator, good: Good, name: str, place: Path, canary: Path) -> str:
    """A folder that someone sent."""
    folder = place / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    entry = good.model(name)
    if rng.random() < 0.7:
        entry = damaged(rng, entry, canary)
    write_folder(folder, entry)
    if rng.random() < 0.5:
        _spoil_folder(rng, folder, place)
    ref = good.ref_with(name, good.model(name))
    del ref.uns[name]
    try:
        bl.io.read_model(ref, folder, key_added=name)
    except (ValueError, FileNotFoundError) as err:
        if name in ref.uns or str(folder) not in str(err):
            msg = f"half-stored, or the error does not name the folder: {err}"
            raise Harm(msg) from err
        return "refused"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for key, embedding in good.ref.obsm.items():  # those of another model were removed
        ref.obsm[key] = embedding
    return _judge(good, ref, name, f"ref.uns['{name}']", same=_as_before(ref.uns[name], good.model(name)))


def _directly(rng: np.random.Generator, good: Good, name: str, place: Path, canary: Path) -> str:
    """The two readers by themselves, which get anything at all."""
    from bleep_sc.io._stored import parse_config
    from bleep_sc.models.nets.serialize import model_from_bytes

    config = json.loads(good.model(name)["config"])
    weights = good.model(name)["model"].tobytes()
    try:
        if rng.random() < 0.5:
            text = rng.bytes(int(rng.integers(200))).decode("latin-1") if rng.random() < 0.2 else ""
            parse_config(text or json_text(rng, edited(rng, config)), where="here")
        else:
            spec = edited(rng, config["model"]) if rng.random() < 0.5 else config["model"]
            spec = spec if isinstance(spec, dict) else config["model"]
            _check_finite(model_from_bytes(spec, spoiled(rng, weights, canary), where="here"))
    except ValueError as err:
        if not str(err).startswith("here"):
            msg = f"the error does not say where: {err}"
            raise Harm(msg) from err
        return "refused"
    return "taken"


TARGETS: dict[str, Callable[[np.random.Generator, Good, str, Path, Path], str]] = {
    "uns": _in_uns,
    "folder": _in_folder,
    "direct": _directly,
}


def _judge(good: Good, ref: AnnData, name: str, where: str, *, same: bool) -> str:
    from bleep_sc.io._trained import load_model

    state = list(ref.uns)
    try:
        _check_finite(load_model(ref, name)[1].model)
    except (ValueError, MissingKeyError) as err:
        if where not in str(err):
            msg = f"the error does not name `{where}`: {err}"
            raise Harm(msg) from err
        if same:
            msg = f"a good model was refused: {err}"
            raise Harm(msg) from err
        return "refused"
    try:
        found = good.predict(ref, name)
    except (ValueError, MissingKeyError) as err:
        if same:
            msg = f"a good model did not predict: {err}"
            raise Harm(msg) from err
        return "taken, does not fit the data"
    if list(ref.uns) != state or found.shape != (good.query.n_obs, good.query.n_vars):
        msg = "the reference was changed, or the prediction has another shape"
        raise Harm(msg)
    if np.allclose(found, good.expected[name], atol=1e-5, equal_nan=True):
        return "taken, predicts the same"
    if same:
        msg = "a good model predicts something else"
        raise Harm(msg)
    # a gene that a regression does not name is NaN by contract
    named = np.isin(good.query.var_names, np.asarray(ref.uns[name]["genes"]).astype(str))
    if not np.isfinite(found[:, named | ~np.isnan(found).all(axis=0)]).all():
        msg = "a model was taken that predicts NaN"
        raise Harm(msg)
    return "taken, is another model"


def _check_finite(model: Any) -> None:
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            msg = f"weights {name!r} with NaN or infinity were taken"
            raise Harm(msg)


def _as_before(entry: Model, good: Model) -> bool:
    return list(entry) == list(good) and all(_alike(entry[part], good[part]) for part in good)


def _alike(a: Any, b: Any) -> bool:
    if isinstance(b, dict):
        return isinstance(a, dict) and list(a) == list(b) and all(_alike(a[name], b[name]) for name in b)
    if isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


def damaged(rng: np.random.Generator, entry: Model, canary: Path) -> Model:
    """A model with one or two things wrong."""
    for _ in range(int(rng.integers(1, 3))):
        match rng.choice(["weights", "config", "config", "part"]):
            case "weights":
                weights = spoiled(rng, _bytes(entry["model"]), canary)
                entry["model"] = np.frombuffer(weights, dtype=np.uint8).copy()
                if rng.random() < 0.8:
                    entry["config"] = _signed(entry["config"], weights)
            case "config":
                entry["config"] = json_text(rng, edited(rng, _parsed(entry["config"])))
            case "part":
                part = str(rng.choice(["model", "genes", "history", "panels", "config"]))
                entry[part] = _other_part(rng, entry.get(part))
    return entry


def _other_part(rng: np.random.Generator, part: Any) -> Any:
    """Something else, or the same with something wrong; as lists and as arrays."""
    value = edited(rng, {"part": _plain(part)}) if isinstance(part, dict | np.ndarray) and rng.random() < 0.5 else {}
    value = value.get("part", _pick(rng))
    if isinstance(value, list) and rng.random() < 0.7:
        found = np.empty(len(value), dtype=object)
        found[:] = value
        return found
    return value


def spoiled(rng: np.random.Generator, weights: bytes, canary: Path) -> bytes:
    """Bytes of a safetensors file with something wrong."""
    found = bytearray(weights)
    length = min(int.from_bytes(weights[:8], "little"), len(weights) - 12)
    match rng.integers(10):
        case 0:
            for _ in range(int(rng.integers(1, 8))):
                found[int(rng.integers(len(found)))] ^= 1 << int(rng.integers(8))
        case 1:
            del found[int(rng.integers(len(found))) :]
        case 2:
            found += rng.bytes(int(rng.integers(1, 64)))
        case 3:
            at = int(rng.integers(len(found)))
            found[at:at] = rng.bytes(int(rng.integers(1, 64)))
        case 4:
            found[:8] = int(rng.choice([0, 1, 2**20, 2**27, 2**40, 2**63 - 1, len(found), len(found) - 8])).to_bytes(
                8, "little"
            )
        case 5:
            return pickle.dumps(Touch(canary))
        case 6:
            values = np.frombuffer(weights[8 + length :][: (len(weights) - 8 - length) // 4 * 4], np.float32).copy()
            values[int(rng.integers(len(values)))] = rng.choice([np.nan, np.inf, -np.inf, 0.0, -1.0, 3e38, 1e-40])
            return weights[: 8 + length] + values.tobytes()
        case _:
            header = json_text(rng, edited(rng, _parsed(weights[8 : 8 + length]))).encode(errors="surrogatepass")
            return len(header).to_bytes(8, "little") + header + weights[8 + length :]
    return bytes(found)


def edited(rng: np.random.Generator, tree: Any) -> Any:
    """JSON with one to three values replaced, renamed or left out."""
    tree = json.loads(json.dumps(tree))
    for _ in range(int(rng.integers(1, 4))):
        places = [place for place in _places(tree) if place[1] is not None]
        if not places:
            return tree
        parent, key = places[int(rng.integers(len(places)))]
        match rng.integers(6):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[str(_pick(rng))[:50]] = parent.pop(key)
            case 2:
                other_parent, other = places[int(rng.integers(len(places)))]
                parent[key] = json.loads(json.dumps(other_parent[other])) if other in _keys(other_parent) else None
            case 3 if isinstance(parent[key], int | float):
                parent[key] = parent[key] * int(rng.choice([-1, 0, 2, 10**3, 10**9])) + int(rng.integers(-1, 2))
            case _:
                parent[key] = _pick(rng)
    return tree


def json_text(rng: np.random.Generator, tree: Any) -> str:
    """As text, now and then with what a writer of JSON would not write."""
    text = json.dumps(tree)
    match rng.integers(30):
        case 0:
            return text.replace("{", '{"method": "bleep", "method": "mean", ', 1)
        case 1:
            depth = int(rng.choice([20, 2_000, 100_000]))
            return text.replace("{", '{"deep": ' + "[" * depth + "]" * depth + ", ", 1)
        case 2:
            return text.replace("{", '{"many": [' + "[]," * 200_000 + "0], ", 1)
        case 3:
            return text.replace("{", '{"digits": ' + "9" * 100_000 + ", ", 1)
        case 4:
            at = int(rng.integers(len(text)))
            return text[:at] + chr(int(rng.integers(1, 0x3000))) + text[at + 1 :]
        case 5:
            return text[: int(rng.integers(len(text)))]
    return text


def write_folder(folder: Path, entry: Model) -> None:
    """A model folder, with whatever is in the entry."""
    config = _parsed(entry.get("config"))
    if isinstance(config, dict):
        for part in ("genes", "panels", "history"):
            config[part] = _plain(entry.get(part))
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8", errors="surrogatepass")
    (folder / "model.safetensors").write_bytes(_bytes(entry["model"]))


def _spoil_folder(rng: np.random.Generator, folder: Path, place: Path) -> None:
    path = folder / str(rng.choice(["model.safetensors", "config.json", ".config.json.next"]))
    path.unlink(missing_ok=True)
    match rng.integers(7):
        case 0:
            path.symlink_to(rng.choice(["/etc/passwd", "/", "nowhere", "../model", "/dev/zero"]))
        case 1:
            path.mkdir()
        case 2 if hasattr(os, "mkfifo"):
            os.mkfifo(path)
        case 3:
            path.touch()
            os.truncate(path, 10 * 2**30)
        case 4:
            path.write_bytes(rng.bytes(int(rng.integers(500))))
        case 5:
            path.write_bytes(pickle.dumps(Touch(place / "ran")))


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in _keys(tree):
        yield tree, key
        yield from _places(tree[key])


def _keys(tree: Any) -> list[Any]:
    # of long lists some: else all edits would fall into them
    return list(tree) if isinstance(tree, dict) else list(range(min(len(tree), 3))) if isinstance(tree, list) else []


def _pick(rng: np.random.Generator) -> Any:
    return json.loads(json.dumps(NASTY[int(rng.integers(len(NASTY)))]))


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}


def _signed(config: Any, weights: bytes) -> Any:
    """With the checksum made right, as an attacker would."""
    found = _parsed(config)
    return json.dumps({**found, "sha256": hashlib.sha256(weights).hexdigest()}) if isinstance(found, dict) else config


def _bytes(weights: Any) -> bytes:
    fine = isinstance(weights, np.ndarray) and weights.dtype == np.uint8 and weights.size > 16
    return weights.tobytes() if fine else bytes(32)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def peak_memory() -> int:
    """Most memory that the process has had so far, MiB."""
    try:
        import resource
    except ImportError:  # Windows, where memory is not watched
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


@contextmanager
def _quiet() -> Iterator[None]:
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of a case")
    arguments = parser.parse_args()
    if arguments.only is None:
        report = fuzz(seconds=arguments.seconds, seed=arguments.seed)
    else:
        report = fuzz(executions=1, seed=arguments.seed, first=arguments.only)
    print(report)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
