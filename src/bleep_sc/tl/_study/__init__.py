"""What one tissue teaches of another, of its own regions, and of its genes."""
