import os
import sys
from dataclasses import dataclass
from typing import get_args

import torch

from bleep_sc._checks import check_choice, check_int
from bleep_sc._settings import Precision, settings

BATCH_SIZE = 256
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
"""Strategies, by Lightning's names, that keep a whole model on each process; each process runs the same script."""


@dataclass(frozen=True)
class Processes:
    """The processes that train one model together: their number, and how they are started and joined."""

    devices: int = 1
    """Number of processes on each machine."""
    num_nodes: int = 1
    strategy: str = "auto"

    def __len__(self) -> int:
        """Number of processes on all machines together."""
        return self.devices * self.num_nodes


@dataclass(frozen=True)
class Compute:
    """The settings of a computation: device, number format, portions, progress bar and processes."""

    device: torch.device
    precision: str
    """Name of the number format, as Lightning spells it: ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``."""
    batch_size: int
    """Number of spots that are embedded at a time."""
    progress_bar: bool
    processes: Processes = Processes()
    """Processes that train one network together. They share only the training; each computes all the rest itself."""

    def autocast(self) -> torch.autocast:
        """Return a ``with`` block of mixed precision. In float32 it changes nothing."""
        half = torch.float16 if self.precision == "16-mixed" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=half, enabled=self.precision != "32-true")

    def __str__(self) -> str:
        many = f"{len(self.processes)} processes, " if len(self.processes) > 1 else ""
        return f"{self.device} ({many}{self.precision})"


def resolve_compute(
    *,
    device: str | None = None,
    precision: str | None = None,
    batch_size: int | None = None,
    progress_bar: bool | None = None,
    devices: int = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
) -> Compute:
    """Turn the arguments, or the settings where they are None, into a device and settings that can be used here."""
    check_choice("strategy", strategy, STRATEGIES)
    processes = Processes(check_int("devices", devices), check_int("num_nodes", num_nodes), strategy)
    portion = BATCH_SIZE if batch_size is None else check_int("batch_size", batch_size)
    show = settings.progress_bar if progress_bar is None else progress_bar
    name = settings.device if device is None else device
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        torch_device = torch.device(name)
        torch.empty(0, device=torch_device)
    except (RuntimeError, AssertionError, NotImplementedError) as err:
        msg = f"`device={name!r}` cannot be used here ({str(err).splitlines()[0]}). Pass 'cpu', or 'auto' to choose."
        raise ValueError(msg) from err
    chosen_precision: str = settings.precision if precision is None else precision
    check_choice("precision", chosen_precision, get_args(Precision))
    if chosen_precision == "auto":
        chosen_precision = "bf16-mixed" if torch_device.type == "cuda" and torch.cuda.is_bf16_supported() else "32"
    if len(processes) > 1:
        _check_processes(processes, torch_device)
    return Compute(torch_device, "32-true" if chosen_precision == "32" else chosen_precision, portion, show, processes)


def _check_processes(processes: Processes, device: torch.device) -> None:
    """Refuse processes that could not be started, or that would wait for others that never come."""
    asked = f"`devices={processes.devices}`, `num_nodes={processes.num_nodes}`"
    elastic = torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()
    started = int(os.environ.get("WORLD_SIZE", 1)) if elastic else None
    if device.type not in ("cpu", "cuda"):
        msg = f"{asked}: on {device.type!r} there is one device. Pass `devices=1`, or `device='cpu'`."
    elif device.type == "cuda" and device.index is not None:
        msg = (
            f"{asked} with `device='{device}'`, which is a single GPU. Pass `device='cuda'`; the environment variable "
            "CUDA_VISIBLE_DEVICES says which GPUs may be used."
        )
    elif device.type == "cuda" and processes.devices > torch.cuda.device_count():
        msg = f"`devices={processes.devices}`: PyTorch sees {torch.cuda.device_count()} GPUs on this machine."
    elif started is not None and started != len(processes):
        msg = (
            f"{asked}, so {len(processes)} processes train together, but torchrun started {started}. `devices` is its "
            "--nproc-per-node, and `num_nodes` its --nnodes."
        )
    elif hasattr(sys, "ps1"):
        msg = (
            f"{asked}: each process runs the same script, and a notebook or prompt is none. Write the call into a "
            "script and run that, or pass `devices=1` here."
        )
    else:
        return
    raise ValueError(msg)
