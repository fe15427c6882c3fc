"""Draws what the studies of tl have found."""
