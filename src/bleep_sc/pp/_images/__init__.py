"""Turn what a user has, an ImageContainer or a file, into one upright RGB image with its place in the section."""
