"""`bleep-sc fit`: a measured section, or several, becomes a reference with a model."""

import argparse
from pathlib import Path
from typing import Any, get_args

from anndata import AnnData

from bleep_sc import _keys, pp, tl
from bleep_sc._adata import recorded_library_key
from bleep_sc._checks import check_int, check_key_added
from bleep_sc._cli.command import Command
from bleep_sc._cli.option import Option, Step, file_or_none, number, whole_number
from bleep_sc._cli.output import check_output, write
from bleep_sc._cli.refused import Refused, spelt
from bleep_sc._cli.steps import (
    CROPS,
    IMAGE,
    LIBRARY,
    add_image,
    check_device,
    check_held,
    check_sections_told,
    cut_crops,
    images_of,
    without_effect,
)
from bleep_sc._cli.tissue import ENDINGS, check_there, check_there_in, read_tissue
from bleep_sc.methods.names import MethodName, PresetName

_COLUMN = {"metavar": "COLUMN"}
_GENES = Step(
    "genes: which the model learns from",
    pp.select_genes,
    (
        Option("--n-top-genes", "n_top_genes", "number of genes to choose in each section", {"type": whole_number}),
        Option("--min-fraction", "min_fraction", "least share of spots in which a gene must be detected",
               {"type": number}),
    ),
)  # fmt: skip
_FIT = Step(
    "training",
    tl.fit,
    (
        Option("--method", "method", "what to train", {"choices": get_args(MethodName)}),
        Option("--preset", "preset", "a named set of values for what is left out", {"choices": get_args(PresetName)}),
        Option("--encoder", "encoder", "what reads the crops: color, resnet50, timm:NAME ...; several are fused",
               {"nargs": "+", "metavar": "NAME"}),
        Option("--weights", "weights", "weights that a network starts with: imagenet, a file, or none",
               {"type": file_or_none}),
        Option("--image-key", "image_key", "key of obsm with crops or features that are there", {"metavar": "KEY"}),
        Option("--layer", "layer", "layer with log-normalised expression; X without it", {"metavar": "LAYER"}),
        Option("--mask-var", "mask_var", "column of var with the genes to learn from", _COLUMN),
        LIBRARY,
        Option("--patient-key", "patient_key", "column of obs with the patient of each spot", _COLUMN),
        Option("--max-epochs", "max_epochs", "most epochs to train for", {"type": whole_number, "metavar": "N"}),
        Option("--checkpoint-dir", "checkpoint_dir", "folder from which a training that was ended goes on",
               {"metavar": "FOLDER"}),
        Option("--check-alignment", "check", "whether to check that image and expression fit",
               {"choices": ("warn", "off")}),
        Option("--key", "key_added", "name of the model", {"metavar": "NAME"}),
    ),
)  # fmt: skip
_CALIBRATE = Step(
    "calibration",
    tl.calibrate,
    (
        Option("--cross-fit", "cross_fit", "train the folds again, which all methods but the default recipe need",
               {"action": "store_true"}),
    ),
)  # fmt: skip
_COMPUTE = Step(
    "computing",
    tl.fit,
    (
        Option("--seed", "random_state", "seed of all that is drawn at random", {"type": whole_number}),
        Option("--device", "device", "cpu, cuda, cuda:1, mps; without it the best that is there", {}),
    ),
)


def _files(group: argparse._ArgumentGroup) -> None:
    group.add_argument("input", metavar="REF", help="measured spots: an .h5ad or .zarr of AnnData, log-normalised")
    add_image(group, "the H&E image; of several sections SECTION=FILE for each. Without it, crops or features that "
              "REF holds are taken")  # fmt: skip
    group.add_argument(
        "--select-genes", action="store_true", help="choose the genes to learn from (bl.pp.select_genes)"
    )
    group.add_argument(
        "--calibrate",
        action="store_true",
        help="also measure how far to trust the model (bl.tl.calibrate); needs raw counts in layers['counts']",
    )
    group.add_argument("--drop-crops", action="store_true", help="leave the crops out of the file: 150 KB a spot")


def _run(arguments: argparse.Namespace) -> Path:
    out = check_output(
        arguments.out,
        option="--out",
        endings=ENDINGS,
        overwrite=arguments.overwrite,
        own=arguments.input,
    )
    how = {**_FIT.given(arguments), **_COMPUTE.given(arguments)}
    if not arguments.select_genes:
        without_effect(_GENES, arguments, "--select-genes is not given")
    if not arguments.calibrate:
        without_effect(_CALIBRATE, arguments, "--calibrate is not given")
    _check_recipe(arguments, how)
    ref = read_tissue(arguments.input, what="REF")
    cut = _check_tissue(ref, arguments, how)
    if arguments.select_genes:
        with spelt({**_GENES.spelling, "batch_key": LIBRARY.flag}, adata=arguments.input):
            pp.select_genes(ref, batch_key=how.get("library_key"), layer=how.get("layer"), **_GENES.given(arguments))
    if cut is not None:
        cut_crops(ref, cut, what=arguments.input)
    with spelt({**_FIT.spelling, **_COMPUTE.spelling}, adata=arguments.input):
        tl.fit(ref, **how)
    if arguments.calibrate:
        key = {"key": how["key_added"]} if "key_added" in how else {}
        with spelt(_COMPUTE.spelling, ref=arguments.input):
            tl.calibrate(ref, **key, **_CALIBRATE.given(arguments), **_COMPUTE.given(arguments))
    if arguments.drop_crops:
        ref.obsm.pop(_keys.CROPS, None)
    write(ref, out)
    return out


