"""Repeats what `pp.crops` found to be wrong with the images, before a model is trained on them."""

from typing import Any

from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import crop_records
from bleep_sc._logging import warn
from bleep_sc.methods.task import Task
from bleep_sc.pp._finding import findings_in
from bleep_sc.tl._inputs.units import said_of_all_folds


def warn_of_findings(adata: AnnData, task: Task[Any], *, image_key: str) -> None:
    """Warn once of all sections whose crops were stored with open findings; say nothing within folds.

    Parameters
    ----------
    adata
        The spots, with the records of their crops.
    task
        What was read of them.
    image_key
        The key of the crops or features; features have no records of their own, so those of the crops speak for them.
    """
    reads_images = task.spots.kind.width is None
    if said_of_all_folds() or not reads_images:
        return
    key = image_key if crop_records(adata, image_key) else _keys.CROPS
    records, sections = crop_records(adata, key), task.spots.sections
    learned = list(records) if sections is None else [name for name in records if name in set(sections.astype(str))]
    found = {name: findings_in(records[name]) for name in learned}
    lines = [f"{name!r} ({finding.sign}): {finding.remedy}" for name in learned for finding in found[name]]
    if lines:
        warn(
            "`bleep_sc.pp.crops` found that image, scale and spots may not belong together, and a model would learn "
            "from these crops.\n" + "\n".join(lines) + f"\n`adata.uns[{key!r}]` says what was found, by section, "
            "under 'findings'. Mend it and cut the crops again. If all is as it should be, pass `check='off'`."
        )
