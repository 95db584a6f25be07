"""Corpora, one file each: parse, validate, split, write manifests.

Nothing here knows of models. `iemocap`, `ravdess` and `own` turn a folder of
audio into train.json, valid.json and test.json; `utterance` holds the record
and its manifest, `folds` the protocols, `command` the command line.
"""
