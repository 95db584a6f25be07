"""Trained models without torch."""
