"""How far to trust what is predicted."""
