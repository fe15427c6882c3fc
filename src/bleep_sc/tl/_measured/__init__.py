"""The measured spots of a query: read, used to correct its prediction, and left out of scores."""
