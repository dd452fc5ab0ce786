# ---
# jupyter:
#   accelerator: GPU
#   colab:
#     gpuType: T4
#     private_outputs: true
#     provenance: []
#     toc_visible: true
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Make loops and beats
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/04_loops_and_beats.ipynb)
#
# At the end you will have loops without an audible seam, exactly as long as your tempo needs,
# and a drum beat of your own as WAV and MIDI.
#
# **Time and hardware:** about two minutes on any computer with the small network that is built in.
# For loops of the published models use a graphics card, such as Colab's free T4.

# %% [markdown]
# What you will do:
#
# - make loops at a tempo, and see why they have no seam;
# - check their length, rotate them to their strongest onset;
# - make long textures, and vary a loop;
# - make a beat, change its sounds, its steps, its tempo and its swing;
# - hear all six patterns, and click one of your own;
# - save WAV and MIDI, and open both in a DAW.
#
# You need no knowledge of Python. After the first three code cells the sections on loops work by
# themselves, those on beats after *A beat*.
#
# Start with the set-up. Its one line of output says which device will compute your sounds, and where
# downloads are stored.

# %% cellView="form"
# @title Set up: run this cell first
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path[:0] = [".."] if Path("../ddnb/__init__.py").is_file() else []
if not getattr(find_spec("ddnb"), "origin", None):  # a mere folder of that name has none
    import tempfile

    from packaging.version import Version

    wheels = [*Path().glob("ddnb-[0-9]*.whl"), *Path("/content/drive/MyDrive/ddnb").glob("ddnb-[0-9]*.whl")]
    if not wheels and "google.colab" in sys.modules:
        print("Choose the file ddnb-*.whl. In the folder ddnb of a mounted Drive it is found without asking.")
        from google.colab import files

        wheels = [Path(name) for name in files.upload() if name.startswith("ddnb-") and name.endswith(".whl")]
    if not wheels:
        raise RuntimeError("Put the file ddnb-*.whl beside this notebook, or open it inside a checkout of ddnb.")
    version, _, wheel = max((Version(w.stem.replace("(", "-").split("-")[1]), w.stat().st_mtime, w) for w in wheels)
    copy = Path(tempfile.mkdtemp(), f"ddnb-{version}-py3-none-any.whl")
    copy.write_bytes(wheel.read_bytes())
    get_ipython().run_line_magic("pip", f"install -q '{copy}'")
from ddnb.runtime import summary

print(summary())

# %% [markdown]
# ## A loop from noise
#
# - `checkpoint`: the model that makes the loops. `drums` is small and built in; its beats are below.
# - `category`: what kind of loop. Synths and basses hold one note, the nearest that fits into the loop in
#   whole cycles. Published models ignore this.
# - `bpm`, `bars`: beats per minute, of the loops and of the beat; number of bars of 4/4 of the loops.
# - `pattern`: of the beat further down.
# - `seed`: a whole number that picks the sounds.

# %% cellView="form"
# @title Settings
checkpoint = "drums"  # @param ["drums", "glitch-440k", "maestro-150k", "honk-140k"] {allow-input: true}
category = "texture"  # @param ["any", "texture", "synth", "bass", "perc"]
bpm = 120  # @param {type:"number"}
bars = 1  # @param {type:"slider", min:1, max:8, step:1}
pattern = "house"  # @param ["techno", "house", "hip-hop", "drum-and-bass", "breakbeat", "trap"]
seed = 7  # @param {type:"integer"}

# %% [markdown]
# Now make three loops. Their players repeat until you press pause.

# %%
from IPython.display import display

import ddnb
from ddnb import runtime, widgets
from ddnb.training.dataset import EXAMPLES

ckpt = ddnb.load(checkpoint, on_progress=widgets.Progress("downloading"))
wanted = category.lower() if ckpt.categories and category.lower() != "any" else None
tempo = {"loop": True, "bpm": bpm, "bars": bars}
loops = ddnb.generate(ckpt, 3, seed, category=wanted, **tempo, on_step=widgets.Progress())
widgets.player(loops)

