"""Upload, download, recording and Google Drive on Google Colab.

Call these functions from a cell, not from a button: Colab answers only the running cell.
"""

from __future__ import annotations

import base64
import binascii
from functools import partial
from pathlib import Path

from ..errors import ArgumentError
from ..files import atomically, expand, free_name, safe_name
from ..runtime import in_colab
from .scripts import read_script
from .sources import clip_of_bytes

DRIVE = Path("/content/drive")
MICROPHONE_S = (0.1, 60.0)


def upload(folder: str | Path = "uploads") -> list[Path]:
    """Upload sound files from your computer; on Colab only.

    Elsewhere the notebook reads your files by their paths.

    Args:
        folder: the folder to write to; a number is added to a name that exists.

    Returns:
        The paths of the files.

    Raises:
        RuntimeError: not on Colab.
        ArgumentError: nothing was chosen, or some files are not audio; the audio files are kept.
    """
    _require_colab("upload")
    from google.colab import files

    paths, refused = [], []
    for name, content in files.upload().items():
        Path(name).unlink(missing_ok=True)  # Colab leaves a copy beside the notebook
        path = free_name(Path(folder) / f"{safe_name(Path(name).stem)}{Path(name).suffix[:8]}")
        try:
            clip_of_bytes(name, content, limit_bytes=None)
        except ValueError as error:
            refused.append(str(error))
            continue
        atomically(path, partial(Path.write_bytes, data=content))
        paths.append(path)
    if refused:
        kept = f" Saved in {folder}: {', '.join(path.name for path in paths)}." if paths else ""
        raise ArgumentError(" ".join(refused) + kept)
    if not paths:
        raise ArgumentError("Nothing was uploaded: run the cell again and choose a file.")
    return paths


def record_microphone(path: str | Path = "recording.wav", seconds: float = 4.0) -> Path:
    """Record from the microphone of your computer; on Colab only. The browser asks for permission.

    Args:
        path: the WAV file to write; a number is added to a name that exists.
        seconds: length in seconds, 0.1 to 60.

    Returns:
        The path of the file.

    Raises:
        RuntimeError: not on Colab, or the browser refused the microphone.
        ArgumentError: ``seconds`` is out of range, or the recording is silent.
    """
    low, high = MICROPHONE_S
    if not low <= seconds <= high:
        raise ArgumentError(f"seconds={seconds!r}: give {low:g} to {high:g}.")
    _require_colab("record_microphone")
    from google.colab.output import eval_js

    answer = str(eval_js(microphone_js(seconds), timeout_sec=seconds + 60))
    try:
        content = base64.b64decode(answer, validate=True)
    except binascii.Error as error:
        raise RuntimeError(
            f"The browser gave no recording ({answer[:200]}). Allow the microphone beside the address bar and run the "
            "cell again; or record with your phone and upload the file."
        ) from error
    path = free_name(expand(path))
    clip_of_bytes(path.name, content, limit_bytes=None)  # refuses silence
    atomically(path, lambda part: part.write_bytes(content))
    return path


def microphone_js(seconds: float) -> str:
    """Return the script that records in a browser; its value is a 16-bit WAV file in base64, or an error message.

    The browser decodes its own recording: libsndfile cannot read the WebM that browsers record.
    """
    return f"({read_script('microphone.js')})({seconds:g})"


def drive_folder(name: str = "ddnb") -> Path:
    """Mount your Google Drive and return a folder on it, created if needed; on Colab only.

    Files elsewhere on a Colab machine are lost when the session ends.

    Raises:
        RuntimeError: not on Colab.
    """
    _require_colab("drive_folder")
    from google.colab import drive

    drive.mount(str(DRIVE))
    folder = DRIVE / "MyDrive" / safe_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def download(path: str | Path) -> None:
    """Download a file through the browser; on Colab only.

    Raises:
        RuntimeError: not on Colab.
        FileNotFoundError: the file does not exist.
    """
    _require_colab("download")
    from google.colab import files

    if not Path(path).is_file():
        raise FileNotFoundError(f"No file {path} to download.")
    files.download(str(path))


def _require_colab(what: str) -> None:
    if not in_colab():
        raise RuntimeError(f"{what} works on Colab only: elsewhere, use the paths of your files.")
