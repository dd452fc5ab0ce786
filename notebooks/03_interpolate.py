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
# # Walk from one sound to another
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/03_interpolate.ipynb)
#
# At the end you will have a row of sounds that leads from one sound to another, through sounds that
# are neither, and know when such a walk can be trusted.
#
# **Time and hardware:** about two minutes on any computer with the small network that is built in.
# The published networks want a graphics card, such as Colab's free T4; on a CPU a walk of seven
# sounds takes them about ten minutes.

# %% [markdown]
# What you will do:
#
# - walk from a kick to a synth, or between two files of yours;
# - learn what happens on the way, and hear that it is no crossfade;
# - choose how deep into the noise the way leads;
# - walk between two seeds, and between two categories;
# - take the exact way, for sounds that the usual one loses;
# - save the walk.
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
# ## Your first walk
#
# - `checkpoint`: the model that finds the way. `drums` is small and built in.
# - `from_sound`, `to_sound`: paths of two sound files. Empty: `drums` makes a sound of
#   `from_category`, and one of `to_category`.
# - `positions`: number of sounds, both ends included.
# - `seed`: a whole number that picks the sounds that are made.
#
# On Colab, click the folder icon at the left, drag your files into the list, and type their names.

# %% cellView="form"
# @title Settings
checkpoint = "drums"  # @param ["drums", "glitch-440k", "maestro-150k", "honk-140k"] {allow-input: true}
from_sound = ""  # @param {type:"string"}
to_sound = ""  # @param {type:"string"}
from_category = "kick"  # @param ["kick", "snare", "clap", "tom", "cymbal", "bass", "synth", "texture"]
to_category = "synth"  # @param ["kick", "snare", "clap", "tom", "cymbal", "bass", "synth", "texture"]
positions = 7  # @param {type:"slider", min:3, max:16, step:1}
seed = 7  # @param {type:"integer"}

# %% [markdown]
# Now walk. Turn the volume down a little first. The first and the last player are the two sounds
# themselves, bit for bit; the others were not there before.

# %%
import ddnb
from ddnb import runtime, widgets

ckpt = ddnb.load(checkpoint, on_progress=widgets.Progress("downloading"))
drums = ddnb.load("drums")
a = from_sound or ddnb.generate(drums, 1, seed, category=from_category)[0]
b = to_sound or ddnb.generate(drums, 1, seed, category=to_category)[0]
walk = ddnb.interpolate(ckpt, a, b, positions, on_step=widgets.Progress())
widgets.player(walk)

# %% [markdown]
# Play them from left to right. The kick keeps its short, low thump at first; then it grows longer
# and brighter, and at last it is the synth. In the spectrograms the bright area spreads from
# the lower left corner to the right and upwards, step by step. The tones of the small network waver,
# in the middle of a walk most of all.

# %% [markdown]
# ## What is happening
#
# Every sound of a model begins as noise. So a sound can also be driven backwards, to the noise that
# it could have been made from. Then one noise is turned into the other in equal steps, and
# from each noise in between a sound is made.
#
# This works only if each of the two sounds comes back from its noise. How well it did is measured on
# every walk, as the level of the sound above that of the error:

# %%
there_and_back = walk.settings["making"]["round_trip_db"]
for name, level in zip(("first", "second"), there_and_back, strict=True):
    print(f"the {name} sound came back {level} dB above the error")

# %% [markdown]
# 20 dB is an error of a tenth, 40 dB of a hundredth. Below 20 part of what you hear would be a mere
# crossfade, so then another way is taken by itself; see the section *The exact way*. Noisy sounds,
# such as hats and claps, are the hardest.
#
# What is lost is not kept from you: it is added at the ends, and faded out towards the middle. That
# is why the ends are exact.

# %% [markdown]
# ## It is no crossfade
#
# First the middle of your walk, then a crossfade of the two ends at the same place. What do you
# expect of each?

