"""Draw what tl has written."""

from bleep_sc.pl._imputed import imputed

__all__ = ["imputed"]
