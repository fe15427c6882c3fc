"""Draw the answers to questions about a method."""
