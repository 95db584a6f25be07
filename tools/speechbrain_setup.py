#!/usr/bin/env python3
"""A small untrained Whisper for the tests of Qieemo's recipes, offline.

run_recipe_tests runs this first, from the root of a SpeechBrain checkout.

Authors
 * The Qieemo-SB authors 2026
"""

from pathlib import Path

from transformers import WhisperConfig, WhisperModel

FOLDER = Path("tests/tmp/qieemo/whisper")

if __name__ == "__main__" and not (FOLDER / "config.json").exists():
    config = WhisperConfig(
        d_model=16,
        encoder_layers=6,  # as many blocks as whisper-base, whose are named
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
    )
    WhisperModel(config).save_pretrained(FOLDER)
