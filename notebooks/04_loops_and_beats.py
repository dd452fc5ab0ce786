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
# At the end you will have loops without an audible seam, exactly as long as your tempo wants them,
# and a drum beat of your own as WAV and MIDI.
#
# **Time and hardware:** about two minutes on any computer with the small network that is built in.
# For loops of the published networks take a graphics card, such as Colab's free T4.

# %% [markdown]
# What you will do:
#
# - make loops at a tempo, and see why they have no seam;
# - check their length, turn them to their strongest onset;
# - make long textures, and vary a loop;
# - make a beat, change its sounds, its steps, its tempo and its swing;
# - hear all six patterns, and click one of your own;
# - save WAV and MIDI, and open both in a DAW.
#
# You need no knowledge of Python. After the first three code cells the sections on loops work by
# themselves, those on beats after *A beat*.
#
# Start with the set-up. Its one line of output says what your sounds will be computed on, and where
# downloads are kept.

# %% cellView="form"
# @title Set up: run this cell first
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path[:0] = [".."] if Path("../ddnb/__init__.py").is_file() else []
if not getattr(find_spec("ddnb"), "origin", None):  # a mere folder of that name has none
    raise RuntimeError("ddnb has no public address yet: open this notebook inside a checkout of it.")
from ddnb.runtime import summary

print(summary())

# %% [markdown]
# ## A loop from noise
#
# - `checkpoint`: the model that makes the loops. `drums` is small and built in; its beats are below.
# - `category`: what kind of loop. A texture is what it does best; synths and basses waver, and are
#   quiet. Published models ignore this.
# - `bpm`, `bars`: beats per minute, and the number of bars of 4/4.
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
from ddnb.training import dataset

ckpt = ddnb.load(checkpoint, on_progress=widgets.Progress("downloading"))
wanted = category if category in ckpt.categories else None
tempo = {"loop": True, "bpm": bpm, "bars": bars}
loops = ddnb.generate(ckpt, 3, seed, category=wanted, **tempo, on_step=widgets.Progress())
widgets.player(loops)

# %% [markdown]
# Let each go round a few times. There should be no click and no breath at the place where it begins
# again. If your browser leaves a short pause there, that is its player; in a DAW there is none.
#
# "Seam" stands above each player, with a number of dB. What that is comes next.

# %% [markdown]
# ## Why there is no seam
#
# Nothing is crossfaded. The network computes on a circle: what it sees after the last sample is the
# first one, at every step, from the noise on. So there is no end that could be heard.
#
# For comparison an ordinary sound, which was not made as a loop. The pictures show the last and the
# first 10 ms, joined at the orange line; first the loop, then the ordinary sound:

# %%
from ddnb.audio.loop import seam_db

plain = ddnb.generate(ckpt, 1, seed, category=wanted)[0]
print(f"seam of the loop {loops[0].seam_db:+.1f} dB, of the other {seam_db(plain.audio):+.1f} dB")
display(widgets.draw_seam(loops[0]), widgets.draw_seam(plain))

# %% [markdown]
# In the first picture the curve runs through the line as if it were not there. In the second there
# is a step.
#
# The number says how much this place sticks out from the inside of the same sound: **up to 0 dB it
# cannot be told from any other place**, and the further above, the clearer the click. Here is the
# ordinary sound three times in a row. Listen for two clicks; the spectrogram shows them as two thin
# upright lines.

# %%
import numpy as np

thrice = np.tile(plain.audio, 3)
widgets.player(ddnb.Clip(thrice, plain.sample_rate, plain.seed, {"model": {"name": "not-a-loop"}}))

# %% [markdown]
# ## Exact bars
#
# A loop that is a few samples too long drifts away from the beat. These are as long as the tempo
# wants them, in whole frames (samples per channel); a fraction is rounded once for the whole loop:

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
# A circle has no beginning, so where the loop starts is chance. `start_on_onset=True` turns it until
# its strongest onset, the place where it grows loudest at once, falls on the downbeat. The same
# loop, before and after:

