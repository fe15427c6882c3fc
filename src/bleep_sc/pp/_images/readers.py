"""Live with readers of other packages: their warnings, their errors, and their limits."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from bleep_sc.pp._images.tiff_colors import ColorError


@contextmanager
def reader_errors_naming(name: str) -> Iterator[None]:
    """Turn an error while an image is read, of any reader, into a ValueError that names the image."""
    try:
        yield
    except ColorError as err:
        msg = f"`{name}` {err}."
        raise ValueError(msg) from err
    except Exception as err:  # each reader and codec has errors of its own
        reason = " ".join(str(err).split()).split(" Please see documentation")[0]
        msg = f"the pixels of `{name}` could not be read, its file may be cut short or damaged: {reason}"
        raise ValueError(msg) from err


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Hide messages of image readers that are not for our users."""
    with warnings.catch_warnings():
        # Pillow's size limit guards against images from strangers; this one is the user's own slide
        warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
        # how squidpy reads a file is squidpy's to mend
        warnings.filterwarnings("ignore", message="The plugin infrastructure in `skimage.io`", category=FutureWarning)
        yield
