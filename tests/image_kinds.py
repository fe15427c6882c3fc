"""Image files of every kind of colours, each with the colours that are to be seen."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms

COLORS = np.array([(200, 120, 170), (90, 40, 130), (250, 248, 252), (225, 150, 190)], dtype=np.uint8)
"""Eosin, haematoxylin, glass, stroma."""
SIDE = 32
RGB = COLORS[np.array([[0, 1], [2, 3]])].repeat(SIDE, axis=0).repeat(SIDE, axis=1)
"""A quarter of the picture in each colour (64, 64, 3)."""
TILE = (16, 16)
GRAY = np.array(Image.fromarray(RGB).convert("L"))
OPACITY = np.full((*GRAY.shape, 1), 128, dtype=np.uint8)


def on_white(pixels: np.ndarray, opacity: float) -> np.ndarray:
    return np.rint(pixels * opacity + 255 * (1 - opacity)).astype(np.uint8)


Write = Callable[[Path], Any]


def tiff(pixels: np.ndarray, **options: Any) -> Write:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def pillow(mode: str, **options: Any) -> Write:
    return lambda path: Image.fromarray(RGB).convert(mode).save(path, **options)


def lab() -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    made = ImageCms.profileToProfile(Image.fromarray(RGB), *profiles, outputMode="LAB")
    assert made is not None
    return made


def icc_lab(path: Path) -> None:
    """ICCLab has a* and b* from 0 to 255, with 128 for grey."""
    made = np.asarray(lab())
    tifffile.imwrite(path, made ^ np.array([0, 128, 128], dtype=np.uint8), photometric="icclab", tile=TILE)


def aperio(photometric: str, compression: int, pixels: np.ndarray) -> Write:
    """JPEG 2000 as Aperio writes it: bare codestreams of components, whatever the photometric tag says."""

    def write(path: Path) -> None:
        step = TILE[0]
        tiles = (
            imagecodecs.jpeg2k_encode(
                np.ascontiguousarray(pixels[y : y + step, x : x + step]), level=0, mct=False, codecformat="j2k"
            )
            for y in range(0, len(pixels), step)
            for x in range(0, len(pixels), step)
        )
        tifffile.imwrite(
            path,
            tiles,
            shape=pixels.shape,
            dtype=np.uint8,
            tile=TILE,
            photometric=photometric,
            compression=compression,
            subsampling=(1, 1) if photometric == "ycbcr" else None,
        )

    return write


INDEX = np.array([[0, 1], [2, 3]], dtype=np.uint8).repeat(SIDE, axis=0).repeat(SIDE, axis=1)


def indexed(path: Path) -> None:
    """A palette whose 16-bit entries are 257 times the colour."""
    table = np.zeros((3, 256), dtype=np.uint16)
    table[:, :4] = COLORS.T.astype(np.uint16) * 257
    tifffile.imwrite(path, INDEX, photometric="palette", colormap=table, tile=TILE)


def packed(samples: np.ndarray, bits: int, photometric: int, palette: np.ndarray | None = None) -> Write:
    """A TIFF of samples that do not fill whole bytes, which tifffile does not write."""

    def write(path: Path) -> None:
        height, width, n = samples.shape
        shifts = np.arange(bits)[::-1]
        rows = np.packbits((samples.reshape(height, -1, 1) >> shifts & 1).astype(np.uint8).reshape(height, -1), axis=1)
        tags = {256: width, 257: height, 258: [bits] * n, 259: 1, 262: photometric, 277: n, 278: height}
        tags |= {273: 0, 279: rows.nbytes}
        if palette is not None:
            tags[320] = palette.ravel().tolist()
        lists = {tag: struct.pack(f"<{len(v)}H", *v) for tag, v in tags.items() if isinstance(v, list) and len(v) > 2}
        start = 8 + 2 + 12 * len(tags) + 4
        places, at = {}, start
        for tag, content in lists.items():
            places[tag], at = at, at + len(content)
        tags[273] = at
        entries = b""
        for tag in sorted(tags):
            value = tags[tag]
            if tag in places:
                entries += struct.pack("<HHII", tag, 3, len(value), places[tag])
            elif isinstance(value, list):
                entries += struct.pack("<HHIHH", tag, 3, len(value), *[*value, 0][:2])
            else:
                entries += struct.pack("<HHII", tag, 4, 1, value)
        head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
        path.write_bytes(head + b"".join(lists.values()) + rows.tobytes())

    return write


def of_lab(pixels: np.ndarray) -> np.ndarray:
    """sRGB of CIELab as TIFF stores it, by the formulas: D50, Bradford's adaptation, sRGB's curve."""
    from skimage.color import lab2xyz

    signed = pixels[..., 1:].view(np.int8)
    xyz = lab2xyz(np.dstack([pixels[..., :1] * (100 / 255), signed]).astype(float), illuminant="D50")
    linear = (
        xyz
        @ np.array(
            [
                [3.1338561, -1.6168667, -0.4906146],
                [-0.9787684, 1.9161415, 0.0334540],
                [0.0719453, -0.2289914, 1.4052427],
            ]
        ).T
    )
    linear = np.clip(linear, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(curved * 255).astype(np.uint8)


YCBCR = np.array(Image.fromarray(RGB).convert("YCbCr"))
CMYK = np.array(Image.fromarray(RGB).convert("CMYK"))
SEEN_OF_LAB = of_lab(np.asarray(lab()))
FULL = {"tile": TILE, "compression": "zlib"}
PREMULTIPLIED = np.concatenate([np.rint(RGB * (128 / 255)).astype(np.uint8), OPACITY], axis=2)

RIGHT: dict[str, tuple[str, Write, np.ndarray]] = {
    "RGB": ("tif", tiff(RGB, photometric="rgb"), RGB),
    "RGB, planar": ("tif", tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate", **FULL), RGB),
    "RGB, BigTIFF": ("tif", tiff(RGB, photometric="rgb", bigtiff=True, tile=TILE), RGB),
    "RGB, predictor": ("tif", tiff(RGB, photometric="rgb", predictor=True, **FULL), RGB),
    **{
        f"RGB, {kind}": ("tif", tiff(RGB, photometric="rgb", tile=TILE, compression=kind), RGB)
        for kind in ("lzw", "zstd", "packbits", "lzma", "webp", "png", "jpeg2000", "jpegxl", "lerc")
    },
    "RGB in JPEG": (
        "tif",
        tiff(RGB, photometric="rgb", tile=TILE, compression="jpeg", compressionargs={"level": 99}),
        RGB,
    ),
    "RGB in JPEG that stays RGB": (
        "tif",
        tiff(
            RGB, photometric="rgb", tile=TILE, compression="jpeg", compressionargs={"level": 99, "outcolorspace": "rgb"}
        ),
        RGB,
    ),
    "RGB and an unspecified channel": (
        "tif",
        tiff(np.concatenate([RGB, OPACITY], 2), photometric="rgb", extrasamples=["unspecified"], tile=TILE),
        RGB,
    ),
    "RGB and two unspecified channels": (
        "tif",
        tiff(np.concatenate([RGB, OPACITY, OPACITY], 2), photometric="rgb", extrasamples=[0, 0], tile=TILE),
        RGB,
    ),
    "RGBA": (
        "tif",
        tiff(np.concatenate([RGB, OPACITY], 2), photometric="rgb", extrasamples=["unassalpha"], tile=TILE),
        on_white(RGB, 128 / 255),
    ),
    "RGBA, premultiplied": (
        "tif",
        tiff(PREMULTIPLIED, photometric="rgb", extrasamples=["assocalpha"], tile=TILE),
        on_white(RGB, 128 / 255),
    ),
    "RGB, 16 bits": ("tif", tiff(RGB.astype(np.uint16) * 257, photometric="rgb", tile=TILE), RGB),
    "RGB, 16 bits, big endian": ("tif", tiff(RGB.astype(np.uint16) * 257, photometric="rgb", byteorder=">"), RGB),
    "RGB, 12 bits": ("tif", packed(np.rint(RGB * (4095 / 255)).astype(int), 12, 2), RGB),
    "RGB, 8 bits in 16": ("tif", tiff(RGB.astype(np.uint16), photometric="rgb", tile=TILE), RGB),
    "RGB, floats": ("tif", tiff((RGB / 255).astype(np.float32), photometric="rgb", **FULL), RGB),
    "grey": ("tif", tiff(GRAY, photometric="minisblack", tile=TILE), GRAY),
    "grey, 16 bits": ("tif", tiff(GRAY.astype(np.uint16) * 257, photometric="minisblack", tile=TILE), GRAY),
    "grey, white is zero": ("tif", tiff(255 - GRAY, photometric="miniswhite", tile=TILE), GRAY),
    "grey, white is zero, 16 bits": (
        "tif",
        tiff((255 - GRAY).astype(np.uint16) * 257, photometric="miniswhite", **FULL),
        GRAY,
    ),
    "grey, 4 bits": ("tif", packed(GRAY[..., None] // 17, 4, 1), GRAY // 17 * 17),
    "grey and opacity": (
        "tif",
        tiff(np.dstack([GRAY, OPACITY]), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]),
        on_white(GRAY, 128 / 255),
    ),
    "black and white": ("tif", tiff(GRAY > 150, photometric="minisblack"), np.uint8((GRAY > 150) * 255)),
    "palette": ("tif", indexed, RGB),
    "palette, 4 bits": (
        "tif",
        packed(INDEX[..., None], 4, 3, np.pad(COLORS.T.astype(int) * 257, ((0, 0), (0, 12)))),
        RGB,
    ),
    "YCbCr": ("tif", pillow("YCbCr"), RGB),
    "YCbCr in LZW": ("tif", pillow("YCbCr", compression="tiff_lzw"), RGB),
    "YCbCr in JPEG": ("tif", pillow("YCbCr", compression="jpeg", quality=99), RGB),
    "YCbCr in JPEG, coarser grid": (
        "tif",
        tiff(RGB, photometric="rgb", tile=TILE, compression="jpeg", subsampling=(2, 2), compressionargs={"level": 99}),
        RGB,
    ),
    "Aperio's JPEG 2000 of YCbCr": ("svs", aperio("ycbcr", 33003, YCBCR), RGB),
    "Aperio's JPEG 2000 of YCbCr that says RGB": ("svs", aperio("rgb", 33003, YCBCR), RGB),
    "Aperio's JPEG 2000 of RGB": ("svs", aperio("rgb", 33005, RGB), RGB),
    "Aperio's JPEG 2000 of RGB that says YCbCr": ("svs", aperio("ycbcr", 33005, RGB), RGB),
    "CMYK": ("tif", tiff(CMYK, photometric="separated", tile=TILE), RGB),
    "CMYK, 16 bits": ("tif", tiff(CMYK.astype(np.uint16) * 257, photometric="separated", **FULL), RGB),
    "CMYK and opacity": (
        "tif",
        tiff(np.dstack([CMYK, OPACITY]), photometric="separated", planarconfig="contig", extrasamples=["unassalpha"]),
        on_white(RGB, 128 / 255),
    ),
    "palette and opacity": ("tif", lambda path: Image.fromarray(RGB).quantize(4).convert("PA").save(path), RGB),
    "CMYK in JPEG": ("tif", pillow("CMYK", compression="jpeg", quality=99), RGB),
    "CIELab": ("tif", lambda path: lab().save(path), SEEN_OF_LAB),
    "CIELab in LZW": ("tif", lambda path: lab().save(path, compression="tiff_lzw"), SEEN_OF_LAB),
    "ICCLab": ("tif", icc_lab, SEEN_OF_LAB),
    "PNG": ("png", pillow("RGB"), RGB),
    "PNG, palette": ("png", lambda path: Image.fromarray(RGB).quantize(4).save(path), RGB),
    "PNG, grey": ("png", pillow("L"), GRAY),
    "PNG, black and white": (
        "png",
        lambda path: Image.fromarray(np.uint8((GRAY > 150) * 255)).convert("1").save(path),
        np.uint8((GRAY > 150) * 255),
    ),
    "PNG, 16 bits": ("png", lambda path: path.write_bytes(imagecodecs.png_encode(RGB.astype(np.uint16) * 257)), RGB),
    "PNG, grey, 16 bits": (
        "png",
        lambda path: path.write_bytes(imagecodecs.png_encode(GRAY.astype(np.uint16) * 257)),
        GRAY,
    ),
    "PNG, RGBA": (
        "png",
        lambda path: Image.fromarray(np.concatenate([RGB, OPACITY], 2)).save(path),
        on_white(RGB, 128 / 255),
    ),
    "JPEG": ("jpg", pillow("RGB", quality=99, subsampling=0), RGB),
    "JPEG, grey": ("jpg", pillow("L", quality=99), GRAY),
    "JPEG, CMYK": ("jpg", pillow("CMYK", quality=99), RGB),
    "JPEG 2000": ("jp2", pillow("RGB"), RGB),
    "WebP": ("webp", pillow("RGB", lossless=True), RGB),
    "BMP": ("bmp", pillow("RGB"), RGB),
}
"""Suffix, writer, and the colours that are to be seen, RGB or grey."""


def itu_lab(path: Path) -> None:
    tifffile.imwrite(path, np.asarray(lab()), photometric="itulab", tile=TILE)


CHANNELS = np.moveaxis(RGB, 2, 0)
REFUSED: dict[str, tuple[Write, str]] = {
    "fluorescence of 3 channels": (
        tiff(CHANNELS, photometric="minisblack", metadata={"axes": "CYX"}, ome=True),
        r"holds 3 channels.*of one grey value each.*no brightfield image.*Pass the H&E image",
    ),
    "fluorescence of 4 channels, named": (
        tiff(
            np.concatenate([CHANNELS, CHANNELS[:1]]),
            photometric="minisblack",
            metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "NeuN", "GFAP", "IBA1"]}},
            ome=True,
        ),
        r"holds 4 channels \(DAPI, NeuN, GFAP, IBA1\).*no brightfield image",
    ),
    "3 channels in a page": (
        tiff(RGB, photometric="minisblack", planarconfig="contig"),
        "holds 3 channels of one grey value each",
    ),
    "YCbCr of a coarser grid without JPEG": (
        lambda path: Image.fromarray(RGB).save(path, compression="tiff_lzw", tiffinfo={530: (2, 2), 262: 6}),
        r"YCbCr of a coarser grid \(chroma subsampling\) without JPEG",
    ),
    "YCbCr in PNG": (tiff(RGB, photometric="ycbcr", tile=TILE, compression="png"), "YCbCr in PNG"),
    "CIELab in JPEG": (lambda path: lab().save(path, compression="jpeg"), "CIELab in JPEG"),
    "ITULab": (itu_lab, "stores its colours as ITULAB"),
    "colour filter": (tiff(GRAY, photometric="cfa", tile=TILE), "stores its colours as CFA"),
    "32 bits": (tiff(GRAY.astype(np.uint32), photometric="minisblack"), r"gray as uint32 \(32 bits\)"),
    "signed": (tiff(GRAY.astype(np.int16), photometric="minisblack"), "gray as int16"),
    "fax": (
        lambda path: Image.fromarray(GRAY).convert("1").save(path, compression="group4"),
        "compressed as CCITTFAX4",
    ),
    "five inks": (
        tiff(np.dstack([CMYK, GRAY]), photometric="separated", planarconfig="contig", extratags=[(332, 3, 1, 2, True)]),
        "5 inks that are not CMYK",
    ),
}
"""Writer, and what the error says."""
