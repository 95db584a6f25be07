"""What the recipes' trainings share."""
