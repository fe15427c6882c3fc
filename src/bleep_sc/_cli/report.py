"""`bleep-sc report`: one HTML file of a prediction, for who has no Python."""

import argparse
from pathlib import Path

from bleep_sc import _report
from bleep_sc._cli.command import Command
from bleep_sc._cli.model import REF, check_model
from bleep_sc._cli.option import Option, Step
from bleep_sc._cli.output import check_output
from bleep_sc._cli.refused import spelt
from bleep_sc._cli.steps import LIBRARY
from bleep_sc._cli.tissue import read_tissue

ENDINGS = (".html", ".htm")
_REPORT = Step(
    "what is shown",
    _report.report,
    (
        Option("--genes", "genes", "genes to show, 12 at most; without it the report chooses three and says why",
               {"nargs": "+", "metavar": "GENE"}),
        Option("--spots", "spots", "spots whose origin is shown", {"nargs": "+", "metavar": "SPOT"}),
        Option("--title", "title", "title of the report", {"metavar": "TEXT"}),
        Option("--note", "note", "a text of yours at the beginning", {"metavar": "TEXT"}),
        Option("--key", "key", "name of the model in the reference", {"metavar": "NAME"}),
        Option("--layer", "layer", "imputed layer; without it the one that is named as the model",
               {"metavar": "LAYER"}),
        Option("--truth", "truth", "layer with measured expression; X without it", {"metavar": "LAYER"}),
        Option("--image-key", "image_key", "key of obsm with the crops", {"metavar": "KEY"}),
        LIBRARY,
        Option("--library-id", "library_id", "sections to show; all without it", {"nargs": "+", "metavar": "SECTION"}),
    ),
)  # fmt: skip


def _files(group: argparse._ArgumentGroup) -> None:
    group.add_argument("input", metavar="QUERY", help="what bleep-sc impute wrote: an .h5ad or .zarr")
    group.add_argument(REF, metavar="FILE", help="the reference with the model: adds expected scores and origins")


def _run(arguments: argparse.Namespace) -> Path:
    out = check_output(arguments.out, option="--out", endings=ENDINGS, overwrite=arguments.overwrite)
    query = read_tissue(arguments.input, what="QUERY")
    ref = None if arguments.ref is None else read_tissue(arguments.ref, what=REF)
    if ref is not None:
        check_model(ref, getattr(arguments, "key", _REPORT.default("key")), what=arguments.ref)
    with spelt({**_REPORT.spelling, "path": "--out"}, query=arguments.input, ref=arguments.ref):
        return _report.report(query, ref, path=out, **_REPORT.given(arguments))


COMMAND = Command(
    name="report",
    usage="QUERY --out FILE",
    summary="write one HTML file of a prediction, for who has no Python",
    description=(
        "Shows a prediction in one file that any browser opens: the H&E with maps over it, what can be trusted, which "
        "tissue values came from, and what the model is."
    ),
    examples=(
        ("the genes that are expected to do best", "bleep-sc report slide.zarr --ref ref.h5ad --out slide.html"),
        ("genes of your choice", "bleep-sc report slide.zarr --ref ref.h5ad --genes ERBB2 CD74 --out slide.html"),
    ),
    writes="One HTML file below 15 MB, which loads nothing from elsewhere. It is written whole or not at all.",
    files=_files,
    endings=ENDINGS,
    steps=(_REPORT,),
    run=_run,
)
