"""Signs that image and spots do not belong together: each is one function, and one line in the registry."""
