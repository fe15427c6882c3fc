"""The model that a command predicts with, and what is asked of it before any image is read."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anndata import AnnData

from bleep_sc import io
from bleep_sc._checks import check_int, check_key_added
from bleep_sc._cli.refused import Refused, spelt
from bleep_sc._cli.tissue import check_there, read_tissue

REF, MODEL = "--ref", "--model"


def read_ref(arguments: argparse.Namespace, key: str) -> AnnData:
    """Read the reference, or the model alone as a reference without spots."""
    if arguments.ref is not None:
        return read_tissue(arguments.ref, what=REF)
    return _read_slim(arguments.model, key)


def said_ref(arguments: argparse.Namespace) -> str:
    """Name the reference as the user did."""
    return str(arguments.model if arguments.ref is None else arguments.ref)


def _read_slim(folder: str, key: str) -> AnnData:
    """Read a model that travels without its reference."""
    check_there(folder, what=MODEL)
    if not Path(folder).is_dir():
        msg = f"{MODEL} {folder}: is a file; a model is a folder. A reference goes to {REF}."
        raise Refused(msg)
    with spelt({"path": MODEL}):
        return io.read_slim_model(folder, key_added=key)


def check_model(ref: AnnData, key: str, *, what: str) -> Any:
    """Return the stored model; refuse a file that holds none."""
    from bleep_sc.io._stored import from_uns

    models = [name for name, entry in ref.uns.items() if isinstance(entry, Mapping) and "model" in entry]
    if key not in models:  # an imputed layer has a record at its key, which is none
        remedy = f"pass --key {models[0]}, the model that is there" if models else "`bleep-sc fit` makes one"
        msg = f"{REF} {what}: holds no model in uns[{key!r}]; {remedy}."
        raise Refused(msg)
    with spelt({}, ref=what):
        return from_uns(ref.uns, key)


def check_predictor(ref: AnnData, key: str, given: Mapping[str, Any], *, what: str) -> None:
    """Refuse a way to predict that the model does not have, and more neighbours than there are spots."""
    from bleep_sc.io._trained import load_model

    options = {"predict": "--predict", "k": "--k", "key_added": "--key-added"}
    with spelt(options, ref=what):
        check_key_added("key_added", given.get("key_added", key))
        _, trained = load_model(ref, key)
        trained.method.mode(given.get("predict"))
        if "k" in given:
            check_int("k", given["k"])
    if trained.method.space is not None and given.get("k", 1) > ref.n_obs:
        msg = f"--k {given['k']}: {what} has {ref.n_obs} spots. Pass a smaller number, or leave it out."
        raise Refused(msg)


def check_calibrated(ref: AnnData, key: str, given: Mapping[str, Any], *, option: str, what: str) -> None:
    """Refuse bounds of a model that nobody has calibrated, or by another predictor than was."""
    from bleep_sc.io._calibration import CALIBRATION, Calibration

    if CALIBRATION not in ref.uns[key]:
        msg = f"{option}: the model of {what} is not calibrated. Train it with `bleep-sc fit ... --calibrate`."
        raise Refused(msg)
    with spelt({}, ref=what):
        calibrated = Calibration.from_bytes(ref.uns[key][CALIBRATION], where=f"`ref.uns[{key!r}][{CALIBRATION!r}]`")
    for argument in ("predict", "k", "layer"):
        known = calibrated.promise.predictor.get(argument)
        if argument in given and known is not None and given[argument] != known:
            msg = (
                f"--{argument} {given[argument]}: the model of {what} is calibrated with {known}, and another "
                f"predictor errs otherwise. Leave it out, or leave {option} out."
            )
            raise Refused(msg)


def check_width(stored: Any, *, size: int, um: float | None, given: bool, what: str) -> None:
    """Refuse crops of another width than the model was trained on, before they are cut.

    What is not known here, `tl.impute` compares when they are.
    """
    from bleep_sc.tl._inputs.crop_scale import TOLERANCE

    scale = stored.config.image.scale
    if scale is None or stored.config.image.elsewhere:
        return
    known = scale.size_um
    apart = known is not None and um is not None and abs(known - um) > TOLERANCE * known
    if apart or size != scale.size:
        needed = f"--size {scale.size}" + ("" if known is None else f" --um {known:g}")
        found = f"{size} pixels" + ("" if um is None else f" of {um:g} µm in all")
        trained = f"{scale.size} pixels" + ("" if known is None else f" of {known:g} µm in all")
        said = "--um" if given else "crops"
        msg = f"{said}: crops would be {found}, the model of {what} was trained on {trained}. Pass {needed}."
        raise Refused(msg)
