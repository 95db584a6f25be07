"""Corpora: parse, check, split, write manifests.

Nothing here knows models. `manifest` holds the utterance and its manifest,
`splits` the protocols, `sounds` finds audio; `iemocap`, `named` (labels in file
names, the facts in `entries`), `emobox` (official folds), `table` (a user's CSV
or manifests), `librispeech` and `kaldi` (speech-text pairs) turn a folder of
audio into train.json, valid.json and test.json; `multi` does so for several of
`named` together.
"""
