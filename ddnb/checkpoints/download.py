"""Download checkpoints. A source is a text:

    hf:owner/name             a repository on the Hugging Face Hub: a diffusers folder, or one checkpoint
    hf:owner/name/file.ckpt   one file there
    drive:ID                  a file on Google Drive
    https://...               a plain link

Downloads are written to a ``.part`` file that is renamed when it is complete and its SHA-256, if known, is right.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import socket
import time
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from ..errors import ArgumentError, CheckpointError
from ..files import file_sha256, local_name, locked
from ..runtime import cache_dir
from .folders import DIFFUSERS_CONFIG, MODEL_CONFIG, choose_weights, shards

T = TypeVar("T")
OnProgress = Callable[[int, int | None], object]
"""Called as ``on_progress(bytes_done, bytes_in_all)``; the total is None if the server does not state it."""

SCHEMES = ("hf:", "drive:", "https://", "http://")
TRIES = 5
PAUSE_S = 0.5
_CHUNK = 1 << 20
_DISK_RESERVE = 64 << 20
_TIMEOUT_S = 30


def fetch(source: str, *, sha256: str | None = None, on_progress: OnProgress | None = None) -> Path:
    """Return the local path of a source, and download it if necessary.

    Two processes that ask for the same source download it once: the second waits for the first.

    Args:
        source: see the module's docstring.
        sha256: expected hash of a link or a Drive file; the Hub's own library checks its downloads.
        on_progress: called during the download; the Hub and Drive draw their own bars.

    Raises:
        CheckpointError: the download failed; the message says why and what to do.
        ArgumentError: an unknown kind of source.
    """
    if source.startswith("hf:"):
        return _from_hub(source.removeprefix("hf:"))
    if not source.startswith(SCHEMES):
        raise ArgumentError(f"Unknown source {source!r}; known kinds: {', '.join(SCHEMES)}.")
    target = local_path(source)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_name(f"{target.name}.lock")):
            if not target.exists():
                if source.startswith("drive:"):
                    _from_drive(source.removeprefix("drive:"), target, sha256)
                else:
                    _from_url(source, target, sha256, on_progress)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error}. Set DDNB_CACHE to another folder.") from error
    return target


def download_dir() -> Path:
    """Return the folder of plain downloads and Drive files."""
    return cache_dir() / "downloads"


def local_path(source: str) -> Path:
    """Return the local path of a link or a Drive file; a hash separates files of one name from two links."""
    name = local_name(Path(urllib.parse.unquote(urllib.parse.urlsplit(source).path)).name, "checkpoint")
    return download_dir() / hashlib.sha256(source.encode()).hexdigest()[:10] / name


def _from_url(url: str, target: Path, sha256: str | None, on_progress: OnProgress | None) -> None:
    """Download a plain link; a broken connection is resumed by HTTP range, up to ``TRIES`` times in a row.

    A partial file of an earlier run is only resumed if the hash is known, as it may be of another file.
    """
    part = target.with_name(target.name + ".part")
    if sha256 is None:
        part.unlink(missing_ok=True)
    failures, reached, version = 0, 0, _Version()
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _receive(url, part, on_progress, version):
                break
            error: Exception = ConnectionError("the connection ended early")
        except urllib.error.HTTPError as refused:
            if refused.code == 416 and before:  # the partial file is not a beginning of this file
                part.unlink()
            elif refused.code < 500 and refused.code != 429:
                raise CheckpointError(f"{url} answers {refused.code} {refused.reason}.") from refused
            error = refused
        except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as broken:
            error = broken
        size = part.stat().st_size if part.exists() else 0
        failures, reached = (0, size) if size > max(before, reached) else (failures + 1, reached)
        time.sleep(PAUSE_S * failures)
        if failures >= TRIES:
            raise CheckpointError(f"{url} could not be reached: {error}. Check the network and try again.") from error
    _accept(part, target, sha256, url)


@dataclass
class _Version:
    """The version of a file that a server sent first: what was received of it must not be continued with another."""

    tag: str | None = None


def _receive(url: str, part: Path, on_progress: OnProgress | None, version: _Version) -> bool:
    """Append what the server sends to ``part``; return whether that was all of it."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "ddnb", "Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    if done and version.tag:
        headers["If-Range"] = version.tag  # for another version the server sends the whole file
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S) as answer:
        if answer.headers.get_content_type() == "text/html":
            raise CheckpointError(f"{url} sent a web page instead of weights; open it in a browser to see why.")
        if answer.status != 206:  # the server sends the file from its beginning
            done = 0
        elif f"bytes {done}-" not in answer.headers.get("Content-Range", f"bytes {done}-"):
            part.unlink()
            raise ConnectionError("the server sent another part than asked for")
        tag = answer.headers.get("ETag")
        version.tag = tag if tag and not tag.startswith("W/") else None
        length = answer.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        _check_disk(part.parent, (total or done) - done)
        with part.open("ab" if done else "wb") as file:
            while piece := _read(answer):
                file.write(piece)
                done += len(piece)
                if on_progress is not None:
                    on_progress(done, total)
    return total is None or done == total


def _read(answer: http.client.HTTPResponse) -> bytes:
    """Read the next piece; an error here is one of the connection, not of the disk."""
    try:
        return answer.read(_CHUNK)
    except OSError as error:
        raise ConnectionError(str(error)) from error


def _check_disk(folder: Path, needed: int) -> None:
    if (free := shutil.disk_usage(folder).free) < needed + _DISK_RESERVE:
        raise CheckpointError(
            f"{needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free in {folder}. "
            "Free disk space, or set DDNB_CACHE to a folder on another disk."
        )