# %%
turned = ddnb.generate(ckpt, 1, seed, category=wanted, **tempo, start_on_onset=True)
widgets.player([loops[0], turned[0]])

# %% [markdown]
# It is the same sound; in the picture what left on one side has come in on the other. An even
# texture has no strong onset, and gains little by this. Try it with `perc`.

# %% [markdown]
# ## Long textures
#
# Loops may be up to ten minutes long. What is longer than the sounds the model learned from is made
# in windows that overlap, and that go round the circle too. Six bars:

# %%
ddnb.generate(ckpt, 1, seed, category=wanted, loop=True, bpm=bpm, bars=6, on_step=widgets.Progress())

# %% [markdown]
# It does not repeat inside, and it does not tell a story either: a texture of the small network is
# even from beginning to end. Memory hardly grows with the length, time does: on a CPU it takes once
# or twice as long as it plays.

# %% [markdown]
# ## Vary a loop
#
# Everything of `02_vary` works here, and with `loop=True` a loop stays one. Three variations, and
# their seams:

# %%
varied = ddnb.vary(ckpt, loops[0], 0.5, 3, seed, **tempo)
print("seams:", *(f"{clip.seam_db:+.1f} dB" for clip in varied))
widgets.player(varied)

# %% [markdown]
# A loop from elsewhere works too, as a path. If its ends do not meet, they are joined first, in the
# last 10 ms. `inpaint` also takes `loop=True`, and fills a gap across the seam.

# %% [markdown]
# ## Loops of the published models
#
# Those networks can make only multiples of 8192 frames. A loop that is *longer* than their sounds
# is made in windows, and comes out exact. A *shorter* one is made at the nearest length they have
# and resampled to yours, which shifts its pitch a little. By how much, for loops of 1, 2 and 4 beats
# at 48000 Hz:

# %%
from ddnb.audio.loop import loop_frames
from ddnb.generation.length import loop_length
from ddnb.nets.unet import UNetConfig

for speed in (100, 120, 128, 140, 174):
    frames = [loop_frames(speed, 1, 48000, beats) for beats in (1, 2, 4)]
    cents = [loop_length(length, UNetConfig(), 65536).cents for length in frames]
    print(f"{speed} BPM:", *(f"{shift:+.0f}" for shift in cents), "cents")

# %% [markdown]
# 100 cents are a semitone. Up to 20 nobody asks, as hardly anybody hears it; above that you get a
# sentence instead of a loop. Then take more bars, or accept the shift with `max_cents`, say
# `max_cents=50`; for a noisy texture it does not matter. `clips.settings["making"]["cents"]` tells
# what it was.
#
# `drums` has finer lengths, multiples of 2048 frames, and seldom needs this.

# %% [markdown]
# ## A beat
#
# Six patterns of two bars come along. A beat has a sound for each track: `drums` makes them, one per
# category, and they are put on a grid of sixteenths. The picture shows the steps, louder ones
# more solid.

# %%
drums = ddnb.load("drums")
beat = ddnb.beat(drums, pattern, seed=seed, on_step=widgets.Progress())
widgets.draw_beat(beat)

# %% [markdown]
# And this is what it sounds like. It is a loop of exact length too: what rings beyond its end goes
# on at its beginning.

# %%
widgets.player(beat.clip)

# %% [markdown]
# Find the hits in the spectrogram: kicks are the bright columns at the bottom, hats the thin ones
# at the top. They stand where the picture above has its squares.
#
# No seam is measured of a beat: what sticks out there is the first kick, and it is meant to.

# %% [markdown]
# ## Change a sound, change a step
#
# A beat is never changed, you get another one. Here it has another kick, then one of the recorded
# kicks that come along, in whose place you can put the path of your own; then one more hit of the
# clap or of another track.

# %%
another = ddnb.generate(drums, 1, seed + 1, category="kick")[0]
recorded = dataset.EXAMPLES / "kick" / "bd_fat.flac"
kicks = [beat.with_sound("kick", kick).clip for kick in (another, recorded)]
widgets.player([beat.clip, *kicks])

