"""Toy tissue with known truth, and readers of public layouts."""

from bleep_sc.datasets._toy import toy

__all__ = ["toy"]
