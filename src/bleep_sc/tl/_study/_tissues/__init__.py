"""Helpers of `transfer_matrix`, `evaluate_regions` and `gene_strata`."""
