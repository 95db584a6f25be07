"""Tokenizers of the PPG: text in, tokens out, and back."""
