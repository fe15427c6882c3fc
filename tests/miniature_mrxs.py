"""A tiny slide in the format of MIRAX (3DHISTECH), by OpenSlide's description of it; openslide.org/formats/mirax."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

SLIDE_ID = "0123456789ABCDEF"
_VERSION = b"01.02"


def write_mrxs(path: Path, pixels: np.ndarray, *, um_per_px: float, tile: int = 128, n_levels: int = 2) -> None:
    """Write an RGB image whose sides are multiples of the tile's, with lower levels of half the size each."""
    rows, columns = pixels.shape[0] // tile, pixels.shape[1] // tile
    folder = path.with_suffix("")
    folder.mkdir()
    Image.fromarray(pixels[::8, ::8]).save(path, format="JPEG")  # which a file browser shows
    data = bytearray(_VERSION + SLIDE_ID.encode() + b"0" * 12)
    pages: list[list[tuple[int, int, int]]] = []
    for level in range(n_levels):
        step = 2**level
        page = []
        for row in range(0, rows, step):
            for column in range(0, columns, step):
                part = pixels[row * tile : (row + step) * tile, column * tile : (column + step) * tile]
                small = part.reshape(tile, part.shape[0] // tile, tile, -1, 3).mean(axis=(1, 3)).round()
                encoded = io.BytesIO()
                Image.fromarray(small.astype(np.uint8)).save(encoded, format="JPEG", quality=95, subsampling=0)
                page.append((row * columns + column, len(data), len(encoded.getvalue())))
                data += encoded.getvalue()
        pages.append(page)
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(_index(pages))
    (folder / "Slidedat.ini").write_text(_slidedat(rows, columns, tile=tile, um_per_px=um_per_px, n_levels=n_levels))


def _index(pages: list[list[tuple[int, int, int]]]) -> bytes:
    """Pointers to the pages of each level, then the pages: number, offset, length and file of each tile."""
    head = _VERSION + SLIDE_ID.encode()
    table = len(head) + 8
    at = table + 4 * len(pages)
    pointers, body = b"", b""
    for page in pages:
        pointers += struct.pack("<i", at)
        record = struct.pack("<iiii", 0, at + 8, len(page), 0)
        record += b"".join(struct.pack("<iiii", number, offset, length, 0) for number, offset, length in page)
        body, at = body + record, at + len(record)
    return head + struct.pack("<ii", table, 0) + pointers + body


def _slidedat(rows: int, columns: int, *, tile: int, um_per_px: float, n_levels: int) -> str:
    lines = [
        "[GENERAL]",
        f"SLIDE_ID = {SLIDE_ID}",
        f"IMAGENUMBER_X = {columns}",
        f"IMAGENUMBER_Y = {rows}",
        "OBJECTIVE_MAGNIFICATION = 20",
        "[HIERARCHICAL]",
        "HIER_COUNT = 1",
        "NONHIER_COUNT = 0",
        "INDEXFILE = Index.dat",
        "HIER_0_NAME = Slide zoom level",
        f"HIER_0_COUNT = {n_levels}",
        *(f"HIER_0_VAL_{level}_SECTION = LAYER_0_LEVEL_{level}_SECTION" for level in range(n_levels)),
        "[DATAFILE]",
        "FILE_COUNT = 1",
        "FILE_0 = Data0000.dat",
    ]
    for level in range(n_levels):
        lines += [
            f"[LAYER_0_LEVEL_{level}_SECTION]",
            "OVERLAP_X = 0",
            "OVERLAP_Y = 0",
            f"MICROMETER_PER_PIXEL_X = {um_per_px * 2**level}",
            f"MICROMETER_PER_PIXEL_Y = {um_per_px * 2**level}",
            "IMAGE_FORMAT = JPEG",
            "IMAGE_FILL_COLOR_BGR = 16777215",
            f"DIGITIZER_WIDTH = {tile}",
            f"DIGITIZER_HEIGHT = {tile}",
            f"IMAGE_CONCAT_FACTOR = {min(level, 1)}",
        ]
    return "\n".join(lines) + "\n"
