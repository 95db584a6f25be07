"""The model card of a bundle: what it is, what it scored, how to use it."""

from collections.abc import Mapping

CARD = """\
# Qieemo, {corpus}

Recognises the emotion of an utterance from audio alone: {emotions}.
Trained by the Qieemo recipe for SpeechBrain (our reading of arXiv
2503.22687); the parts are in `hyperparams.yaml`, the weights in
`model.safetensors`.

## Use

```python
from qieemo_sb import EncoderClassifier

classifier = EncoderClassifier.from_hparams("this folder")
log_probs, score, index, emotion = classifier.classify_file("speech.wav")
```

SpeechBrain's own `EncoderClassifier` loads it in the same way.

## Measured

On {num_utterances} held-out utterances of {corpus}, fold {fold}, seed {seed}.
The checkpoint was chosen on validation data; the test data was read once.
{protocol}
| WA | UA | weighted F1 | macro F1 |
|---|---|---|---|
| {weighted_accuracy:.4f} | {unweighted_accuracy:.4f} | {weighted_f1:.4f} \
| {macro_f1:.4f} |

Recall by emotion: {recalls}.

## Limits

It names one of {n_labels} emotions for whatever it hears, speech or not, and
knows the speakers, the language and the recording conditions of its training
data only. How people sound is not how they feel: no decision about a person
should rest on it. The training data's licence may restrict use.
"""

ADAPTED = """\
Each speaker was adapted to, by all of their test clips, without labels: see
`EncoderClassifier.classify_conversation` and `adapt`. A speaker unheard of
before: WA {unheard:.4f}.
"""

READER_CARD = """\
# Qieemo's PPG head, {corpus}

Reads speech, frame by frame: the encoder of a speech recogniser and a CTC
head over {tokens}. It is stage 1 of Qieemo (our reading of arXiv 2503.22687)
for SpeechBrain: `train.py` takes this folder as `ppg_source`. It knows no
emotion.

## Use

```python
from qieemo_sb import EncoderClassifier

reader = EncoderClassifier.from_hparams("this folder")
print(reader.transcribe_file("speech.wav"))
```

## Measured

On the {num_utterances} test utterances of {corpus}, seed {seed}, by greedy
decoding, without a language model. The checkpoint was chosen on validation
data; the test data was read once.

| CER | WER |
|---|---|
| {character_error_rate:.4f} | {word_error_rate:.4f} |

## Limits

It writes down sounds, not words that exist, and is no substitute for a speech
recogniser. The training data's licence may restrict use.
"""


def reader_card(facts: Mapping) -> str:
    """Write the card of a model that only reads.

    Arguments
    ---------
    facts : mapping
        What ``metrics.json`` of ``train_ppg.py`` holds.

    Returns
    -------
    str
        Markdown.
    """
    return READER_CARD.format(**facts)


def model_card(facts: Mapping) -> str:
    """Write a model card.

    Arguments
    ---------
    facts : mapping
        What ``metrics.json`` holds.

    Returns
    -------
    str
        Markdown.
    """
    labels, matrix = facts["labels"], facts["confusion_matrix"]
    recalls = [
        f"{label} {row[i] / sum(row):.2f} of {sum(row)}"
        for i, (label, row) in enumerate(zip(labels, matrix, strict=True))
        if sum(row)
    ]
    protocol = ""
    if "adaptation" in facts:  # its curve begins with no clip at all
        unheard = facts["adaptation"]["weighted_accuracy"][0]
        protocol = ADAPTED.format(unheard=unheard)
    return CARD.format(
        protocol=protocol,
        emotions=", ".join(labels),
        n_labels=len(labels),
        recalls=", ".join(recalls),
        **facts,
    )