def _check_recipe(arguments: argparse.Namespace, how: dict[str, Any]) -> None:
    """Refuse options that the method does not have, before any file is read."""
    from bleep_sc.methods.registry import choose, settable
    from bleep_sc.models.encoders.registry import encoder_named
    from bleep_sc.tl._inputs.encoders import one_or_several

    method, preset = (how.get(name, _FIT.default(name)) for name in ("method", "preset"))
    encoders = how.get("encoder", ())
    if encoders:
        how["encoder"] = one_or_several(encoders)
    of_recipe = {name: value for name, value in how.items() if name in settable()}
    with spelt({**_FIT.spelling, **_COMPUTE.spelling}):
        check_int("random_state", how.get("random_state", 0), minimum=0)
        check_key_added("key_added", how.get("key_added", _FIT.default("key_added")))
        check_device(how.get("device"))
        chosen, _ = choose(method, preset, of_recipe)
        for name in encoders:
            encoder_named(name)
    if how.get("weights") not in (None, _FIT.default("weights")):
        check_there(how["weights"], what="--weights")
    if arguments.calibrate and not chosen.keeps_held_out and not _CALIBRATE.given(arguments):
        msg = "--calibrate: needs predictions of held-out spots, which this method does not keep. Add --cross-fit."
        raise Refused(msg)


def _check_tissue(ref: AnnData, arguments: argparse.Namespace, how: dict[str, Any]) -> dict[str, Any] | None:
    """Refuse names that the file does not have; return how to cut crops, or None where they are there."""
    file = arguments.input
    for flag, slot in (("library_key", "obs"), ("patient_key", "obs"), ("mask_var", "var"), ("layer", "layers")):
        if flag in how and not (flag == "mask_var" and arguments.select_genes):
            option = _FIT.spelling[flag]
            check_there_in(ref, slot, how[flag], option=option, file=file)
    check_sections_told(ref, arguments, file=file)
    if arguments.calibrate:
        _check_calibratable(ref, how, file)
    if arguments.image:
        if "image_key" in how:
            msg = f"--image-key: names what is in {file}, and {IMAGE} has crops cut again. Leave one of the two out."
            raise Refused(msg)
        return images_of(ref, arguments, what=file)
    check_held(ref, how.get("image_key"), arguments, file=file)
    without_effect(CROPS, arguments, f"crops are cut only from images that {IMAGE} names")
    return None


def _check_calibratable(ref: AnnData, how: dict[str, Any], file: str) -> None:
    """Refuse before training what `tl.calibrate` would after it."""
    from bleep_sc.tl._sections import known_patient_key
    from bleep_sc.tl._trust.spots import read_counts

    columns = [known_patient_key(ref, how.get("patient_key")), how.get("library_key") or recorded_library_key(ref)]
    if all(column is None or ref.obs[column].nunique() < 2 for column in columns):
        found = "holds one section" if columns[1] else f"counts as one section without {LIBRARY.flag}"
        msg = (
            f"--calibrate: {file} {found}, and only others tell how far predictions are off. Bring sections of two or "
            f"more patients, or two sections, and name their column by {LIBRARY.flag}."
        )
        raise Refused(msg)
    with spelt({}, ref=file):
        read_counts(ref, how.get("layer"))


COMMAND = Command(
    name="fit",
    usage="REF --out FILE",
    summary="train a model on measured spots and their H&E images",
    description=(
        "Learns which look of tissue goes with which expression, from spots that have both. The result is a reference: "
        "one file with the spots and the model. Expression must be log-normalised (scanpy's normalize_total and log1p)."
    ),
    examples=(
        ("one section", "bleep-sc fit A1.h5ad --image A1.tif --um 100 --select-genes --out ref.h5ad"),
        (
            "two sections, with what says how far to trust the model",
            "bleep-sc fit both.h5ad --library-key section --image A1=A1.tif B1=B1.tif --um 100 --calibrate "
            "--out ref.h5ad",
        ),
    ),
    writes=(
        "REF with its crops and the model in uns['bleep']: what bleep-sc impute takes as --ref. The file is written "
        "whole or not at all."
    ),
    files=_files,
    endings=ENDINGS,
    steps=(CROPS, _GENES, _FIT, _CALIBRATE, _COMPUTE),
    run=_run,
)