# %% [markdown]
# Let each repeat a few times. There should be no click and no gap where it starts again. If you hear a
# short pause there, it comes from the browser's player; in a DAW there is none.
#
# Each player shows "seam" with a number in dB, explained next.

# %% [markdown]
# ## Why there is no seam
#
# Nothing is crossfaded. The network computes on a circle: the last sample is followed by the
# first one, at every step, from the noise on. So there is no end to hear.
#
# For comparison, here is an ordinary sound that was not made as a loop. The pictures show the last
# and the first 10 ms, joined at the orange line; first the loop, then the ordinary sound:

# %%
from ddnb.audio.loop import seam_db

plain = ddnb.generate(ckpt, 1, 6, category=wanted)[0]
print(f"seam of the loop {loops[0].seam_db:+.1f} dB, of the other {seam_db(plain.audio):+.1f} dB")
display(widgets.draw_seam(loops[0]), widgets.draw_seam(plain))

# %% [markdown]
# In the first picture the curve runs through the line without a break. In the second it
# jumps.
#
# The number says how much the seam stands out from the rest of the same sound: **up to 0 dB it
# cannot be distinguished from any other place**, and the higher the number, the clearer the click.
# Here is the ordinary sound three times in a row. Listen for two clicks, at a third and at two
# thirds.

# %%
import numpy as np

thrice = np.tile(plain.audio, 3)
widgets.player(ddnb.Clip(thrice, plain.sample_rate, plain.seed), ["not a loop, three times"])

# %% [markdown]
# ## Exact bars
#
# A loop that is a few samples too long drifts away from the beat. These are exactly as long as the
# tempo needs, in whole frames (samples per channel); a fraction is rounded once for the whole loop:

# %%
wanted_frames = bars * 4 * 60 / bpm * ckpt.sample_rate
print(f"{bars} x 4 beats at {bpm} BPM: {wanted_frames:.2f} frames")
print(f"the loops: {loops.audio.shape[-1]} frames")

# %% [markdown]
# The largest error is half a frame, a hundred-thousandth of a second, however many bars there are. For
# 3/4 give `beats_per_bar=3`. Without a tempo, give `duration_s`.

# %% [markdown]
# ## Begin on the onset
#
# A circle has no beginning, so the loop starts at a random place. `start_on_onset=True` rotates it
# until its strongest onset, the fastest rise in level, falls on the downbeat. The same loop, before
# and after:

# %%
turned = ddnb.generate(ckpt, 1, seed, category=wanted, **tempo, start_on_onset=True)
widgets.player([loops[0], turned[0]], ["as made", "starts on the onset"])

# %% [markdown]
# It is the same sound; what the rotation moved out at one side of the picture comes in at the other. An even
# texture has no strong onset, and gains little by this. Try it with `perc`.

# %% [markdown]
# ## Long textures
#
# Loops may be up to ten minutes long. A loop longer than the sounds that the model was trained on
# is made in overlapping windows that also wrap around the circle. Six bars:

# %%
ddnb.generate(ckpt, 1, seed, category=wanted, loop=True, bpm=bpm, bars=6, on_step=widgets.Progress())

# %% [markdown]
# It does not repeat inside, but it does not develop either: a texture of the small network is
# even from beginning to end. Memory hardly grows with the length, but time does.

# %% [markdown]
# ## Vary a loop
#
# Everything in `02_vary` works here, and with `loop=True` a loop stays a loop. Three variations, and
# their seams:

# %%
varied = ddnb.vary(ckpt, loops[0], 0.5, 3, seed, **tempo)
print("seams:", *(f"{clip.seam_db:+.1f} dB" for clip in varied))
widgets.player(varied, [f"variation, seed {clip.seed}" for clip in varied])

# %% [markdown]
# The path of another loop works too. If its ends do not meet, the last 10 ms are crossfaded
# first. `inpaint` also takes `loop=True`, and fills a gap across the seam.

# %% [markdown]
# ## Loops of the published models
#
# The published networks can make only multiples of 8192 frames. A loop that is *longer* than their
# sounds is made in windows, and is exact. A *shorter* one is made at the nearest length they can
# make and resampled to yours, which shifts its pitch a little. By how much, for loops of 1, 2 and 4
# beats at 48000 Hz:

