"""Where a command writes: looked at before any work, and written whole or not at all."""

import json
import os
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from anndata import AnnData

from bleep_sc._cli.refused import Refused
from bleep_sc._cli.tissue import H5AD, ZARR
from bleep_sc._files import beside, written_whole


def check_output(
    text: str,
    *,
    option: str,
    endings: tuple[str, ...],
    overwrite: bool,
    inputs: Iterable[str | Path] = (),
    own: str | None = None,
) -> Path:
    """Return where to write; refuse what could not be written in the end, or would destroy something.

    None of the `inputs` may be replaced. The file `own`, of which the result is made, may.
    """
    path, said = Path(text), f"{option} {text}"
    if path.suffix.lower() not in endings:
        msg = f"{said}: must end in {' or '.join(endings)}. Name such a file."
        raise Refused(msg)
    if not path.parent.is_dir():
        msg = f"{said}: there is no folder {path.parent}. Make it first (mkdir -p), or name another one."
        raise Refused(msg)
    if path.exists():
        if not overwrite:
            msg = f"{said}: is there already. Name another file, or pass --overwrite."
            raise Refused(msg)
        of_own = () if own is None else Path(own).resolve().parents
        needed = [each for file in inputs for each in (Path(file).resolve(), *Path(file).resolve().parents)]
        _check_may_go(path, said, {*needed, *of_own})
    _check_writable(path, said)
    return path


def write(adata: AnnData, path: Path) -> None:
    """Write an AnnData in the format that the ending names."""
    with written_whole(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Writing zarr v2 data")  # anndata, of what it will do one day
        if path.suffix.lower() == H5AD:
            adata.write_h5ad(temporary)
        else:
            adata.write_zarr(temporary)


def _check_may_go(path: Path, said: str, needed: set[Path]) -> None:
    """Refuse to replace what is no earlier result, or what the work still needs."""
    as_file = path.suffix.lower() != ZARR
    if as_file and not path.is_file():
        msg = f"{said}: is a folder, where a file would be written. Name another file."
        raise Refused(msg)
    if not as_file and not is_anndata_store(path):
        msg = f"{said}: is no AnnData store, so --overwrite does not remove it. Name another one."
        raise Refused(msg)
    if path.resolve() in needed:
        msg = f"{said}: is, or holds, what is read, and would be replaced. Name another one."
        raise Refused(msg)


def is_anndata_store(path: Path) -> bool:
    """Whether a folder says that it holds an AnnData."""
    for name, part in ((".zattrs", None), ("zarr.json", "attributes")):
        with suppress(OSError, ValueError, AttributeError):
            stated = json.loads((path / name).read_text(encoding="utf-8"))
            stated = stated if part is None else stated[part]
            if stated.get("encoding-type") == "anndata":
                return True
    return False


def _check_writable(path: Path, said: str) -> None:
    """Write an empty file under the name that the result will have until it is whole."""
    probe = beside(path)
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        probe.unlink()
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else str(err)
        msg = f"{said}: cannot be written ({reason}). Name another folder or a shorter name, or ask the folder's owner."
        raise Refused(msg) from err
