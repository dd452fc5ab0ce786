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
# # Vary a sound
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/02_vary.ipynb)
#
# At the end you will have a family of sounds that resemble one of yours, as near or as far as you
# like, and know how to mend a gap in a sound and how to make it longer.
#
# **Time and hardware:** about two minutes on any computer with the small network that is built in.
# The published networks want a graphics card, such as Colab's free T4; on a CPU each of their
# variations takes about a minute.

# %% [markdown]
# What you will do:
#
# - make your first variations, of a snare or of a file of your own;
# - hear what strength does;
# - choose level and length, and change the category on the way;
# - vary a whole folder in one call;
# - fill a gap, and let a sound go on;
# - save the variations, and get one back from its record.
#
# You need no knowledge of Python, and no file of your own. After the first three code cells, each
# section works by itself.
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
# ## First variations
#
# - `checkpoint`: the model that makes the variations. `drums` is small and built in.
# - `your_sound`: the path of a sound file. Empty: a snare is made first, by `drums`.
# - `strength`: from 0, which is the sound itself, to 1, which has forgotten it.
# - `how_many`: number of variations.
# - `seed`: a whole number that picks them.

# %% cellView="form"
# @title Settings
checkpoint = "drums"  # @param ["drums", "glitch-440k", "maestro-150k", "honk-140k"] {allow-input: true}
your_sound = ""  # @param {type:"string"}
strength = 0.5  # @param {type:"slider", min:0, max:1, step:0.05}
how_many = 4  # @param {type:"slider", min:1, max:16, step:1}
seed = 0  # @param {type:"integer"}

# %% [markdown]
# How it works: the sound is covered with noise, and the model takes the noise off again. What the
# noise has buried, the model invents.
#
# The first player is the original, at the sample rate of the model. Strength 0 returns it as it is.

# %%
import ddnb
from ddnb import runtime, widgets
from ddnb.training import dataset

ckpt = ddnb.load(checkpoint, on_progress=widgets.Progress("downloading"))
drums = ddnb.load("drums")
sound = your_sound or ddnb.generate(drums, 1, 7, category="snare")[0]
clips = ddnb.vary(ckpt, sound, strength, how_many, seed, on_step=widgets.Progress())
original = ddnb.vary(ckpt, sound, strength=0, n=1)[0]
widgets.player([original, *clips])

# %% [markdown]
# Play the original, then the others. They begin as it does, and last about as long; what differs is
# the grain of the noise and the balance of low and high. Four takes of the same drum, one might
# say. In the spectrograms the outline is the same, and the speckles inside it are not.

# %% [markdown]
# ## Your own sound
#
# Type the path of a file into `your_sound`, such as `/home/me/snare.wav`, and run on from there.
# WAV, FLAC, AIFF, OGG and MP3 are read, of any sample rate, mono or stereo.
#
# - **On Colab**: click the folder icon at the left, drag the file into the list, wait until it has
#   arrived, and type its name.
# - **No file at hand?** Record something with your phone, a knock on the table or a word, and load
#   the file: `drums` gives back a drum that resembles it.
#
# Some seconds are a good length. Memory and time grow with it; above a minute you are asked to say
# which part, with `offset_s` and `duration_s`, see below.

# %% [markdown]
# ## What strength does
#
# One seed, five strengths. From left to right: the original, then 0.2, 0.4, 0.6, 0.8 and 1. Guess
# before you listen: where does it stop being the same drum?

# %%
strengths = [0.2, 0.4, 0.6, 0.8, 1.0]
series = [ddnb.vary(ckpt, sound, value, 1, seed)[0] for value in strengths]
widgets.player([original, *series])

# %% [markdown]
# Up to about 0.6 you hear the same drum, struck again, and less and less like the first time. At 0.8
# it may well be another one: length, brightness and level change. The last has nothing of the
# original: it is what `generate` makes of this seed.
#
# In numbers, strength is an amount of noise. Here it stands beside a sound whose peak is at 0 dB, and
# below it the average level of yours, beside its own peak:

# %%
import math

for value in strengths[:-1]:
    noise_db = 20 * math.log10(math.tan(value * math.pi / 2))
    print(f"strength {value}: noise at {noise_db:+.0f} dB")
peak = abs(original.audio).max()
print(f"the sound: {20 * math.log10(original.audio.std() / peak):.0f} dB")

