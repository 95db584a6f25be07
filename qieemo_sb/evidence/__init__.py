"""What makes the tables: cross-validation, block probes, ablations."""