# %%
from ddnb.audio.loop import loop_frames
from ddnb.generation.length import loop_length
from ddnb.nets.unet import UNetConfig

for speed in (100, 120, 128, 140, 174):
    frames = [loop_frames(speed, 1, 48000, beats) for beats in (1, 2, 4)]
    cents = [loop_length(length, UNetConfig(), 65536).cents for length in frames]
    print(f"{speed} BPM:", *(f"{shift:+.0f}" for shift in cents), "cents")

# %% [markdown]
# 100 cents are a semitone. A shift of up to 20 cents is accepted, as few people hear it; above that you get an
# error message instead of a loop. Then take more bars, or accept the shift with `max_cents`, say
# `max_cents=50`; for a noisy texture it does not matter. `clips.settings["making"]["cents"]`
# is the shift.
#
# `drums` has finer lengths, multiples of 2048 frames, and seldom needs this.

# %% [markdown]
# ## A beat
#
# The package has six patterns of two bars. A beat has a sound for each track: `drums` makes them,
# one per category, and they are put on a grid of sixteenths. The picture shows the steps, louder
# ones more solid.

# %%
drums = ddnb.load("drums")
beat = ddnb.beat(drums, pattern, bpm=bpm, seed=seed, on_step=widgets.Progress())
widgets.draw_beat(beat)

# %% [markdown]
# And this is how it sounds. It is a loop of exact length too: what rings beyond the end continues
# at the beginning.

# %%
widgets.player(beat.clip)

# %% [markdown]
# Find the hits in the spectrogram: kicks are the bright columns at the bottom, hats the thin ones
# at the top. They are where the picture above has its squares.
#
# No seam is measured for a beat: the first kick stands out there, as intended.

# %% [markdown]
# ## Change a sound, change a step
#
# A beat never changes; you get a new one. Here it gets another kick, then a recorded kick from the
# package, which you can replace with the path of your own.

# %%
another = ddnb.generate(drums, 1, seed + 1, category="kick")[0]
recorded = EXAMPLES / "kick" / "bd_fat.flac"
kicks = [beat.with_sound("kick", kick).clip for kick in (another, recorded)]
widgets.player([beat.clip, *kicks], ["first kick", "another kick", "recorded kick"])

# %% [markdown]
# A track is written as text, 16 characters a bar: a dot is a rest, 1 is soft, 9 is loud. One bar of
# text repeats. A new track needs a sound as well. Here the kick gets a new line, and a crash falls
# on the first beat of both bars:

# %%
crash = ddnb.generate(drums, 1, seed, category="cymbal")[0]
own = beat.with_steps("kick", "9..7..9...7.....").with_steps("cymbal", "7" + 15 * ".", crash)
display(widgets.draw_beat(own))
widgets.player(own.clip)

# %% [markdown]
# ## Tempo and swing
#
# `with_` changes the tempo, the number of bars and the swing; the sounds stay as they are. Swing is
# the share of the first sixteenth in each pair: 0.5 is straight, 0.66 is close to triplets. The
# same beat straight, with swing, and 20 BPM slower:

# %%
straight, swung = beat.with_(swing=0.5), beat.with_(swing=0.66)
slower = beat.with_(bpm=beat.bpm - 20)
widgets.player([straight.clip, swung.clip, slower.clip], ["straight", "swing", "slower"])

# %% [markdown]
# Listen to the sixteenths of the hats: with swing every second one comes late. Nothing is stretched
# when the tempo changes; the hits move apart.

# %% [markdown]
# ## Six patterns, one kit
#
# Now one kit for all patterns, so that you compare the patterns and not the sounds.

# %%
patterns = ddnb.list_patterns()
names = sorted({track for groove in patterns.values() for track in groove["tracks"]})
kit = {name: ddnb.generate(drums, 1, seed, category=name)[0] for name in names}
beats = [
    ddnb.beat(drums, name, sounds={track: kit[track] for track in groove["tracks"]})
    for name, groove in patterns.items()
]
widgets.player([each.clip for each in beats], list(patterns))

