"""ASR backbones under one contract, ``base.SpeechEncoder``."""
