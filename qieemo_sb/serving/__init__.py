"""Trained models in use, by three classes for three kinds of programs.

``classifier.EmotionClassifier``
    Torch alone, what ``load_model`` returns: samples as lengths, results by
    name. The place of all computing.
``speechbrain.EncoderClassifier``
    SpeechBrain's interface to it: relative lengths, tuples, ``run_opts``,
    hubs, web addresses.
``onnx.classifier.OnnxClassifier``
    An export, without torch.

``speechbrain.FolderLoader`` and the modules beside it are for
``hyperparams.yaml``, by which SpeechBrain's own class loads a model folder.
"""
