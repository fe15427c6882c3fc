"""Turn figures and arrays into pictures that stand in the file itself."""

from base64 import b64encode
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from bleep_sc._report.records import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

_DPI = 100
_JPEG_QUALITY = 84
_COLOURS = 256


def data_uri(image: "Image", kind: str) -> str:
    """Encode an image as ``"jpeg"``, as ``"png"``, or as ``"overlay"``: a PNG of at most 256 colours, some clear."""
    file = BytesIO()
    if kind == "jpeg":
        image.convert("RGB").save(file, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    elif kind == "overlay":
        _with_palette(image).save(file, "PNG", optimize=True)
    else:
        image.convert("RGB").save(file, "PNG", optimize=True)
    return f"data:image/{'jpeg' if kind == 'jpeg' else 'png'};base64,{b64encode(file.getvalue()).decode()}"


def _with_palette(image: "Image") -> "Image":
    """Write each pixel as one of a list of colours: exactly, where no more than 256 are there."""
    from PIL import Image

    colours, numbers = np.unique(np.asarray(image).view(np.uint32), return_inverse=True)
    if len(colours) > _COLOURS:
        return image.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE)
    palette = colours.astype(np.uint32).view(np.uint8)
    listed = Image.fromarray(numbers.reshape(image.height, image.width).astype(np.uint8))
    listed.putpalette(palette.tobytes(), "RGBA")
    return listed


def drawn(draw: "Callable[[Axes], Any]", alt: str, *, size: tuple[int, int], kind: str) -> Picture:
    """Draw into axes that fill a picture of a size in pixels; an overlay is clear where nothing is drawn.

    The figure is none of pyplot's, so that no window and no notebook shows it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = size
    fig = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white" if kind == "jpeg" else "none")
    canvas = FigureCanvasAgg(fig)
    ax = fig.add_axes((0, 0, 1, 1))
    draw(ax)
    ax.set_axis_off()
    return _of_canvas(canvas, alt, kind)


def of_figure(fig: "Figure", alt: str, *, dpi: int, kind: str) -> Picture:
    """Take a picture of a figure of `bl.pl`, and close the figure."""
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    try:
        fig.set_dpi(dpi)
        return _of_canvas(FigureCanvasAgg(fig), alt, kind)
    finally:
        plt.close(fig)


def of_crop(crop: np.ndarray, alt: str, *, side: int) -> Picture:
    """Take a picture of a crop, no wider than `side` pixels."""
    from PIL import Image

    values = np.asarray(crop)
    if values.dtype != np.uint8:
        values = np.clip(255 * values, 0, 255).astype(np.uint8)
    image = Image.fromarray(values)
    image.thumbnail((side, side))
    return Picture(data_uri(image, "jpeg"), alt, image.width, image.height)


def colour_bar(cmap: str) -> str:
    """Draw the colours of a map from low to high, as a strip of 128 pixels."""
    from matplotlib import colormaps
    from PIL import Image

    colours = colormaps[cmap](np.linspace(0, 1, 128), bytes=True)
    return data_uri(Image.fromarray(np.ascontiguousarray(colours[None]), "RGBA"), "png")


def _of_canvas(canvas: Any, alt: str, kind: str) -> Picture:
    from PIL import Image

    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba()).copy())
    return Picture(data_uri(image, kind), alt, image.width, image.height)
