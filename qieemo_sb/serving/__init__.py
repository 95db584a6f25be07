"""Trained models in programs."""