# %% [markdown]
# A track is written as text, 16 characters a bar: a dot rests, 1 is soft, 9 is loud. Short texts
# repeat. A new track needs a sound as well. Here the kick gets a line of its own, and a crash falls
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
# the share of the first sixteenth in each pair: 0.5 is straight, 0.66 makes triplets. The same beat
# straight, with swing, and 20 BPM slower:

# %%
straight, swung = beat.with_(swing=0.5), beat.with_(swing=0.66)
slower = beat.with_(bpm=beat.bpm - 20)
widgets.player([straight.clip, swung.clip, slower.clip])

# %% [markdown]
# Listen to the sixteenths of the hats: with swing every second one comes late. Nothing is stretched
# when the tempo changes; the hits move apart.

# %% [markdown]
# ## Six patterns, one kit
#
# Now one kit of eight sounds for all patterns. So you hear what the patterns do, and not the
# sounds. Their order: techno, house, hip-hop, drum-and-bass, breakbeat, trap.

# %%
patterns = ddnb.list_patterns()
names = sorted({track for groove in patterns.values() for track in groove["tracks"]})
kit = {name: ddnb.generate(drums, 1, seed, category=name)[0] for name in names}
beats = [
    ddnb.beat(drums, name, sounds={track: kit[track] for track in groove["tracks"]})
    for name, groove in patterns.items()
]
widgets.player([each.clip for each in beats])

# %% [markdown]
# All with sounds of your own? Then no model is needed: `ddnb.beat(pattern="house",
# sounds={"kick": "my-kick.wav", ...})`, with one for each track of the pattern.
# Levels are set for you: every sound gets the same peak, then the level that is usual for its
# track.

# %% [markdown]
# ## Click your own
#
# Each click turns a step from silent to loud, to soft, and back, and the beat is made anew. The
# buttons at the left make another sound for their track; below are tempo and swing.

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
# which `ddnb.remake` makes it again. Name, tempo and number of bars stand in the file name.

# %%
wav, midi = sequencer.beat.save("loops")
print(wav, midi, *loops.save("loops"), sep="\n")

# %% [markdown]
# In a DAW: set its tempo to that in the name, and drag the WAV file to the beginning of a bar. It
# fits without stretching; switch automatic stretching (warp) off.
#
# Drag the MIDI file onto a track with a drum instrument: it has the same hits with their velocities
# and their swing, on the usual keys of General MIDI (kick C1, snare D1, closed hat F♯1 in most
# programs). So you can play the pattern with other sounds, move single hits, or lay it under the
# WAV file.

# %% [markdown]
# To take everything home, make a pack of it: one zip file, made for a DAW, with a list from which every
# sound can be made again. On Colab your browser then asks whether to save it; elsewhere it lies where
# the line below says. Tempo and loop points stand in the files, the MIDI file comes along.

# %%
pack = ddnb.pack([sequencer.beat, *loops], "loops.zip")
print(pack)
if runtime.in_colab():
    widgets.hand_over(pack)

# %% [markdown]
# ## Try this
#
# Each changes one thing. Say what you expect before you listen.
#
# 1. Set `category` to `perc` and use `start_on_onset`. Is there a rhythm in it? (It will be quiet.)
# 2. Give the beat a swing of 0.6 and of 0.75. From where on does it limp?
# 3. Record a knock on the table with your phone, and make it the snare with `with_sound`.

# %% [markdown]
# ## If something goes wrong
#
# - **cents off in pitch**: a short loop at a length that the network cannot make. Take more `bars`,
#   or pass `max_cents`.
# - **No sound for ...**: a pattern with a track that has neither a category nor a sound of yours;
#   pass `sounds`.
# - **... steps): give 16 a bar**: a text of steps is too short or too long, or has another sign in
#   it.
# - **A short pause when it repeats**: the browser's player. The file has none; hear it in your DAW.
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
