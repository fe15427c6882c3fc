from dataclasses import dataclass
from typing import get_args

import torch

from bleep_sc._settings import Precision, settings
from bleep_sc._validate import check_choice, check_int

BATCH_SIZE = 256


@dataclass(frozen=True)
class Compute:
    """Where a model runs, in which number format, in what portions, and whether a bar shows it."""

    device: torch.device
    precision: str
    """A name that Lightning knows: ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``."""
    batch_size: int
    """Spots embedded at a time."""
    progress_bar: bool

    def autocast(self) -> torch.autocast:
        """Mixed precision for the length of a ``with`` block, or nothing in float32."""
        half = torch.float16 if self.precision == "16-mixed" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=half, enabled=self.precision != "32-true")

    def __str__(self) -> str:
        return f"{self.device} ({self.precision})"


def resolve_compute(
    *,
    device: str | None = None,
    precision: str | None = None,
    batch_size: int | None = None,
    progress_bar: bool | None = None,
) -> Compute:
    """Turn the arguments, or the settings where they are None, into a device that is really there."""
    portion = BATCH_SIZE if batch_size is None else check_int("batch_size", batch_size)
    show = settings.progress_bar if progress_bar is None else progress_bar
    name = settings.device if device is None else device
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as err:
        msg = f"`device={name!r}` cannot be used here ({str(err).splitlines()[0]}). Pass 'cpu', or 'auto' to choose."
        raise ValueError(msg) from err
    wanted: str = settings.precision if precision is None else precision
    check_choice("precision", wanted, get_args(Precision))
    if wanted == "auto":
        wanted = "bf16-mixed" if found.type == "cuda" and torch.cuda.is_bf16_supported() else "32"
    return Compute(found, "32-true" if wanted == "32" else wanted, portion, show)
