"""Draw what tl has written."""

from bleep_sc.pl._imputed import imputed
from bleep_sc.pl._scores import scores

__all__ = ["imputed", "scores"]
