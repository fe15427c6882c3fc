"""Corrects a prediction by spots that were measured; arrays in, arrays out."""
