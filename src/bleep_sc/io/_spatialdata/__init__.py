"""Between SpatialData and AnnData: one table, its places and one image, in pixels of that image."""
