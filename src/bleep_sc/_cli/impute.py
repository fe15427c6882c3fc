"""`bleep-sc impute`: a slide, or spots on it, gets the expression that its image tells."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from anndata import AnnData

from bleep_sc import _keys, _report, pp, tl
from bleep_sc._checks import check_levels
from bleep_sc._cli.command import Command
from bleep_sc._cli.model import (
    MODEL,
    REF,
    check_calibrated,
    check_model,
    check_predictor,
    check_width,
    read_ref,
    said_ref,
)
from bleep_sc._cli.option import Option, Step, number, whole_number
from bleep_sc._cli.output import check_output, write
from bleep_sc._cli.refused import Refused, spelt
from bleep_sc._cli.report import ENDINGS as HTML
from bleep_sc._cli.steps import (
    CROPS,
    IMAGE,
    LIBRARY,
    add_image,
    check_device,
    check_held,
    cut_crops,
    images_of,
    without_effect,
)
from bleep_sc._cli.tissue import ENDINGS, check_genes, check_there, check_there_in, read_tissue
from bleep_sc._library import library_part
from bleep_sc._report.asked import MOST_GENES
from bleep_sc.methods.names import Mode

_GRID = Step(
    "grid: the spots that are laid over the tissue of an image",
    pp.grid,
    (
        Option("--pitch", "um", "distance between neighbouring spots in µm; without it the reference's",
               {"type": number, "metavar": "DISTANCE"}),
        Option("--lattice", "lattice", "how the spots lie; without it as the reference's",
               {"choices": ("hexagonal", "square")}),
        Option("--mask", "mask", "where the tissue is: a GeoJSON, such as of QuPath; without it found by colour",
               {"metavar": "FILE"}),
        Option("--min-tissue", "min_tissue", "least share of tissue of a spot", {"type": number, "metavar": "SHARE"}),
        Option("--library-id", "library_id", "name of the slide; without it that of the file", {"metavar": "NAME"}),
    ),
)  # fmt: skip
_IMPUTE = Step(
    "prediction",
    tl.impute,
    (
        Option("--predict", "predict", "how a model of the default recipe predicts; hybrid without it",
               {"choices": get_args(Mode)}),
        Option("--k", "k", "number of reference spots to average", {"type": whole_number}),
        Option("--layer", "layer", "layer of the reference to average; X without it", {"metavar": "LAYER"}),
        Option("--image-key", "image_key", "key of obsm with crops or features that are there", {"metavar": "KEY"}),
        Option("--key", "key", "name of the model in the reference", {"metavar": "NAME"}),
        Option("--key-added", "key_added", "name of the imputed layer; that of the model without it",
               {"metavar": "NAME"}),
        Option("--device", "device", "cpu, cuda, cuda:1, mps; without it the best that is there", {}),
    ),
)  # fmt: skip
_INTERVALS, _REPORT, _REPORT_GENES = "--intervals", "--report", "--report-genes"


def _files(group: argparse._ArgumentGroup) -> None:
    group.add_argument("input", metavar="SLIDE", help="an image (.svs, .tif, .ndpi ...), over whose tissue spots are "
                       "laid; or spots as an .h5ad or .zarr of AnnData")  # fmt: skip
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument(REF, metavar="FILE", help="the reference with the model, which bleep-sc fit wrote")
    source.add_argument(MODEL, metavar="FOLDER", help="in its place a model without any spots of its reference")
    add_image(group, "the H&E image of spots; of several sections SECTION=FILE for each. Without it, crops or features "
              "that SLIDE holds are taken")  # fmt: skip
    group.add_argument(
        LIBRARY.flag, default=argparse.SUPPRESS, help=f"{LIBRARY.help}, where SLIDE is spots", **LIBRARY.how
    )
    group.add_argument("--genes", nargs="+", metavar="GENE", help="genes to impute; all of the reference without it")
    group.add_argument(_INTERVALS, type=number, metavar="LEVEL", help="also write bounds that hold this share of "
                       "measured values, such as 0.9; needs a calibrated model")  # fmt: skip
    group.add_argument(_REPORT, metavar="FILE.html", help="also write a report (see bleep-sc report)")
    group.add_argument(_REPORT_GENES, nargs="+", metavar="GENE", help="genes of the report")
    group.add_argument("--drop-crops", action="store_true", help="leave the crops out of the file: 150 KB a spot")


@dataclass(frozen=True)
class _Plan:
    """What has been checked, and is not yet done."""

    out: Path
    report: Path | None
    ref: AnnData
    what: str
    """The reference as the user named it."""
    key: str
    stored: Any
    genes: list[str] | None


def _run(arguments: argparse.Namespace) -> Path:
    plan = _plan(arguments)
    on_slide = Path(arguments.input).suffix.lower() not in ENDINGS
    query = (_of_image if on_slide else _of_spots)(plan, arguments)
    name = getattr(arguments, "key_added", plan.key)
    image = "SLIDE" if on_slide else IMAGE
    with spelt({**_IMPUTE.spelling, **CROPS.spelling, "image": image}, query=arguments.input, ref=plan.what):
        tl.impute(query, plan.ref, **_IMPUTE.given(arguments))
        if arguments.intervals is not None:
            tl.intervals(query, plan.ref, level=arguments.intervals, key=plan.key, layer=name, key_added=name)
    _write(query, plan, arguments, name)
    return plan.out


def _plan(arguments: argparse.Namespace) -> _Plan:
    """Check all that can be checked before an image is read."""
    check_there(arguments.input, what="SLIDE")
    out = check_output(
        arguments.out,
        option="--out",
        endings=ENDINGS,
        overwrite=arguments.overwrite,
        inputs=[said_ref(arguments), *arguments.image],
        own=arguments.input,
    )
    report = None
    if arguments.report is not None:
        report = check_output(arguments.report, option=_REPORT, endings=HTML, overwrite=arguments.overwrite)
    elif arguments.report_genes:
        msg = f"{_REPORT_GENES}: has no effect, since {_REPORT} is not given. Leave it out."
        raise Refused(msg)
    if arguments.intervals is not None:
        with spelt({"level": _INTERVALS}):
            check_levels("level", [arguments.intervals])
    check_device(getattr(arguments, "device", None))
    key = getattr(arguments, "key", _IMPUTE.default("key"))
    ref, what = read_ref(arguments, key), said_ref(arguments)
    stored, how = check_model(ref, key, what=what), _IMPUTE.given(arguments)
    check_predictor(ref, key, how, what=what)
    if arguments.intervals is not None:
        check_calibrated(ref, key, how, option=_INTERVALS, what=what)
    if hasattr(arguments, "layer"):
        check_there_in(ref, "layers", arguments.layer, option="--layer", file=what)
    genes = arguments.genes
    if genes is not None:
        genes = check_genes(genes, ref.var_names, option="--genes", where=what)
    if arguments.report_genes:
        if len(set(arguments.report_genes)) > MOST_GENES:
            msg = f"{_REPORT_GENES}: at most {MOST_GENES} genes go into a report, found {len(arguments.report_genes)}."
            raise Refused(msg)
        known = ref.var_names if genes is None else genes
        check_genes(arguments.report_genes, known, option=_REPORT_GENES, where=what if genes is None else "--genes")
    return _Plan(out, report, ref, what, key, stored, genes)


def _of_image(plan: _Plan, arguments: argparse.Namespace) -> AnnData:
    """Lay spots over the tissue of an image, and cut their crops from it."""
    if arguments.image:
        msg = f"{IMAGE}: has no effect, since {arguments.input} is an image itself. Leave it out."
        raise Refused(msg)
    for option in (LIBRARY.dest, "image_key"):
        if hasattr(arguments, option):
            msg = f"--{option.replace('_', '-')}: is of spots, and {arguments.input} is an image. Leave it out."
            raise Refused(msg)
    cut, laid = CROPS.given(arguments), _GRID.given(arguments)
    if "mask" in laid:
        check_there(laid["mask"], what="--mask")
    if "mpp" in cut:
        laid["mpp"] = _one_number(cut.pop("mpp"))
    if "series" in cut:
        laid["series"] = cut["series"]
    _check_cut(plan, cut, None)
    spelling = {**_GRID.spelling, "mpp": "--mpp", "series": "--series", "image": "SLIDE", "library_key": "the sections"}
    with spelt(spelling, ref=plan.what):
        slide = pp.grid(arguments.input, plan.ref, **laid)
    (library,) = slide.uns[_keys.SPATIAL]
    _check_cut(plan, cut, float(library_part(slide.uns, library, "scalefactors")["microns_per_pixel"]))
    if plan.genes is not None:
        slide = slide[:, plan.genes].copy()
    cut_crops(slide, {"image": arguments.input, **cut}, what=arguments.input)
    return slide


def _of_spots(plan: _Plan, arguments: argparse.Namespace) -> AnnData:
    """Read spots, and cut their crops where an image is given."""
    without_effect(_GRID, arguments, f"{arguments.input} holds spots, and none are laid")
    query = read_tissue(arguments.input, what="SLIDE")
    if plan.genes is not None:
        check_genes(plan.genes, query.var_names, option="--genes", where=arguments.input)
        query = query[:, plan.genes].copy()
    if arguments.report_genes:
        check_genes(arguments.report_genes, query.var_names, option=_REPORT_GENES, where=arguments.input)
    if arguments.image:
        cut = images_of(query, arguments, what=arguments.input)
        _check_cut(plan, cut, None)
        cut_crops(query, cut, what=arguments.input)
        return query
    if plan.stored.config.image.key:
        check_held(
            query, getattr(arguments, "image_key", plan.stored.config.image.key), arguments, file=arguments.input
        )
    without_effect(CROPS, arguments, f"crops are cut only from images that {IMAGE} names")
    return query


def _check_cut(plan: _Plan, cut: dict[str, Any], um_per_px: float | None) -> None:
    """Compare the crops to come with those of the model; without `--um` the image's scale tells their width."""
    size = cut.get("size", CROPS.default("size"))
    um = cut.get("um", None if um_per_px is None else size * um_per_px)
    check_width(plan.stored, size=size, um=um, given="um" in cut, what=plan.what)


