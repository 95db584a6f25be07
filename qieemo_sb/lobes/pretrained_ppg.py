"""The PPG of a CTC model that comes with its own head.

wav2vec 2.0, HuBERT, WavLM and data2vec checkpoints that were tuned to read
(``…ForCTC``) have a linear layer over their last block and a vocabulary. The
tokens are put in this house's order: the blank first, then the others by
name, a space for the word delimiter, letters in lower case. An English
checkpoint of letters thus has the very tokens of ``Characters``.

Authors
 * The Qieemo-SB authors 2026
"""

import torch
from transformers import AutoConfig, AutoModelForCTC, Wav2Vec2CTCTokenizer

from qieemo_sb.encoders.ssl import read_config
from qieemo_sb.rebuild import Rebuildable
from qieemo_sb.tokens.base import Tokenizer
from qieemo_sb.tokens.characters import Characters
from qieemo_sb.tokens.vocabulary import Vocabulary


class PretrainedPPGHead(Rebuildable):
    """Linear → log-softmax, with weights that do not train.

    It reads as its checkpoint was taught to: an emotion loss would soon make
    something else of it.

    Arguments
    ---------
    d_model : int
        D, the encoder's width.
    n_tokens : int
        V, tokens with the CTC blank, which is token 0.

    Example
    -------
    >>> head = PretrainedPPGHead(d_model=8, n_tokens=5)
    >>> head(torch.randn(2, 7, 8), torch.tensor([7, 3])).shape
    torch.Size([2, 7, 5])
    """

    def __init__(self, d_model: int, n_tokens: int):
        super().__init__()
        self.n_tokens = n_tokens
        self.frozen = True
        self.linear = torch.nn.Linear(d_model, n_tokens)
        self.requires_grad_(False)

    def forward(
        self, last_block: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """Token log-probabilities of every frame.

        Arguments
        ---------
        last_block : torch.Tensor
            [B, T, D].
        lengths : torch.Tensor
            [B] frames. Not used: each frame is read by itself.

        Returns
        -------
        torch.Tensor
            [B, T, V] log-probabilities.
        """
        return self.linear(last_block).log_softmax(dim=-1)


def has_ctc_head(source: str) -> bool:
    """Whether a checkpoint was tuned to read.

    Arguments
    ---------
    source : str
        A hub id or a local folder in Hugging Face format.

    Returns
    -------
    bool
    """
    architectures = AutoConfig.from_pretrained(source).architectures or []
    return any(name.endswith("ForCTC") for name in architectures)


def pretrained_ppg_head(source: str) -> PretrainedPPGHead:
    """A checkpoint's CTC head, its rows in the order of ``tokens_of``.

    Begin, end and unknown are left out: no transcript has them, so CTC never
    teaches a model to say them.

    Arguments
    ---------
    source : str
        A hub id or a local folder in Hugging Face format.

    Returns
    -------
    PretrainedPPGHead

    Raises
    ------
    ValueError
        The checkpoint has no such head, or none that can be used.
    """
    config = _read_ctc_config(source)
    model, info = AutoModelForCTC.from_pretrained(
        source,
        dtype=torch.float32,
        weights_only=True,
        output_loading_info=True,
    )
    if any(name.startswith("lm_head.") for name in info["missing_keys"]):
        raise ValueError(f"'{source}' lacks the weights of its CTC head.")
    rows = list(_vocabulary(source, config.vocab_size))
    head = PretrainedPPGHead(config.hidden_size, len(rows))
    head.linear.weight.data = model.lm_head.weight.data[rows]
    head.linear.bias.data = model.lm_head.bias.data[rows]
    return head


def tokens_of(source: str) -> Tokenizer:
    """The tokens of the head that ``pretrained_ppg_head`` gives.

    Arguments
    ---------
    source : str
        A hub id or a local folder in Hugging Face format.

    Returns
    -------
    Tokenizer
        ``Characters`` where the checkpoint has just these.

    Raises
    ------
    ValueError
        The checkpoint has no CTC head, or none that can be used.
    """
    vocabulary = _vocabulary(source, _read_ctc_config(source).vocab_size)
    _, *names = vocabulary.values()
    characters = Characters()
    return characters if names == characters.names[1:] else Vocabulary(names)


def _read_ctc_config(source):
    """Configuration of a checkpoint with a head on its last block."""
    config = read_config(source)
    if not has_ctc_head(source):
        raise ValueError(
            f"'{source}' has no CTC head: it holds {config.architectures}. Use "
            "PPGHead, or a checkpoint that was tuned to read."
        )
    if getattr(config, "add_adapter", False):
        raise ValueError(
            f"'{source}' reads from an adapter above its last block, whose "
            "frames are not 20 ms. Use PPGHead."
        )
    return config


def _vocabulary(source, size):
    """Row of the head → token, in this house's order; the blank is first."""
    try:
        tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(source)
    except (OSError, TypeError) as error:
        raise ValueError(
            f"'{source}' has a CTC head and no vocab.json that says what its "
            f"outputs mean: {error}"
        ) from error
    blank = tokenizer.pad_token_id
    if blank is None or blank >= size:
        raise ValueError(
            f"'{source}' has {size} outputs, none of which is the blank "
            f"'{tokenizer.pad_token}'."
        )
    unsaid = {blank, tokenizer.bos_token_id, tokenizer.eos_token_id}
    unsaid.add(tokenizer.unk_token_id)
    names = {
        row: " " if token == tokenizer.word_delimiter_token else token
        for token, row in tokenizer.get_vocab().items()
        if row < size and row not in unsaid
    }
    lower = {row: name.lower() for row, name in names.items()}
    if len(set(lower.values())) == len(names):  # case says nothing
        names = lower
    ordered = sorted(names.items(), key=lambda item: item[1])
    return {blank: tokenizer.pad_token, **dict(ordered)}