# %% [markdown]
# Even at 0.2 the noise is louder than most of the sound. That so much of it survives is the work of
# the model, which knows what sounds are like. The number means the same for every model and every
# sampler.

# %% [markdown]
# ## Level
#
# The more is forgotten, the more the level becomes the model's own. With `match_level=True` each
# variation gets the loudness of the original (its root mean square), which is handy if they are to
# replace it in an arrangement. The original, two variations as they come, the same two matched:

# %%
plain = ddnb.vary(ckpt, sound, 0.8, 2, seed)
matched = ddnb.vary(ckpt, sound, 0.8, 2, seed, match_level=True)
widgets.player([original, *plain, *matched])

# %% [markdown]
# Read the peaks above the players: only the level differs between the two pairs. A short sound
# needs a higher peak to be as loud on average as a long one; above full scale it is turned down in
# players and files, and says so.

# %% [markdown]
# ## Length
#
# A variation is as long as its original. `offset_s` skips the beginning, `duration_s` says how long
# the result shall be, both in seconds. First only the tail, from a tenth of the sound on and a third
# of it long; then the sound with one second more:

# %%
length_s = original.duration_s
tail = ddnb.vary(ckpt, sound, strength, 1, seed, offset_s=length_s / 10, duration_s=length_s / 3)
longer = ddnb.vary(ckpt, sound, strength, 1, seed, duration_s=length_s + 1)
widgets.player([tail[0], longer[0]])

# %% [markdown]
# The second that was added is silence, covered with noise like the rest: with a high strength the
# sound rings into it, with a low one it stays silent. To let a sound really go on, see *Let it go
# on*.

# %% [markdown]
# ## Another category
#
# A model with categories can be asked for another one on the way: the noise comes off as if there
# had been a clap below it. The snare again, then towards a clap with the strengths 0.4, 0.6 and 0.8.
# Models without categories ignore this.

# %%
wanted = "clap" if "clap" in ckpt.categories else None
claps = [ddnb.vary(ckpt, sound, value, 1, seed, category=wanted)[0] for value in (0.4, 0.6, 0.8)]
widgets.player([original, *claps])

# %% [markdown]
# The higher the strength, the more of a clap. In between lie sounds that have a name for neither.
#
# A sound that was made here remembers its category, and is varied in it if you say nothing. A file
# does not: give `category="snare"` to keep a snare a snare.

# %% [markdown]
# ## A whole folder
#
# One call varies every sound file of a folder, those of its folders too. These are four snares of
# real drummers and machines that come along; put the path of a folder of yours in their place.
# First the originals, with strength 0, then a variation of each:

# %%
folder = dataset.EXAMPLES / "snare"
kind = "snare" if "snare" in ckpt.categories else None
before = [some[0] for some in ddnb.vary_folder(ckpt, folder, 0)]
after = [some[0] for some in ddnb.vary_folder(ckpt, folder, strength, seed=seed, category=kind)]
widgets.player(before + after)

# %% [markdown]
# Each keeps its own length, and a file that cannot be read is left out with a word about why. Find
# the original of each variation by ear.
#
# To keep them all: `for some in ddnb.vary_folder(ckpt, folder): some.save("varied")`.

# %% [markdown]
# ## Fill a gap
#
# A cough in a recording, a click, a note that is to go: name the gap, and the model fills it with
# something that fits in. What is outside comes back as it was, but for 10 ms beside each gap. Here
# two gaps in a texture, from 0.4 to 0.6 and from 0.9 to 1.1 seconds; first the texture, then two
# seeds. For a sound of your own, write `texture = sound` and other times.

# %%
texture = ddnb.generate(drums, 1, 7, category="texture")[0]
gaps = {"start_s": [0.4, 0.9], "end_s": [0.6, 1.1]}
filled = ddnb.inpaint(ckpt, texture, **gaps, n=2, seed=seed, on_step=widgets.Progress())
widgets.player([texture, *filled])

# %% [markdown]
# Orange lines in the pictures show where the gaps were. Between them each player differs, outside
# all are alike. Can you hear where it changes? Look at the brightness too: a filling that is too
# quiet shows as a darker column.
#
# There are three methods. In this order: `replace`, `resample`, and `guide`, which you heard above.

