"""Slides as other programs cut them: tiles, with or without features that an encoder made of them elsewhere."""
