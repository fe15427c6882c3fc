"""How many µm a pixel of an image has: who says what, and where they contradict each other."""