def _one_number(texts: list[str]) -> float:
    if len(texts) != 1:
        msg = f"--mpp {' '.join(texts)}: must be one number, since the slide is one image."
        raise Refused(msg)
    try:
        return number(texts[0])
    except argparse.ArgumentTypeError as err:
        msg = f"--mpp: {err}."
        raise Refused(msg) from None


def _write(query: AnnData, plan: _Plan, arguments: argparse.Namespace, name: str) -> None:
    """Write the result, then the report, so that an error in the second leaves the first."""
    kept = query
    if arguments.drop_crops:
        kept = query.copy()
        kept.obsm.pop(_keys.CROPS, None)
    write(kept, plan.out)
    if plan.report is not None:
        with spelt({"genes": _REPORT_GENES, "path": _REPORT}, query=arguments.input, ref=plan.what):
            _report.report(
                query,
                plan.ref,
                path=plan.report,
                genes=arguments.report_genes,
                key=plan.key,
                layer=name,
            )


COMMAND = Command(
    name="impute",
    usage="SLIDE --ref FILE --out FILE",
    summary="fill in expression for a slide, or for spots, from the H&E image",
    description=(
        "Predicts expression where only the image is known. Of an image it finds the tissue, lays spots over it "
        "(--pitch apart) and cuts a crop of --um µm around each. Crops must show as much tissue as those of the "
        "reference."
    ),
    examples=(
        (
            "a slide that was never sequenced, with a report",
            "bleep-sc impute slide.svs --ref ref.h5ad --um 100 --out slide.zarr --report slide.html",
        ),
        (
            "spots of two sections, two genes, with bounds",
            "bleep-sc impute query.h5ad --image C1=C1.tif D1=D1.tif --library-key section --um 100 --ref ref.h5ad "
            "--genes ERBB2 CD74 --intervals 0.9 --out imputed.h5ad",
        ),
    ),
    writes=(
        "An AnnData with the expression in layers['bleep'] and how far each spot looks like the reference in "
        "obs['bleep_reliability']; with --intervals also layers['bleep_lower'] and layers['bleep_upper']. The file is "
        "written whole or not at all, before the report."
    ),
    files=_files,
    endings=ENDINGS,
    steps=(CROPS, _GRID, _IMPUTE),
    run=_run,
)
