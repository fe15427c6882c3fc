"""Toy tissue with known truth, and readers of public layouts."""

from bleep_sc.datasets._her2st import her2st
from bleep_sc.datasets._toy import toy

__all__ = ["her2st", "toy"]
