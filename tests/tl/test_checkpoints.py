"""Trainings that are ended and resumed. Run as a script, this file is what two processes run."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from anndata import AnnData
from conftest import import_path, make_sections, never_read, snapshot

import bleep_sc as bl
from bleep_sc.models.train.checkpoints import Checkpoints

pytestmark = pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning")

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak_resume.py"
BLEEP: dict[str, Any] = {"preset": "paper", "image_key": "X_features", "batch_size": 26, "max_epochs": 7, "lr": 0.01}
FITS: dict[str, dict[str, Any]] = {
    # of three batches an epoch, so that its last step is of one alone
    "bleep": BLEEP | {"accumulate": 2},
    "stopped early": BLEEP | {"accumulate": 1, "lr": 0.05, "patience": 2, "max_epochs": 60},
    "no validation": BLEEP | {"validation_share": 0},
    "default": {"image_key": "X_features", "members": 2, "hidden": 16, "max_epochs": 4},
    # convolutions, whose weights lie in memory in an order of their own, and batch normalisation
    "stnet": {
        "method": "stnet",
        "encoder": "timm:test_resnet",
        "weights": None,
        "dropout": 0.3,
        "optimizer": "adam",
        "max_epochs": 4,
    },
    "histogene": {"method": "histogene", "dim": 64, "depth": 1, "lr": 1e-3, "max_epochs": 5},
    "regressor": {
        "method": "regressor",
        "image_key": "X_features",
        "dropout": 0.3,
        "optimizer": "sgd",
        "lr": 0.01,
        "max_epochs": 5,
    },
}


def spots() -> AnnData:
    adata = make_sections()
    pixels = adata.obsm["crops"].reshape(adata.n_obs, -1).astype(np.float32) / 255
    adata.obsm["X_features"] = pixels @ np.random.default_rng(0).normal(size=(pixels.shape[1], 12)).astype(np.float32)
    return adata


def fit(folder: Path | None = None, adata: AnnData | None = None, **arguments: Any) -> AnnData:
    adata = spots() if adata is None else adata
    bl.tl.fit(adata, checkpoint_dir=folder, **arguments)
    return adata


def assert_equal(found: AnnData, expected: AnnData) -> None:
    """To the bit, all that `fit` writes."""
    assert snapshot(found)["obsm"] == snapshot(expected)["obsm"]
    assert snapshot(found)["uns"] == snapshot(expected)["uns"]


class Killed(Exception):
    """What ends a training in these tests."""


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """`with kill_after(n):` ends whatever is trained in it once it has written n checkpoints."""
    write = Checkpoints.write

    def kill(n: int) -> Any:
        written = 0

        def dying(*args: Any) -> None:
            nonlocal written
            write(*args)
            written += 1
            if written == n:
                raise Killed

        monkeypatch.setattr(Checkpoints, "write", dying)
        return Ending()

    class Ending:
        def __enter__(self) -> None:
            self.raises = pytest.raises(Killed)
            self.raises.__enter__()

        def __exit__(self, *error: Any) -> Any:
            monkeypatch.setattr(Checkpoints, "write", write)
            return self.raises.__exit__(*error)

    return kill


@pytest.fixture(scope="module")
def whole() -> Callable[[str], AnnData]:
    """What a training that is left alone gives, without any checkpoints."""
    known: dict[str, AnnData] = {}

    def train(name: str) -> AnnData:
        if name not in known:
            known[name] = fit(**FITS[name])
        return known[name]

    return train


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_a_resumed_training_is_the_same_to_the_bit(
    name: str,
    whole: Callable[[str], AnnData],
    kill_after: Callable[[int], Any],
    tmp_path: Path,
    unchanged: Callable[..., None],
) -> None:
    adata = spots()
    unchanged(adata)
    # of the default recipe in each of its three trainings, of which some may write once more before they end too
    for n in (1, 3, 3) if name == "default" else (1, 2):
        with kill_after(n):
            fit(tmp_path, adata, **FITS[name])
    assert_equal(fit(tmp_path, **FITS[name]), whole(name))
    if name == "stopped early":
        assert len(whole(name).uns["bleep"]["history"]["train_loss"]) < 60, "the test shows nothing"


@pytest.mark.slow
def test_a_finished_training_is_not_repeated(
    whole: Callable[[str], AnnData], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    """Not one epoch of it, or its checkpoint would have been written again."""

    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}

    for name in ("bleep", "stopped early", "default"):
        assert_equal(fit(tmp_path / name, **FITS[name]), whole(name))
    before = written()
    for name in ("bleep", "stopped early", "default"):
        assert_equal(fit(tmp_path / name, **FITS[name]), whole(name))
    assert written() == before
    assert log.text.count("Nothing is left to train") == 3


def test_two_checkpoints_are_kept_and_told_of(
    kill_after: Callable[[int], Any], tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "a" / "b"
    with kill_after(4):
        fit(folder, **FITS["bleep"])
    assert sorted(path.name for path in folder.iterdir()) == [
        "network-00003.safetensors",
        "network-00004.safetensors",
    ]
    assert "Resuming" not in log.text
    fit(folder, **FITS["bleep"])
    assert "Resuming from epoch 5 of 7" in log.text
    assert "for 3 epochs" in log.text


def test_the_bar_begins_where_training_does(kill_after: Callable[[int], Any], tmp_path: Path, capfd: Any) -> None:
    with kill_after(4):
        fit(tmp_path, **FITS["bleep"])
    fit(tmp_path, **FITS["bleep"], progress_bar=True)
    bars = [part for part in capfd.readouterr().err.split("\r") if part.startswith("Training:")]
    assert "4/7" in bars[0]
    assert not any("3/7" in bar for bar in bars)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.odd
@pytest.mark.parametrize("damage", [cut, empty, flip])
@pytest.mark.parametrize("name", ["bleep", "default"])
def test_a_damaged_checkpoint_is_passed_over(
    name: str,
    damage: Callable[[Path], None],
    whole: Callable[[str], AnnData],
    kill_after: Callable[[int], Any],
    tmp_path: Path,
) -> None:
    with kill_after(3) if name == "bleep" else nullcontext():  # of several trainings at once all end somewhere
        fit(tmp_path, **FITS[name])
    before, last = sorted(tmp_path.glob("network-*" if name == "bleep" else "fold1-*"))
    damage(last)
    with pytest.warns(UserWarning, match=rf"{last.name}.* is damaged.*the one before, '{before.name}'") as told:
        found = fit(tmp_path, **FITS[name])
    assert len([each for each in told if "damaged" in str(each.message)]) == 1
    assert_equal(found, whole(name))


@pytest.mark.odd
def test_nothing_whole_is_an_error(
    kill_after: Callable[[int], Any], tmp_path: Path, unchanged: Callable[..., None]
) -> None:
    with kill_after(3):
        fit(tmp_path, **FITS["bleep"])
    for path, damage in zip(sorted(tmp_path.iterdir()), (cut, flip), strict=True):
        damage(path)
    adata = spots()
    unchanged(adata)
    with pytest.raises(ValueError, match=rf"checkpoint_dir='{tmp_path}'.*no checkpoint.*Delete the folder.*another"):
        fit(tmp_path, adata, **FITS["bleep"])


@pytest.mark.odd
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_checkpoints_before(
    call: str,
    whole: Callable[[str], AnnData],
    tmp_path: Path,
    unchanged: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adata = spots()
    unchanged(adata)
    calls = 0
    owner = os if call == "fsync" else Path
    real = getattr(owner, call)

    def full(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(owner, call, full)
        with pytest.raises(OSError, match=r"checkpoint after epoch \d could not be written.*No space left.*before are"):
            fit(tmp_path, adata, **FITS["bleep"])
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"] * 2, "the torn file was left"
    assert_equal(fit(tmp_path, **FITS["bleep"]), whole("bleep"))


@pytest.mark.odd
def test_a_really_limited_disk(tmp_path: Path, unchanged: Callable[..., None]) -> None:
    import resource

    adata = spots()
    unchanged(adata)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"after epoch 1 could not be written.*File too large"):
            fit(tmp_path, adata, **FITS["bleep"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def rename(adata: AnnData) -> None:
    adata.var_names = [f"other{i}" for i in range(adata.n_vars)]


def change(adata: AnnData) -> None:
    adata.X.data[5] += 1e-3


def paint(adata: AnnData) -> None:
    adata.obsm["X_features"][7, 2] += 1e-3


def regroup(adata: AnnData) -> None:
    adata.obs["section"] = np.repeat(["s1", "s2", "s3"], 32)


def nothing(adata: AnnData) -> None:
    pass


def shift(adata: AnnData) -> None:
    adata.obsm["spatial"] += 1


CHANGES: dict[str, tuple[str, Callable[[AnnData], None], dict[str, Any], str]] = {
    "genes": ("bleep", rename, FITS["bleep"], r"the genes changed"),
    "expression": ("bleep", change, FITS["bleep"], r"their expression changed"),
    "features": ("bleep", paint, FITS["bleep"], r"the images changed"),
    "sections": ("default", regroup, FITS["default"], r"the sections changed; the validation spots changed"),
    "places": ("default", shift, FITS["default"], r"the places of the spots changed"),
    "validation": (
        "bleep",
        nothing,
        FITS["bleep"] | {"validation_share": 0.3},
        r"the validation spots changed",
    ),
    "a parameter": ("bleep", nothing, FITS["bleep"] | {"lr": 0.02}, r"`lr` was 0\.01 and is 0\.02"),
    "two": (
        "bleep",
        nothing,
        FITS["bleep"] | {"dim": np.int64(8), "dropout": 0.2},
        r"`dropout` was 0\.1 and is 0\.2; `dim` was 256 and is 8",
    ),
    "seed": ("bleep", nothing, FITS["bleep"] | {"random_state": 1}, r"`random_state` was 0 and is 1.*"),
    "precision": (
        "bleep",
        nothing,
        FITS["bleep"] | {"precision": "bf16-mixed"},
        r"`precision` was '32-true' and is 'bf16-mixed'",
    ),
    "method": ("bleep", nothing, FITS["regressor"], r"`method` was 'bleep' and is 'regressor'.*"),
    "recipe": ("bleep", nothing, FITS["default"], r".*`members` was None and is 2.*"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders with the checkpoints of some epochs."""
    folders: dict[str, Path] = {}

    def begin(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("begun")
            fit(folders[name], **(FITS[name] | {"max_epochs": 2}))
        return folders[name]

    return begin


@pytest.mark.odd
@pytest.mark.parametrize("case", CHANGES)
def test_another_training_is_refused_by_what_changed(
    case: str, begun: Callable[[str], Path], unchanged: Callable[..., None]
) -> None:
    name, damage, arguments, message = CHANGES[case]
    adata = spots()
    if damage is not None:
        damage(adata)
    unchanged(adata)
    folder = begun(name)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    path = re.escape(repr(str(folder)))
    with pytest.raises(
        ValueError, match=rf"`checkpoint_dir={path}` has checkpoints of another training: {message}\. Pass"
    ):
        fit(folder, adata, **arguments)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.odd
@pytest.mark.usefixtures("torch_seeded")
def test_other_first_weights_are_refused(tmp_path: Path, ref: AnnData) -> None:
    from safetensors.torch import save_file

    from bleep_sc.models.encoders.networks import build_network

    file = tmp_path / "weights.safetensors"
    for expected in (None, "the file of first weights changed"):
        network = build_network("timm:test_resnet", image_size=16, weights=None)
        save_file({name: value.contiguous() for name, value in network.network.state_dict().items()}, file)
        arguments = FITS["stnet"] | {"weights": file, "max_epochs": 1}
        if expected is None:
            fit(tmp_path / "run", ref.copy(), **arguments)
        else:
            with pytest.raises(ValueError, match=expected):
                fit(tmp_path / "run", ref.copy(), **arguments)


@pytest.mark.odd
def test_other_versions_are_warned_of(
    whole: Callable[[str], AnnData], kill_after: Callable[[int], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, kill_after(2):
        patch.setattr("bleep_sc.tl._fingerprint.version", lambda name: "0.0.7")
        fit(tmp_path, **FITS["bleep"])
    with pytest.warns(UserWarning, match=r"was written with bleep-sc 0\.0\.7, torch 0\.0\.7; this is.*last digits"):
        found = fit(tmp_path, **FITS["bleep"])
    assert_equal(found, whole("bleep"))


@pytest.mark.odd
def test_another_format_is_refused(
    kill_after: Callable[[int], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kill_after(2):
        fit(tmp_path, **FITS["bleep"])
    monkeypatch.setattr("bleep_sc.models.train.checkpoints._FORMAT", "2")
    with pytest.raises(ValueError, match=r"its format is '1', not '2'.*another `checkpoint_dir`"):
        fit(tmp_path, **FITS["bleep"])


def test_lazy_crops_are_told_apart_without_reading_them(
    ref: AnnData, tmp_path: Path, kill_after: Callable[[int], Any]
) -> None:
    crops = ref.obsm["crops"]
    ref.obsm["crops"] = da.from_array(crops, chunks=(16, -1, -1, -1))
    with kill_after(1):
        fit(tmp_path, ref.copy(), **FITS["stnet"])
    ref.obsm["crops"] = never_read(crops)
    with pytest.raises(pytest.fail.Exception, match="the crops were read"):  # it goes on: they are taken for the same
        fit(tmp_path, ref.copy(), **FITS["stnet"])
    for record in ref.uns["crops"].values():
        record["source"] = "another.tif"
    with pytest.raises(ValueError, match=r"the images changed"):
        fit(tmp_path, ref, **FITS["stnet"])


def test_a_checksum_does_not_depend_on_the_parts_it_is_read_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from bleep_sc.tl._fingerprint import digest

    array = np.random.default_rng(0).normal(size=(50, 6))
    expected = digest([array])
    monkeypatch.setattr("bleep_sc.tl._fingerprint._BLOCK", 200)
    assert digest([np.asfortranarray(array)]) == expected
    array[49, 5] = np.nextafter(array[49, 5], 9)
    assert digest([array]) != expected
    assert digest([np.array(["ab", "c"])]) != digest([np.array(["a", "bc"])])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bleep", "default"])
def test_more_epochs_go_on_from_the_last_one(name: str, whole: Callable[[str], AnnData], tmp_path: Path) -> None:
    fit(tmp_path, **(FITS[name] | {"max_epochs": 2}))
    assert_equal(fit(tmp_path, **FITS[name]), whole(name))


@pytest.mark.slow
def test_fewer_epochs_give_the_best_one(whole: Callable[[str], AnnData], tmp_path: Path) -> None:
    name = "stopped early"
    fit(tmp_path, **FITS[name])
    best = int(whole(name).uns["bleep"]["history"]["best_epoch"][0]) + 1
    shorter = FITS[name] | {"max_epochs": best}
    assert_equal(fit(tmp_path, **shorter), fit(**shorter))
    with pytest.raises(ValueError, match=rf"`max_epochs={best - 1}`.*those of epoch {best}.*another `checkpoint_dir`"):
        fit(tmp_path, **(shorter | {"max_epochs": best - 1}))


@pytest.mark.odd
@pytest.mark.parametrize("method", ["ridge", "knn", "mean", "counts", "coordinates"])
def test_methods_without_epochs_refuse_it(
    method: Any, ref: AnnData, tmp_path: Path, unchanged: Callable[..., None]
) -> None:
    unchanged(ref)
    with pytest.raises(ValueError, match=rf"`method='{method}'` is solved at once.*leave `checkpoint_dir` out"):
        fit(tmp_path / "new", ref, method=method)
    assert not (tmp_path / "new").exists()


@pytest.mark.odd
def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"is a file: name a folder"):
        fit(tmp_path / "file", **FITS["bleep"])


@pytest.fixture
def at_batch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[torch.Tensor], Any]], None]:
    """`at_batch(n, do)` changes the n-th loss that BLEEP computes from now on."""
    from bleep_sc.models.nets.bleep import Bleep

    loss = Bleep.loss

    def plan(n: int, do: Callable[[torch.Tensor], Any]) -> None:
        calls = 0

        def changed(self: Any, batch: Any) -> Any:
            nonlocal calls
            calls += 1
            value = loss(self, batch)
            return do(value) if calls == n else value

        monkeypatch.setattr(Bleep, "loss", changed)

    return plan


def test_a_diverged_training_tells_how_to_get_its_best_weights(
    at_batch: Callable[..., None], tmp_path: Path, unchanged: Callable[..., None]
) -> None:
    adata = spots()
    unchanged(adata)
    arguments = FITS["stopped early"] | {"lr": 0.01}
    for folder, told in ((None, r"gives them\."), (tmp_path, "at once from the checkpoints")):
        at_batch(18, lambda value: value * float("nan"))  # three batches and one for validation an epoch: the fifth
        with pytest.raises(FloatingPointError, match=rf"nan.*at epoch 5: training diverged.*`max_epochs=4`.*{told}"):
            fit(folder, adata, **arguments)
    shorter = arguments | {"max_epochs": 4}
    at_batch(0, lambda value: value)
    expected = fit(**shorter)
    at_batch(1, lambda value: pytest.fail("it was trained again"))
    assert_equal(fit(tmp_path, **shorter), expected)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Python's own handlers, whatever the tests were started with."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.usefixtures("handlers")
def test_ctrl_c_says_how_to_go_on(
    at_batch: Callable[..., None],
    whole: Callable[[str], AnnData],
    tmp_path: Path,
    unchanged: Callable[..., None],
    log: pytest.LogCaptureFixture,
) -> None:
    adata = spots()
    unchanged(adata)
    told = {
        None: r"Interrupted after epoch 3 of 7. Pass `checkpoint_dir` to be able to go on, or `max_epochs=1` to stop",
        tmp_path: r"Interrupted after epoch 3 of 7. The same call goes on from epoch 4",
    }
    for folder, message in told.items():
        at_batch(14, lambda value: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            fit(folder, adata, **FITS["bleep"])
        assert message in log.text
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    at_batch(0, lambda value: value)
    assert_equal(fit(tmp_path, **FITS["bleep"]), whole("bleep"))
    assert "Resuming from epoch 4 of 7" in log.text


@pytest.mark.slow
@pytest.mark.usefixtures("handlers")
def test_ctrl_c_ends_all_trainings_at_once(
    whole: Callable[[str], AnnData],
    tmp_path: Path,
    unchanged: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    """The default recipe trains several small models at once; the same call goes on with each of them."""
    from bleep_sc.models.nets.joint import JointSpace

    adata, loss, trained, interrupted = spots(), JointSpace.loss, set(), threading.Event()
    both_begin = threading.Barrier(2, timeout=60)
    unchanged(adata)

    def interrupting(self: Any, batch: Any) -> Any:
        if id(self) not in trained:
            trained.add(id(self))
            both_begin.wait()
        if not interrupted.is_set():
            interrupted.set()
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.2)
        return loss(self, batch)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # which would keep `fit` to fewer
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(JointSpace, "loss", interrupting)
            with pytest.raises(KeyboardInterrupt):
                fit(tmp_path, adata, **FITS["default"])
        assert log.text.count("Interrupted after epoch") == 2
        assert not [thread for thread in threading.enumerate() if "at-once" in thread.name]
        assert_equal(fit(tmp_path, **FITS["default"]), whole("default"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("handlers")
def test_sigterm_is_left_to_the_user(at_batch: Callable[..., None], tmp_path: Path) -> None:
    """By default it ends the process, as the runs below see; a handler is called, and what it raises comes out."""
    seen: list[Any] = []

    def look(value: torch.Tensor) -> torch.Tensor:
        seen.append(signal.getsignal(signal.SIGTERM))
        return value

    at_batch(2, look)
    fit(**FITS["bleep"])
    assert seen == [signal.SIG_DFL]

    def leave(*args: object) -> None:
        sys.exit(7)

    signal.signal(signal.SIGTERM, leave)
    at_batch(14, lambda value: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as left:
        fit(tmp_path, **FITS["bleep"])
    assert left.value.code == 7
    assert signal.getsignal(signal.SIGTERM) is leave
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cluster_changes_nothing(
    at_batch: Callable[..., None], whole: Callable[[str], AnnData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning would unpickle what another program left in the working directory, and take signals for itself."""
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"of another program")
    monkeypatch.chdir(tmp_path)
    job = {"NTASKS": "4", "JOB_NAME": "job", "JOB_ID": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    seen: list[Any] = []

    def look(value: torch.Tensor) -> torch.Tensor:
        seen.append(signal.getsignal(signal.SIGUSR1))
        return value

    at_batch(2, look)
    assert_equal(fit(**FITS["bleep"]), whole("bleep"))
    assert seen == [signal.getsignal(signal.SIGUSR1)]
    assert [path.name for path in tmp_path.iterdir()] == ["hpc_ckpt_1.ckpt"]


def soak(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SOAK), *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_many_real_kills() -> None:
    """Four of each case, which one process forks."""
    told = soak("--kills", "19", "--seed", "1")
    assert "during a write" in told
    assert "all equal to the bit" in told


@pytest.mark.slow
def test_two_processes_resume_what_two_began(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | import_path(Path(__file__).parents[1]),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in tmp_path.glob("*.equal")) == ["0.equal", "1.equal"]
    assert done.stderr.count("Resuming from epoch 3 of 5") == 1


if __name__ == "__main__":
    bl.settings.progress_bar = False
    arguments = BLEEP | {"dropout": 0.3, "accumulate": 1, "devices": 2, "strategy": "ddp", "device": "cpu"}
    home = Path(sys.argv[1])
    expected = fit(**(arguments | {"max_epochs": 5}))
    fit(home / "run", **(arguments | {"max_epochs": 2}))
    assert_equal(fit(home / "run", **(arguments | {"max_epochs": 5})), expected)
    (home / f"{torch.distributed.get_rank()}.equal").touch()
