"""Values that no command can use."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddnb.cli.main import main

SILLY = [
    "generate --steps 0",
    "generate -n -1",
    "generate -n two",
    "generate --duration-s nan",
    "generate --duration-s inf --category kick",
    "generate --bpm 0",
    "generate --bpm 120 --bars 1e9",
    "generate --bpm 120 --bars 1000000000",
    "generate --to-rate 0",
    f"generate --seed {2**70}",
    "generate --category hat",
    "generate --steps",
    "generate --category ''",
    "interpolate 1 2 --to-category ''",
    "beat --sound kick=empty",
    "generate --sampler best",
    "generate --out FILE",
    "vary SOUND --duration-s nan",
    "vary SOUND --duration-s inf",
    "vary SOUND --strength nan",
    "vary EMPTY",
    "interpolate SOUND SOUND --duration-s nan",
    "interpolate SOUND SOUND -n 1",
    "inpaint SOUND --gap nan 0.1",
    "extend SOUND --duration-s nan",
    "beat --bars 1000000000",
    f"beat --seed {2**70}",
    "keybed --duration-s nan --category bass",
    "pack EMPTY --out p.zip",
    "pack SOUND --to-rate 0 --out p.zip",
    "originality EMPTY --data EMPTY",
    "finetune --data EMPTY --out run",
    "finetune --data EMPTY --out run --steps nan",
    f"finetune --data EMPTY --out run --seed {2**70}",
    "fit EMPTY --out p.safetensors",
    "sing",
]


@pytest.mark.parametrize("line", SILLY)
def test_a_silly_value_is_answered_with_one_sentence(line, tmp_path, capsys, monkeypatch):
    """No traceback, no page of usage, status 2, and nothing written."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").touch()
    soundfile.write("sound.wav", 0.1 * np.ones(4000), 44_100)
    before = sorted(tmp_path.rglob("*"))
    places = {"EMPTY": "empty", "FILE": "file", "SOUND": "sound.wav"}
    try:
        status = main([places.get(word, word) for word in shlex.split(line)])
    except SystemExit as stopped:  # argparse
        status = stopped.code
    output = capsys.readouterr()
    said = [text for text in output.err.splitlines() if not re.match("ddnb: (<Checkpoint|CPU)", text)]
    assert status == 2 and not output.out
    assert len(said) == 1 and said[0].startswith("ddnb: ")
    assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == before