# %% [markdown]
# With sounds of your own for all tracks, no model is needed: `ddnb.beat(pattern="house",
# sounds={"kick": "my-kick.wav", ...})`, with one for each track of the pattern.
# Levels are set for you: every sound gets the same peak, then the level that is usual for its
# track, and the whole loop a loudness of -18 LUFS, or a peak of -1 dBFS where that is quieter.

# %% [markdown]
# ## Click your own
#
# Each click turns a step from silent to loud, to soft, and back, and makes the beat again. The
# buttons at the left make another sound for their track; tempo and swing are below.

# %%
sequencer = widgets.Sequencer(beat, drums)
display(sequencer)

# %% [markdown]
# What you have clicked is in `sequencer.beat`. Run the next cells when you like it; unclicked, it is
# the beat from above.

# %% [markdown]
# ## Save and download
#
# The beat is saved as a WAV and a MIDI file, the loops as WAV files, each with a text file from
# which `ddnb.remake` makes it again. The file name gives the tempo and the number of bars.

# %%
wav, midi = sequencer.beat.save("loops")
print(wav, midi, *loops.save("loops"), sep="\n")

# %% [markdown]
# In a DAW: set its tempo to that in the name, and drag the WAV file to the beginning of a bar. It
# fits without stretching; switch automatic stretching (warp) off.
#
# Drag the MIDI file onto a track with a drum instrument: it has the same hits with their velocities
# and their swing, on the usual keys of General MIDI (kick C1, snare D1, closed hat F♯1 in most
# programs). So you can play the pattern with other sounds, move single hits, or layer it with
# the WAV file.

# %% [markdown]
# To take everything home, make a pack of it: one zip file, made for a DAW, with a list from which every
# sound can be made again. On Colab your browser then asks whether to save it; elsewhere it is where
# the line below says. The files contain tempo and loop points; the MIDI file is included.

# %%
pack = ddnb.pack([sequencer.beat, *loops], "loops.zip")
print(pack)
if runtime.in_colab():
    widgets.download(pack)

# %% [markdown]
# ## Try this
#
# Each changes one thing. Say what you expect before you listen.
#
# 1. Set `category` to `perc` and use `start_on_onset`. Is there a rhythm in it? (It will be quiet.)
# 2. Give the beat a swing of 0.6 and of 0.75. When does it start to limp?
# 3. Record a knock on the table with your phone, and make it the snare with `with_sound`.

# %% [markdown]
# ## If something goes wrong
#
# - **cents off in pitch**: a short loop at a length that the network cannot make. Take more `bars`,
#   or pass `max_cents`.
# - **No sound for ...**: the pattern has a track with neither a category nor a sound of yours;
#   pass `sounds`.
# - **give 16 per bar**: write one bar or all bars, 16 characters each, with dots and the
#   digits 1 to 9 only.
# - **A short pause when it repeats**: the browser's player. The file has none; listen to it in your DAW.
#
# Too slow? Press the stop button: the loops that are finished stay.

# %% [markdown]
# ## Credits, licence, sources
#
# Dance Diffusion is by Zach Evans and Harmonai, after v-diffusion by Katherine Crowson. `drums`, the
# patterns and the code are part of this project, under the MIT licence. The recorded kick is in the
# public domain (CC0), by cubix on Freesound, from the samples of Sonic Pi. The published models have
# their own licences, see `01_generate`.
#
# Further reading: Bar-Tal and others 2023, arXiv 2302.08113 (overlapping windows).

# %% cellView="form" tags=["remove-cell"]
# @title Check of what the text claims (for maintainers)
if (checkpoint, category) == ("drums", "texture"):
    jump, inside = abs(plain.audio[0, 0] - plain.audio[0, -1]), abs(np.diff(plain.audio[0])).max()
    assert jump > 3 * inside and seam_db(plain.audio) > 6
    assert max(clip.seam_db for clip in loops) <= 0
assert beat.bpm == bpm and abs(loops.audio.shape[-1] - wanted_frames) <= 0.5