# %%
ends = (walk[0].audio + walk[-1].audio) / 2
crossfade = ddnb.Clip(ends, walk.sample_rate, 0, {"model": {"name": "crossfade"}})
widgets.player([walk[len(walk) // 2], crossfade])

# %% [markdown]
# In the crossfade two sounds play at once, each at half its level, and the ear takes them apart. The
# middle of the walk is one sound: it has one attack, and one way to die away.

# %% [markdown]
# ## Depth
#
# `depth` says how far towards noise the way leads: 1, the default, is all the way. The middle of the
# walk with depths of 0.3, 0.6 and 1. (`places=[1]` makes only the second of the three positions.)

# %%
depths = [0.3, 0.6, 1.0]
middles = [ddnb.interpolate(ckpt, a, b, 3, depth=depth, places=[1])[0] for depth in depths]
widgets.player(middles)

# %% [markdown]
# The less deep, the more of both sounds is kept, and the nearer you are to a crossfade. All the way
# down the model is free to find something that is neither. With this pair the differences are
# small; with two recordings they are larger, and so is what gets lost on the way: try `depth=0.3`
# there, or the exact way. Depth means the same as `strength` in `02_vary`.

# %% [markdown]
# ## Two seeds instead of two sounds
#
# The sounds that `generate` makes have a seed, and so their noise is known: no way back is needed,
# nothing is lost, and it takes less time. Give two whole numbers:

# %%
wanted = "texture" if "texture" in ckpt.categories else None
ddnb.interpolate(ckpt, seed, seed + 1, positions, category=wanted, on_step=widgets.Progress())

# %% [markdown]
# The ends are what `generate` makes of these two seeds. Equal steps seldom sound equal: the colour
# stays for a while, and turns within one or two positions.

# %% [markdown]
# ## Categories in between
#
# One seed twice, and two categories: the noise stays as it is, and only what it is heard as changes,
# from a kick to a snare. Models without categories make the same sound each time; there, skip this.

# %%
kinds = {"category": "kick", "to_category": "snare"} if ckpt.categories else {}
ddnb.interpolate(ckpt, seed, seed, positions, **kinds, on_step=widgets.Progress())

# %% [markdown]
# A row of drums for one kit, from dull to bright. Two sounds of different categories, as in
# your first walk, change both: what they are made from, and what they are heard as.

# %% [markdown]
# ## The exact way
#
# From a clap to an open hat, both mostly noise. The usual way loses them. With `exact=False` it is
# taken all the same, with a warning, which is caught and printed here. The exact way is another one,
# on which each step can be undone. It is taken by itself where it is needed; `exact=True` asks for
# it always. First the usual walk, then the exact one:

# %%
import warnings

clap, hat = (ddnb.generate(drums, 1, seed, category=name)[0] for name in ("clap", "open_hat"))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    usual = ddnb.interpolate(ckpt, clap, hat, 4, exact=False)
print(*(warning.message for warning in said), sep="\n")

exact = ddnb.interpolate(ckpt, clap, hat, 4)
print("exact:", *exact.settings["making"]["round_trip_db"], "dB")
widgets.player([*usual, *exact])

# %% [markdown]
# Both walks have the same ends. Compare the second sound of each, and the third: in the usual walk
# part of them is faded over from the ends, in the exact one they are made. Its price is some hiss in
# quiet parts.

# %% [markdown]
# ## Save and download
#
# The next cell writes the first walk into the folder `walk`. The names say from where to where, and
# which position it is; beside each WAV file lies a text file, ending in `.json`, from which
# `ddnb.remake` makes it again.

# %%
paths = walk.save("walk")
print(*paths, sep="\n")

# %% [markdown]
# To take everything home, make a pack of it: one zip file, made for a DAW, with a list from which every
# sound can be made again. On Colab your browser then asks whether to save it; elsewhere it lies where
# the line below says.

# %%
pack = ddnb.pack(walk, "walk.zip")
print(pack)
if runtime.in_colab():
    widgets.hand_over(pack)

# %% [markdown]
# In a sampler, lay the positions over the velocities of one key: a soft stroke plays the first
# sound, a hard one the last. Or put them on the steps of a sequence, from left to right.

# %% [markdown]
# ## Try this
#
# Each changes one thing. Say what you expect before you listen.
#
# 1. Set `to_category` to `texture`. How does the end of the sounds change along the way?
# 2. Set `positions` to 16 and play every sound right after the other. Are there places where much
#    changes at once?
# 3. Walk between two recordings of your own. What does `round_trip_db` say?

# %% [markdown]
# ## If something goes wrong
#
# - **The way to noise and back loses ...**: a warning, no error. Leave `exact` out, take more
#   `steps`, or a smaller `depth`.
# - **a seed and a sound**: give two sounds or two seeds, not one of each.
# - **adds noise on the way**: this sampler has no way back; leave `sampler` out.
#
# Too slow? Press the stop button: the positions that are finished stay, once both ends are.

# %% [markdown]
# ## Credits, licence, sources
#
# Dance Diffusion is by Zach Evans and Harmonai, after v-diffusion by Katherine Crowson. `drums` and
# the code are part of this project, under the MIT licence. The published models have their own
# licences, see `01_generate`. What lies between two sounds may resemble both: walk between what is
# yours, or free.
#
# Further reading: Song and others 2020, arXiv 2010.02502 (the way to noise); White 2016,
# arXiv 1609.04468 (from noise to noise, on a sphere); Zhang and others 2023, arXiv 2307.10829 (the
# exact way).
