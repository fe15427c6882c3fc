"""Name what a report lacks, with what a reader would learn from it and the line that gets it."""

import json

from bleep_sc import _keys
from bleep_sc._adata import crop_records
from bleep_sc._expression import path_of
from bleep_sc._report.asked import Asked
from bleep_sc._report.genes import is_calibrated
from bleep_sc._report.model import units_of
from bleep_sc._report.plain import mapping, text
from bleep_sc._report.records import LOWER, MEASURED, Missing


def missing_of(asked: Asked, of_origins: Missing | None) -> tuple[Missing, ...]:
    """List all that is not there; what another missing part would bring along is named once."""
    found = [_reference(asked), of_origins, *_pictures(asked), _measured(asked), _scores(asked)]
    found += [_calibration(asked), _bounds(asked), _reliability(asked), *_scale(asked), _provenance(asked)]
    # without a reference its line is given once
    kept = [part for part in found if part is not None]
    return tuple(part for part in kept if part is not of_origins or asked.ref is not None)


def _code(**names: str) -> str:
    """Write arguments of a call that are not the usual ones, such as ``, key="other"``."""
    return "".join(f", {name}={json.dumps(value, ensure_ascii=False)}" for name, value in names.items())


def _key(asked: Asked) -> str:
    return "" if asked.key == _keys.MODEL else _code(key=asked.key)


def _impute(asked: Asked) -> str:
    added = "" if asked.layer == asked.key else _code(key_added=asked.layer)
    return f"bl.tl.impute(query, ref{_key(asked)}{added})"


def _reference(asked: Asked) -> Missing | None:
    if asked.ref is not None:
        return None
    return Missing(
        "The reference and its model",
        "They tell what the model learned from, which genes it can predict, and which tissue a value came from.",
        f"bl.report(query, ref{_key(asked)})",
    )


def _pictures(asked: Asked) -> list[Missing]:
    without = [section.name for section in asked.sections if section.image is None]
    if not without or asked.img_key is None:
        return []
    library = without[0] or "slide"
    named = ", ".join(name for name in without if name)
    path = f'query.uns.setdefault("{_keys.SPATIAL}", {{}})[{json.dumps(library, ensure_ascii=False)}]'
    return [
        Missing(
            f"The H&E picture of {named}" if named else "The H&E picture",
            "It shows the tissue below the colours. The spots are drawn on white without it.",
            f"{path} = {{\n"
            f'    "images": {{"{asked.img_key}": picture}},  # a small copy of the slide, uint8 (y, x, 3)\n'
            '    "scalefactors": {\n'
            f'        "tissue_{asked.img_key}_scalef": 0.1,  # how much smaller the copy is\n'
            '        "spot_diameter_fullres": 180,  # in pixels of the slide itself\n'
            "    },\n"
            "}",
        )
    ]


def _measured(asked: Asked) -> Missing | None:
    if MEASURED.name in asked.values:
        return None
    if asked.other_units:
        return Missing(
            "Measured maps",
            f"`{path_of('query', asked.truth)}` holds raw counts, and the prediction does not. They cannot share one "
            "scale of colours, so the measured maps are left out.",
            'query.layers["counts"] = query.X.copy()\nsc.pp.normalize_total(query, target_sum=1e4)\nsc.pp.log1p(query)',
        )
    reference = "the_whole_reference" if asked.is_slim else "ref"
    return Missing(
        "Measured maps",
        "These slides were not sequenced, so there is nothing to compare the prediction with. A few sequenced spots "
        "can correct it.",
        f'bl.tl.impute(query, {reference}{_key(asked)}, measured="is_measured")  # a true or false column of query.obs',
    )


def _scores(asked: Asked) -> Missing | None:
    if MEASURED.name not in asked.values or _keys.pearson(asked.layer) in asked.query.var:
        return None
    layer = "" if asked.layer == _keys.MODEL else _code(layer=asked.layer)
    truth = "" if asked.truth is None else _code(truth=asked.truth)
    return Missing(
        "Scores on these slides",
        "They say how closely the predicted maps follow the measured ones.",
        f"bl.tl.evaluate(query{layer}{truth})",
    )


def _calibrate(asked: Asked) -> str:
    """Write the lines that calibrate; those of a slim model run where its reference is."""
    if not asked.is_slim:
        return f"bl.tl.calibrate(ref{_key(asked)})"
    return (
        "# where the reference is, since a slim model holds no spots:\n"
        f'bl.tl.calibrate(ref{_key(asked)}, predict="regression")\n'
        f'bl.io.write_model(ref, "folder"{_key(asked)}, slim=True)'
    )


def _calibration(asked: Asked) -> Missing | None:
    if asked.ref is None or is_calibrated(asked):
        return None
    return Missing(
        "Expected scores of the genes",
        "They say which genes can be read off a picture at all, from tissue that the model had not seen.",
        _calibrate(asked),
    )


def _bounds(asked: Asked) -> Missing | None:
    if LOWER.name in asked.values:
        return None
    calibrate = "" if is_calibrated(asked) else f"{_calibrate(asked)}\n"
    layer = "" if asked.layer == asked.key else _code(layer=asked.layer)
    return Missing(
        "Lower and upper bounds",
        "They say how far a value may be off.",
        f"{calibrate}bl.tl.intervals(query, ref{_key(asked)}{layer}{_code(key_added=asked.layer)})",
    )


def _reliability(asked: Asked) -> Missing | None:
    if _keys.reliability(asked.layer) in asked.query.obs:
        return None
    return Missing(
        "Reliability",
        "It says whether slide and spots look like the tissue that the model learned from. Models that see the "
        "picture write it.",
        _impute(asked),
    )


def _scale(asked: Asked) -> list[Missing]:
    found = []
    names = [section.name for section in asked.sections]
    records, checks = crop_records(asked.query, asked.image_key), mapping(asked.query.uns.get(_keys.ALIGNMENT_CHECK))
    if any("findings" not in records.get(name, {}) for name in names):
        found.append(
            Missing(
                "Checks of image and scale",
                "They say whether the right image was cut at the right scale.",
                'bl.pp.crops(query, "query.tif", um=100)  # checks, and records what it finds',
            )
        )
    if any(name not in checks for name in names):
        found.append(
            Missing(
                "The check that the image fits the spots",
                "It compares the places as given with turned, mirrored and shifted ones.",
                "bl.pp.check_alignment(query)",
            )
        )
    return found


def _provenance(asked: Asked) -> Missing | None:
    if text(asked.provenance.get("model_sha256")) and units_of(asked):
        return None
    return Missing(
        "The record of what made the prediction",
        "It names the model, by its checksum, and the units of the values.",
        _impute(asked),
    )
