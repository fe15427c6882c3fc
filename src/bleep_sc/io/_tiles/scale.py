"""How many µm a pixel of a slide has: whoever says so first is believed, and the others must agree."""

from collections.abc import Sequence

from bleep_sc._logging import logger, warn
from bleep_sc.pp._scale.witness import Witness

_APART = 0.05


def believed_scale(witnesses: Sequence[Witness | None], *, library_id: str, remedy: str) -> float:
    """Return µm per level-0 pixel by the first who knows it, and warn of one who says something else.

    Raises
    ------
    ValueError
        Nobody knows it: a scale is never guessed.
    """
    known = [witness for witness in witnesses if witness is not None]
    if not any(witness.believed for witness in known):
        msg = (
            f"nobody knows how many µm a pixel of {library_id!r} has, so the width of its tiles cannot be compared "
            f"with that of a reference. Pass `mpp=`, the µm per pixel of the slide at full resolution. {remedy}"
        )
        raise ValueError(msg)
    first, *others = sorted(known, key=lambda witness: not witness.believed)
    logger.info("%r has %.4g µm per pixel by %s.", library_id, first.um_per_px, first.source)
    for other in others:
        if abs(other.um_per_px / first.um_per_px - 1) > _APART:
            warn(
                f"two values of µm per pixel contradict each other for {library_id!r}: {first.um_per_px:.4g} by "
                f"{first.source}, {other.um_per_px:.4g} by {other.source}. The first is used. If the second is right, "
                f"pass `mpp={other.um_per_px:.6g}`."
            )
            break
    return first.um_per_px