def _accept(part: Path, target: Path, sha256: str | None, source: str) -> None:
    """Rename a complete download; remove it if its hash is wrong."""
    if sha256 is not None and (got := file_sha256(part)) != sha256:
        part.unlink()
        raise CheckpointError(
            f"{source} sent the wrong file, which was removed: its SHA-256 is {got}, where {sha256} is expected."
        )
    part.replace(target)


def _from_hub(place: str) -> Path:
    """Download a file, or the files of a checkpoint that a repository holds, through the Hub's own cache."""
    owner_name, file = "/".join(place.split("/")[:2]), "/".join(place.split("/")[2:])
    if "/" not in owner_name:
        raise ArgumentError(f"'hf:{place}': write 'hf:owner/name', or 'hf:owner/name/path/of/file.ckpt'.")
    if file:
        return _hub_file(owner_name, file)
    if (here := _hub_folder(owner_name)) is not None and here.is_dir():
        return here
    try:
        names = _hub_names(owner_name)
    except CheckpointError:
        if here is not None:
            return here
        raise
    if (found := _weights_in(names)) is None:
        listed = ", ".join(sorted(names)[:8]) or "nothing"
        raise CheckpointError(
            f"hf:{owner_name} holds no single checkpoint, but {listed}. Name one: hf:{owner_name}/path/of/file.ckpt."
        )
    folder, weights = found
    for settings in (DIFFUSERS_CONFIG, MODEL_CONFIG):  # first: without them the rest is no use
        if folder + settings in names:
            _hub_file(owner_name, folder + settings)
    path = _hub_file(owner_name, folder + weights)
    for shard in shards(path, there=False) if path.suffix == ".json" else ():
        _hub_file(owner_name, folder + shard.name)
    return path.parent.parent if folder == "unet/" else path


def _weights_in(names: Collection[str]) -> tuple[str, str] | None:
    """Return the folder, which ends in ``/`` or is empty, and the name of the weights of a repository."""
    for folder in ("unet/", "", *sorted({f"{PurePosixPath(name).parent}/" for name in names})):
        inside = [name.removeprefix(folder) for name in names if name.startswith(folder)]
        if weights := choose_weights(name for name in inside if "/" not in name):
            return folder, weights
    return None


def _hub_folder(repo: str) -> Path | None:
    """Return the diffusers folder or the weights of a repository that are on this machine; without any request."""
    from huggingface_hub import snapshot_download

    try:
        root = Path(snapshot_download(repo, local_files_only=True))
        found = _weights_in([file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()])
        if found and found[1].endswith(".json"):
            shards(root / found[0] / found[1])
    except (OSError, CheckpointError):  # LocalEntryNotFoundError among the former
        return None
    return (root if found[0] == "unet/" else root / found[0] / found[1]) if found else None


def _hub_names(repo: str) -> list[str]:
    """Return the names of the files of a repository."""
    from huggingface_hub import HfApi

    return _ask_hub(repo, "", lambda: HfApi().list_repo_files(repo))


def _hub_cached(repo: str, path: str) -> Path | None:
    """Return a file of the Hub if it is on this machine already; without any request."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, path, local_files_only=True))
    except OSError:  # LocalEntryNotFoundError among them
        return None


def _hub_out_of_reach() -> bool:
    """Return whether the Hub is unreachable: its own library would retry for half a minute first."""
    from huggingface_hub import constants

    if urllib.request.getproxies():  # the proxy decides
        return False
    place = urllib.parse.urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((place.hostname, place.port or 443), timeout=10).close()
    except OSError:
        return True
    return False


def _hub_file(repo: str, path: str) -> Path:
    """Return one file of the Hub; without any request if it is in its cache."""
    if here := _hub_cached(repo, path):
        return here
    from huggingface_hub import hf_hub_download

    return _ask_hub(repo, path, lambda: Path(hf_hub_download(repo, path)))


def _ask_hub(repo: str, path: str, ask: Callable[[], T]) -> T:
    """Return what the Hub answers.

    Raises:
        CheckpointError: it cannot be reached, or does not give it; the message says why.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if _hub_out_of_reach():
        raise CheckpointError(f"hf:{repo}: the Hub cannot be reached. Check the network and try again.")
    try:
        return ask()
    except GatedRepoError as error:
        raise CheckpointError(
            f"hf:{repo} requires you to accept its terms: do so on its page, then set HF_TOKEN to your token."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"hf:{repo} does not exist on the Hub, or is private (then set HF_TOKEN).") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(f"hf:{repo}: the Hub cannot be reached. Check the network and try again.") from error
    except EntryNotFoundError as error:
        raise CheckpointError(f"hf:{repo} has no file {path}.") from error
    except Exception as error:  # the HTTP library below the Hub's has changed twice, and so have its exceptions
        place = f"{repo}/{path}" if path else repo
        raise CheckpointError(f"hf:{place} could not be downloaded: {type(error).__name__}: {error}") from error


def _from_drive(file_id: str, target: Path, sha256: str | None) -> None:
    """Download a Drive file. gdown 5 may return None where gdown 6 raises; both are failures."""
    import gdown

    part = target.with_name(target.name + ".part")
    try:
        got = gdown.download(id=file_id, output=str(part), quiet=True)
    except Exception as error:  # gdown's exceptions differ between its versions
        raise _drive_failed(file_id, str(error)) from error
    if got is None:
        raise _drive_failed(file_id, "no file was received")
    _accept(part, target, sha256, f"drive:{file_id}")


def _drive_failed(file_id: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"drive:{file_id} could not be downloaded: {reason}. If Google reports too many requests, wait up to a day, "
        "or copy the file to your own Drive, download it there and load its path."
    )