# %%
methods = ["replace", "resample", "guide"]
ways = [ddnb.inpaint(ckpt, texture, **gaps, n=1, seed=seed, method=name)[0] for name in methods]
widgets.player(ways)

# %% [markdown]
# - `replace` puts the known part back after each step. It is fast, and what it makes takes little
#   notice of the edges: good for a first look.
# - `resample` goes back and forth five times a step until inside and outside agree. It takes five
#   times as long, and needs no more memory.
# - `guide`, the default, asks the network in which direction to change the sound so that it meets the
#   edges. Three times the work, and much more memory; the others leave holes that are too quiet more
#   often.
#
# None is best for every sound: compare two or three seeds of each.

# %% [markdown]
# ## Let it go on
#
# `extend` makes a sound longer, up to the length that you name, in seconds. What is new comes after
# it, or before it with `backwards=True`. The methods are the same. An orange line marks the join.

# %%
texture = ddnb.generate(drums, 1, 7, category="texture")[0]
longer_s = texture.duration_s + 1
on = ddnb.extend(ckpt, texture, longer_s, 1, seed, on_step=widgets.Progress())
back = ddnb.extend(ckpt, texture, longer_s, 1, seed, backwards=True)
widgets.player([on[0], back[0]])

# %% [markdown]
# Listen across the line. The new part has the colour of the old one, seldom its exact level or
# movement. The small network knows sounds of one and a half seconds: ask it for a second more, not
# for ten. Published models go on window by window, up to ten minutes.
#
# A drum that has died away goes on with silence, or with another hit.

# %% [markdown]
# ## Save and download
#
# The next cell writes the first variations as 24-bit WAV files into the folder `variations`.
# Nothing is ever overwritten: a name that is taken gets a number.

# %%
paths = clips.save("variations")
print(*paths, sep="\n")

# %% [markdown]
# Beside each WAV file lies a small text file, ending in `.json`, with all that is needed to make the
# sound again: model, strength, seed, and what it was made from. `remake` does it. A sound that was
# made here is made again first; a file of yours must still be there, so pass it along.

# %%
again = ddnb.remake(paths[0], sounds=[sound])
print(f"largest difference: {abs(again.audio[0] - clips[0].audio).max():.6f}")
widgets.player(again)

# %% [markdown]
# To take everything home, make a pack of it: one zip file, made for a DAW, with a list from which every
# sound can be made again. On Colab your browser then asks whether to save it; elsewhere it lies where
# the line below says.

# %%
pack = ddnb.pack(clips, "variations.zip")
print(pack)
if runtime.in_colab():
    widgets.hand_over(pack)

# %% [markdown]
# ## Try this
#
# Each changes one thing. Say what you expect before you listen.
#
# 1. Set `strength` to 0.3 and `how_many` to 8. Play them one after the other, as a drummer would:
#    is that more alive than one sample eight times?
# 2. Give a new attack to the old tail: `ddnb.inpaint(ckpt, sound, 0, 0.03, n=4)`.
# 3. Vary a word of your own voice with the category `snare`, at 0.5 and at 0.7. What is left of the
#    word?

# %% [markdown]
# ## If something goes wrong
#
# - **No such file**: a typing error in `your_sound`. On Colab the name is enough, if the file is in
#   the list at the left and has arrived.
# - **ffmpeg** is asked for: phones record M4A, which needs that program. Colab has it. Or convert
#   the file to WAV.
# - **say which part**: the file is longer than a minute. Cut it, or give `offset_s` and
#   `duration_s`.
# - **a gap from ... to ...**: it lies outside the sound; the message says how long that is.
#
# Too slow? Press the stop button: the sounds that are finished stay.

# %% [markdown]
# ## Credits, licence, sources
#
# Dance Diffusion is by Zach Evans and Harmonai, after v-diffusion by Katherine Crowson. `drums` and
# the code are part of this project, under the MIT licence. The snares of the folder are in the
# public domain (CC0), by menegass and looppool on Freesound, from the samples of Sonic Pi. The
# published models have their own licences, see `01_generate`. A variation may resemble its original
# closely: vary what is yours, or free.
#
# Further reading: Meng and others 2021, arXiv 2108.01073 (variation by noise); Lugmayr and others
# 2022, arXiv 2201.09865 (`resample`); Levy and others 2023, arXiv 2311.00613 (`guide`, on
# music).
