"""The parts of a sweep: its grid, its folds, what can be read again, and what is stored."""
