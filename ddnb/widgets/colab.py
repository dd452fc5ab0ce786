"""What only Google Colab can and needs: files from and to the browser, Google Drive, the microphone.

Each is called from a cell, never from a button: they talk to the cell that is running.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from ..files import atomically, free_name, safe_name
from ..runtime import in_colab
from .sources import clip_of_bytes

DRIVE = Path("/content/drive")
MICROPHONE_S = (0.1, 60.0)

_RECORD = """
(async () => {
  const seconds = SECONDS;
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia(
      {audio: {echoCancellation: false, noiseSuppression: false, autoGainControl: false}});
  } catch (error) {
    return 'refused: ' + error.message;
  }
  const label = document.createElement('p');
  label.setAttribute('role', 'status');
  label.textContent = 'recording ' + seconds + ' s ...';
  document.body.appendChild(label);
  const recorder = new MediaRecorder(stream), parts = [];
  recorder.ondataavailable = event => parts.push(event.data);
  const stopped = new Promise(resolve => recorder.onstop = resolve);
  recorder.start();
  await new Promise(resolve => setTimeout(resolve, 1000 * seconds));
  recorder.stop();
  await stopped;
  stream.getTracks().forEach(track => track.stop());
  label.textContent = 'recorded ' + seconds + ' s';
  const context = new AudioContext();
  const sound = await context.decodeAudioData(await new Blob(parts).arrayBuffer());
  await context.close();
  const count = sound.numberOfChannels, frames = sound.length, size = 2 * count * frames;
  const view = new DataView(new ArrayBuffer(44 + size));
  const text = (at, word) => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, 'RIFF'); view.setUint32(4, 36 + size, true); text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, count, true);
  view.setUint32(24, sound.sampleRate, true); view.setUint32(28, 2 * count * sound.sampleRate, true);
  view.setUint16(32, 2 * count, true); view.setUint16(34, 16, true);
  text(36, 'data'); view.setUint32(40, size, true);
  for (let c = 0; c < count; c++) {
    const samples = sound.getChannelData(c);
    for (let i = 0; i < frames; i++)
      view.setInt16(44 + 2 * (count * i + c), Math.round(32767 * Math.max(-1, Math.min(1, samples[i]))), true);
  }
  const bytes = new Uint8Array(view.buffer);
  let binary = '';
  for (let i = 0; i < bytes.length; i += 32768) binary += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(binary);
})()
"""


def upload(folder: str | Path = "uploads") -> list[Path]:
    """Bring sound files from your computer; on Colab only, elsewhere put them into a folder and type its path.

    Args:
        folder: where to put them; a name that is taken gets a number.

    Returns:
        Their paths.

    Raises:
        RuntimeError: not on Colab.
        ValueError: nothing was chosen, or some of it is no sound; what is one is kept.
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
        atomically(path, lambda part, content=content: part.write_bytes(content))
        paths.append(path)
    if refused:
        kept = f" These are in {folder}: {', '.join(path.name for path in paths)}." if paths else ""
        raise ValueError(" ".join(refused) + kept)
    if not paths:
        raise ValueError("Nothing was uploaded: run the cell again and choose a file.")
    return paths


def record(path: str | Path = "recording.wav", seconds: float = 4.0) -> Path:
    """Record from the microphone of your computer; on Colab only. The browser asks for permission.

    Args:
        path: the WAV file to write; a name that is taken gets a number.
        seconds: how long, 0.1 to 60.

    Returns:
        The path that was written.

    Raises:
        RuntimeError: not on Colab, or the browser refused the microphone.
        ValueError: ``seconds`` out of range, or silence.
    """
    low, high = MICROPHONE_S
    if not low <= seconds <= high:
        raise ValueError(f"seconds={seconds!r}: give {low:g} to {high:g}.")
    _require_colab("record")
    from google.colab.output import eval_js

    answer = str(eval_js(microphone_js(seconds), timeout_sec=seconds + 60))
    try:
        content = base64.b64decode(answer, validate=True)
    except binascii.Error as error:
        raise RuntimeError(
            f"The browser gave no recording ({answer[:200]}). Allow the microphone beside the address bar and run the "
            "cell again; or record with your phone and upload the file."
        ) from error
    path = free_name(Path(path).expanduser())
    clip_of_bytes(path.name, content, limit_bytes=None)  # refuses silence
    atomically(path, lambda part: part.write_bytes(content))
    return path


def microphone_js(seconds: float) -> str:
    """Return the script that records in a browser; its value is a 16-bit WAV file in base64, or says what failed.

    The browser decodes what it recorded: its own format is one that no sound library here can read.
    """
    return _RECORD.replace("SECONDS", f"{seconds:g}")


def drive_folder(name: str = "ddnb") -> Path:
    """Open your Google Drive and return a folder on it, made if need be; on Colab only.

    What lies elsewhere on a Colab machine is gone when the machine is taken away.

    Raises:
        RuntimeError: not on Colab.
    """
    _require_colab("drive_folder")
    from google.colab import drive

    drive.mount(str(DRIVE))
    folder = DRIVE / "MyDrive" / safe_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def hand_over(path: str | Path) -> None:
    """Let the browser download a file; on Colab only.

    Raises:
        RuntimeError: not on Colab.
        FileNotFoundError: no such file.
    """
    _require_colab("hand_over")
    from google.colab import files

    if not Path(path).is_file():
        raise FileNotFoundError(f"No file {path} to download.")
    files.download(str(path))


def _require_colab(what: str) -> None:
    if not in_colab():
        raise RuntimeError(f"{what} works on Colab only: here your files are on this computer, use their paths.")
