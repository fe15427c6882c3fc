"""The orientation that a file states (TIFF and EXIF tag 274): how its stored pixels are turned upright."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Turn:
    """How stored pixels become upright: rows and columns are exchanged first, then each axis may be reversed."""

    exchange: bool = False
    left_right: bool = False
    upside_down: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the upright image, of those of the stored one."""
        return (width, height) if self.exchange else (height, width)

    def stored(self, low: np.ndarray, high: np.ndarray, width_height: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Find where rectangles of the upright image lie in the stored one.

        Parameters
        ----------
        low, high
            First pixel of each rectangle and the one after its last, x and y (n, 2).
        width_height
            Width and height of the upright image.
        """
        reverse = np.array([self.left_right, self.upside_down])
        limit = np.asarray(width_height)
        low, high = np.where(reverse, limit - high, low), np.where(reverse, limit - low, high)
        return (low[:, ::-1], high[:, ::-1]) if self.exchange else (low, high)

    def place(self, xy: np.ndarray, width_height: np.ndarray) -> np.ndarray:
        """Find where places in the stored image (n, 2) come to lie in the upright one.

        Parameters
        ----------
        xy
            x and y in pixels of the stored image; a pixel's centre has whole numbers.
        width_height
            Width and height of the stored image.
        """
        width, height = width_height[::-1] if self.exchange else width_height
        xy = xy[:, ::-1] if self.exchange else xy
        reverse = np.array([self.left_right, self.upside_down])
        return np.where(reverse, np.array([width, height]) - 1 - xy, xy)

    def upright(self, pixels: np.ndarray) -> np.ndarray:
        """Turn stored pixels (y, x, channels)."""
        if self.exchange:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.upside_down else 1, :: -1 if self.left_right else 1]


UPRIGHT = Turn()

TURNS = {
    1: UPRIGHT,
    2: Turn(left_right=True),
    3: Turn(left_right=True, upside_down=True),
    4: Turn(upside_down=True),
    5: Turn(exchange=True),
    6: Turn(exchange=True, left_right=True),
    7: Turn(exchange=True, left_right=True, upside_down=True),
    8: Turn(exchange=True, upside_down=True),
}
"""What each value of the tag asks for (TIFF 6.0, section 8)."""
