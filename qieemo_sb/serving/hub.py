"""Model folders on the Hugging Face hub: share one, download one.

The hub's own client does the work; it knows the user's login and cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import yaml
from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    ModelCard,
    errors,
    snapshot_download,
)

from qieemo_sb.errors import ModelFolderError, QieemoError
from qieemo_sb.serving.folder import (
    CARD,
    CONFIG,
    HYPERPARAMS,
    LABELS,
    TOKENS,
    WEIGHTS,
    load_folder,
    read_text,
)

FILES = (CONFIG, WEIGHTS, LABELS, TOKENS, HYPERPARAMS, CARD)
NEEDED = ("license", "pipeline_tag")  # in a card; the hub checks their values


def push_to_hub(folder: str | Path, repo_id: str, private: bool = False) -> str:
    """Upload a model folder to the hub, in one commit.

    Nothing is made there before the model is loaded and its card is checked,
    here and by the hub. Other files in the folder are not uploaded.

    Arguments
    ---------
    folder : str or Path
        Of a trained model.
    repo_id : str
        "user/name"; made if it is not there.
    private : bool
        Only its owner can see it.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    ModelFolderError
        The model is damaged, or its card is not fit for the hub.
    QieemoError
        The hub refuses, or cannot be reached; or the model is to be private,
        and what is there is public.
    """
    folder, api = Path(folder), HfApi()
    load_folder(folder)
    with _hub_errors(repo_id):
        check_card(folder / CARD)
        # None, not False: an organisation may have another default.
        repo = api.create_repo(repo_id, private=private or None, exist_ok=True)
        exposed = private and not api.model_info(repo.repo_id).private
    if exposed:
        raise QieemoError(
            f"{repo_id} is on the hub already, and public: make it private in "
            "its settings there, or choose another name."
        )
    files = [folder / name for name in FILES if (folder / name).is_file()]
    with _hub_errors(repo_id):
        # Not upload_folder, which may make several commits.
        commit = api.create_commit(
            repo.repo_id,
            [CommitOperationAdd(path.name, path) for path in files],
            commit_message="Upload a model of Qieemo",
        )
    return commit.commit_url


def download(repo_id: str) -> Path:
    """Download a model folder from the hub, or find it in the cache.

    Arguments
    ---------
    repo_id : str
        "user/name".

    Returns
    -------
    Path
        The folder, for ``load_folder``.

    Raises
    ------
    QieemoError
        There is no such model, it cannot be read without a login, or the hub
        cannot be reached and the cache lacks it.
    """
    with _hub_errors(repo_id):
        return Path(snapshot_download(repo_id, allow_patterns=[*FILES]))


def check_card(path: Path) -> None:
    """Raise ModelFolderError unless the hub takes a card's metadata."""
    text = read_text(path)
    try:
        card = ModelCard(text)
        missing = [name for name in NEEDED if not card.data.get(name)]
        if missing:
            raise ValueError(f"has no {' and no '.join(missing)}")
        card.validate()  # by the hub
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ModelFolderError(
            f"{path}: {_line(error)}. Change the metadata between the lines "
            "'---' at its top, such as 'license: cc-by-4.0' and "
            "'pipeline_tag: audio-classification'."
        ) from error


@contextlib.contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    """Raise errors of the hub's client as QieemoError, in one line."""
    try:
        yield
    except errors.HfHubHTTPError as error:
        reason = f"The Hugging Face hub refuses {repo_id}: {_line(error)}"
        if error.response.status_code in (401, 403, 404):
            reason = (
                f"The Hugging Face hub has no model {repo_id} that you may use "
                "so: check the name, and log in with 'hf auth login'."
            )
        raise QieemoError(reason) from error
    except errors.HFValidationError as error:
        raise QieemoError(f"{repo_id}: {_line(error)}") from error
    except (
        errors.HTTPError,
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
    ) as error:
        raise QieemoError(
            f"The Hugging Face hub cannot be reached for {repo_id}: check the "
            "connection, and that HF_HUB_OFFLINE is not set."
        ) from error


def _line(error):
    """The message of an error in one line."""
    return " ".join(str(error).split())
