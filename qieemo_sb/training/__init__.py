"""Code that the recipes' trainings share."""
