"""Read the first weights of a network, from its library or a file, by readers that take tensors alone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bleep_sc.models.encoders.record import Encoder


def imagenet_state(encoder: Encoder) -> Mapping[str, Tensor]:
    """Fetch the pretrained weights of a network from the library that it comes from.

    Raises
    ------
    RuntimeError
        The weights could not be fetched, are damaged, or hold more than tensors.
    """
    import pickle  # nosec B403 - for the name of an error alone

    assert encoder.source is not None  # noqa: S101 - it is a network
    try:
        return _modern(encoder.source.pretrained(encoder))
    except (OSError, RuntimeError, pickle.UnpicklingError) as err:  # no network, a refused download, a damaged file
        reason = "more than tensors" if isinstance(err, pickle.UnpicklingError) else err  # its text advises to run it
        msg = (
            f"the ImageNet weights of {encoder.name!r} could not be loaded ({type(err).__name__}: {reason}). Choose "
            "one: `weights=None` trains from random weights; `weights='path/to/file.pth'` reads a file that you "
            "downloaded elsewhere; `encoder='color'` needs no weights at all and is quick."
        )
        raise RuntimeError(msg) from err


def file_state(path: Path) -> Mapping[str, Tensor]:
    """Read the weights of a file, ``.safetensors`` or a state dict that PyTorch saved.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is damaged, or holds other things than tensors by name.
    """
    if not path.is_file():
        msg = f"`weights={str(path)!r}`: there is no such file. Pass 'imagenet', None or the path of a file of weights."
        raise FileNotFoundError(msg)
    state = _tensors_of(path)
    for name in ("state_dict", "model"):  # checkpoints keep the weights beside other things
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        msg = f"`weights={str(path)!r}` must hold a state dict (names to tensors), found {type(state).__name__}."
        raise ValueError(msg)
    return _modern({name.removeprefix("module."): tensor for name, tensor in state.items()})


def _tensors_of(path: Path) -> Any:
    """Read a file by readers that take tensors alone."""
    import pickle  # nosec B403 - for the name of an error alone

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, KeyError, ValueError, OSError) as err:
        # PyTorch's own text advises to unpickle the file, which can run code
        msg = (
            f"`weights={str(path)!r}` is damaged or no file of plain tensors ({type(err).__name__}). Nothing but "
            "tensors is read, since a pickled file can run code; save it again with "
            "`torch.save(model.state_dict(), path)` or as safetensors."
        )
        raise ValueError(msg) from err


def load_state(network: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights into a network. Only tensors of a classifier may be left over."""
    needed = network.state_dict()
    missing = [name for name in needed if name not in state and not name.endswith("num_batches_tracked")]
    wrong = [name for name in needed if name in state and state[name].shape != needed[name].shape]
    unknown = [name for name in state if name not in needed and not name.startswith(("fc.", "classifier.", "head"))]
    if missing or wrong or unknown:
        parts = {"missing": missing, "of another shape": wrong, "unknown": unknown}
        faults = "; ".join(
            f"{len(names)} tensors {what}, such as {names[0]!r}" for what, names in parts.items() if names
        )
        msg = f"{source} do not fit the network: {faults}."
        raise ValueError(msg)
    network.load_state_dict({name: state[name] for name in needed if name in state}, strict=False)


def _modern(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Give tensors today's names: DenseNets of torchvision's first releases write ``norm.1`` for ``norm1``."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name): state[name] for name in state}
