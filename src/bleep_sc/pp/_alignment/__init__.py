"""Whether colours under the spots go with their expression better as given than in another place: arrays alone."""
