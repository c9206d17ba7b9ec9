"""`python -m roboalign push`: upload an exported folder to the Hugging Face hub."""

from pathlib import Path

from roboalign.checkpoint import CheckpointError
from roboalign.export.folder import CALIBRATION, FILES


def push_folder(folder: Path, repository: str, *, private: bool) -> str:
    """Upload an exported folder to a model repository, which is made if it does not exist; the commit's address.

    The account is the one that `hf auth login` or HF_TOKEN names.
    Raises CheckpointError if the folder is not an exported one, or the hub refuses it.
    """
    from huggingface_hub import HfApi

    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} holds no {missing[0]}; write it with `python -m roboalign export PART FOLDER`")
    api = HfApi()
    try:
        api.create_repo(repository, repo_type="model", private=private, exist_ok=True)
        patterns = [*FILES, CALIBRATION]
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=patterns, commit_message="Upload exported model"
        )
    except Exception as error:  # of the hub, of its HTTP client, of the network
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{repository} was not uploaded: {reason}; log in with `hf auth login`, or try again"
        ) from None
    return str(commit.commit_url)
