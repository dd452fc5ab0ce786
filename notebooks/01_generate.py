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
# # Generate sounds
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/01_generate.ipynb)
#
# At the end you will have a folder of short sounds that no one has heard before, and know how to
# get each of them back.
#
# **Time and hardware:** one or two minutes on any computer with the small network that is built in.
# The published networks want a graphics card, such as Colab's free T4; on a CPU each of their
# sounds takes about a minute.

# %% [markdown]
# What you will do:
#
# - make your first sounds;
# - ask for kicks, basses or textures, and for things in between;
# - choose a model;
# - use seeds to get a sound back, or a new one;
# - hear what steps and samplers do;
# - look inside, while a sound comes out of the noise;
# - choose the length, save the sounds and take them home.
#
# You need no knowledge of Python. Run the cells from top to bottom; after the first three code
# cells, each section works by itself.
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
# ## Your first sounds
#
# Five settings, to be left alone the first time:
#
# - `checkpoint`: the model, a network trained on some kind of sound. `drums` is small and built in:
#   it needs no download.
# - `category`: what to make; also `clap`, `open_hat`, `tom`, `cymbal` and `perc`. `any` leaves it to
#   chance. The published models know no categories and ignore this.
# - `how_many`: number of sounds.
# - `seed`: a whole number that picks the sounds.
# - `steps`: how often the network is asked, 1 to 100. Few steps are fast and rough.

# %% cellView="form"
# @title Settings
checkpoint = "drums"  # @param ["drums", "glitch-440k", "maestro-150k", "honk-140k"] {allow-input: true}
category = "kick"  # @param ["any", "kick", "snare", "closed_hat", "bass", "synth", "texture"] {allow-input: true}
how_many = 4  # @param {type:"slider", min:1, max:16, step:1}
seed = 7  # @param {type:"integer"}
steps = 25  # @param {type:"slider", min:1, max:100, step:1}

# %% [markdown]
# Now load the model, make the sounds and show them. Turn the volume down a little before you press
# play: nobody knows yet how loud they will be. Above each sound stand its length, how it was made
# and its loudest sample; below are its waveform and its spectrogram, low notes at the bottom, bright
# where there is energy.

# %%
import ddnb
from ddnb import runtime, widgets

ckpt = ddnb.load(checkpoint, on_progress=widgets.Progress("downloading"))
wanted = category if category in ckpt.categories else None
clips = ddnb.generate(ckpt, how_many, seed, category=wanted, steps=steps, on_step=widgets.Progress())
heard = widgets.player(clips)
heard

# %% [markdown]
# The pads play at a click, or at their keys once one of them was clicked. Tick *keep* below the sounds
# you like: they go into your pack at the end.
#
# What should you hear? Four kicks, no two alike; in the spectrogram each begins at once, sinks, and
# ends in silence.
#
# Nothing was made louder: a peak near 0 dBFS (full scale) is loud, one at -30 dBFS is quiet. Only
# what would go above 0 is turned down, in players and in saved files, and says by how much.

# %% [markdown]
# ## Categories
#
# `drums` has learned eleven categories. Here is one sound of each; guess from the pictures which is
# which before you listen.

# %%
names = ckpt.categories or [None]
widgets.player([ddnb.generate(ckpt, 1, seed, category=name)[0] for name in names])

# %% [markdown]
# Hats and cymbals are bright and noisy, kicks and basses lie low. A texture alone has no beginning
# and no end. The tones of this small network waver: noisy sounds are what it does best.
#
# Categories can be mixed: two parts kick and one part clap, or a tom that is half a bass. And
# `guidance_scale` above 1 exaggerates what makes a category: purer, and with less variety.

# %%
mixtures = [{"kick": 2, "clap": 1}, {"tom": 1, "bass": 1}] if ckpt.categories else []
mixed = [ddnb.generate(ckpt, 1, seed, category=mixture)[0] for mixture in mixtures]
strong = [ddnb.generate(ckpt, 1, seed, category=wanted, guidance_scale=2.0)[0]] if wanted else []
widgets.player(mixed + strong + [clips[0]])

# %% [markdown]
# The last two have the same seed and the same category: first exaggerated, then as it was. With
# `width=0.5`, a mono sound becomes stereo around a middle that stays as it is.

# %% [markdown]
# ## Choose a model
#
# These are the models that are known by name. The six published ones were trained by Harmonai. Each
# is a download of 886 MB, made once, and needs a network connection. `drums` comes along with the
# package, and so does `debug`, an untrained network that makes noise, for tests.

# %%
for name, entry in ddnb.list_checkpoints().items():
    seconds = entry["frames"] / entry["sample_rate"]
    print(f"{name:17} {seconds:.1f} s at {entry['sample_rate']} Hz, licence {entry['licence']}")
    print(f"{'':17} {entry['description']}")

# %% [markdown]
# The seconds say how long the sounds were that the model learned from, and 16000 Hz means a darker
# sound than 48000 Hz.
#
# To use one of them, put its name into `checkpoint` in the settings above and run on from there. A
# file of your own works too: give its path, such as `my-drums_48000_65536.ckpt`. This is the one
# that is loaded now:

# %%
print(ckpt)

# %% [markdown]
# ## Seeds
#
# A sound depends on its seed, and on nothing else in the batch. The sounds above have the seeds
# `seed`, `seed + 1` and so on. Here is the last of them again, made alone:

# %%
last = clips[-1]
alone = ddnb.generate(ckpt, 1, last.seed, category=wanted, steps=steps)
print(f"seed {last.seed}, largest difference: {abs(alone.audio[0] - last.audio).max():.6f}")
widgets.player(alone)

# %% [markdown]
# The difference is zero, or on a graphics card next to nothing. So note the seeds you like; you can
# also ask for several of your choice at once. Guess first: which of these two have you not heard
# yet?

# %%
ddnb.generate(ckpt, seed=[seed, 2026], category=wanted, steps=steps)

# %% [markdown]
# Only the second is new: the first has the seed of the first sound of this notebook.

# %% [markdown]
# ## Steps
#
# A sound starts as pure noise, and each step takes some of it away. More steps take more time, and
# the sound becomes cleaner, up to a point. One seed, from left to right with 4, 9 and 25 steps:

# %%
few, some, many = (ddnb.generate(ckpt, 1, seed, category=wanted, steps=count)[0] for count in (4, 9, 25))
widgets.player([few, some, many])

# %% [markdown]
# Listen to the highs, and to the quiet parts: that is where too few steps leave hiss or a watery
# sound. Where can you no longer tell two apart? That number is enough: 25 is a
# good start, and the default.

# %% [markdown]
# ## Samplers
#
# A sampler is the recipe that turns the network's answers into the next step. The default is
# `iplms`, and `dpmpp_2m` is another modern one. `v-iplms` is the recipe of the original Dance
# Diffusion notebook, rounding errors and all, for those who want yesterday's sound back. Here they
# are, in this order:

# %%
names = ["iplms", "dpmpp_2m", "v-iplms"]
sounds = [ddnb.generate(ckpt, 1, seed, category=wanted, steps=12, sampler=name)[0] for name in names]
widgets.player(sounds)

# %% [markdown]
# Same seed, same model, same number of steps: you hear relatives. With many steps the modern two
# come ever closer to each other.

# %% [markdown]
# ## A look inside
#
# Before each step the network guesses the finished sound. `generate` hands these guesses to
# whatever you give it as `on_step`; here four of 25 are kept. What do you expect the first guess to
# sound like?

# %%
watch = widgets.Snapshots(at=[1, 5, 12, 25])
result = ddnb.generate(ckpt, 1, seed, category=wanted, steps=25, on_step=watch)
watch.show(result)

# %% [markdown]
# Read the spectrograms from left to right. The first guess is a dull blur, the average of everything
# the model knows; then come the large shapes, and the fine, high details last. The
# guess of the last step is the sound itself.
#
# How much noise is left after each step is a choice, called the time grid. These are the four to
# choose from:

# %%
widgets.draw_grids(25)

# %% [markdown]
# At the top left the noise buries the sound, at the bottom right it is far below hearing. A steep
# line hurries, a flat one takes its time. The default is `log_snr`, which goes down by equal steps
# of loudness; with 9 steps or fewer it is `karras`. The original used `crash`, which lingers in the
# middle and hurries at the end.

# %% [markdown]
# ## Length
#
# Say how long a sound shall be with `duration_s`, in seconds, up to 60. A model knows the length it
# was trained on, 1.5 s for `drums`; the further you go from it, the stranger the results. Longer
# sounds also take more time and memory.

# %%
ddnb.generate(ckpt, 2, seed, category="texture" if wanted else None, duration_s=3.0)

# %% [markdown]
# ## Save and download
#
# Until now the sounds live in this notebook only. The next cell writes them as 24-bit WAV files
# into the folder `sounds`, and prints where. Nothing is ever overwritten: a name that is taken gets
# a number.

# %%
paths = clips.save("sounds")
print(*paths, sep="\n")

# %% [markdown]
# Beside each WAV file lies a small text file with the same name, ending in `.json`. It says how the
# sound was made: model, seed, steps, sampler, level. Keep the two together, and `remake` makes the
# sound again, even in a year:

# %%
again = ddnb.remake(paths[0])
print(f"largest difference: {abs(again.audio[0] - clips[0].audio).max():.6f}")
widgets.player(again)

# %% [markdown]
# To take sounds home, make a pack of those that you kept, or of all. It is one zip file, made for a
# DAW: one-shots without the silence around them, marked as such; a list from which every sound can be
# made again, a picture, licences.

# %%
pack = ddnb.pack(heard.kept or clips, "sounds.zip")
print(pack)

# %% [markdown]
# On Colab the next cell hands it to your browser; allow the download when asked. Elsewhere it does
# nothing, and the file lies where the line above says. Then drag the WAV files from the unpacked
# folder into your DAW.

# %%
if runtime.in_colab():
    widgets.hand_over(pack)

# %% [markdown]
# ## Try this
#
# Each changes one thing. Say what you expect before you listen.
#
# 1. Set `seed` to your birthday and make 8 sounds. Which one do you keep?
# 2. Set `steps` to 1, then to 2. What does a sound made in a single step sound like?
# 3. In *Length*, set `duration_s` to 6. Does a longer sound have a beginning and an end?

# %% [markdown]
# ## If something goes wrong
#
# - **Unknown checkpoint**: a typing error in its name. The message lists the names that are known.
# - **could not be had from any of its sources**: no connection, or the server is busy. Try again
#   later. With `drums` you can go on offline.
# - **Not even one clip fits into the memory**: make the sounds shorter, or close other notebooks.
#   On Colab, choose *Runtime > Restart session* and run again from the top.
#
# Too slow? Press the stop button: the sounds that are finished stay.

# %% [markdown]
# ## Credits, licence, sources
#
# Dance Diffusion is by Zach Evans and Harmonai, after v-diffusion by Katherine Crowson. `drums` and
# the code are part of this project, under the MIT licence. `drums` was trained on procedural sounds,
# samples of Sonic Pi (CC0), Fluid R3 by Frank Wen (MIT) and the rumpf_kit (CC BY 3.0). The published models have their
# own licences, listed above; "not known" means that none was found, so ask before you release
# something made with them.
#
# Further reading: Salimans and Ho 2022, arXiv 2202.00512 (the network's task); Zhang and Chen 2022,
# arXiv 2204.13902 (`iplms`); Lu and others 2022, arXiv 2211.01095 (`dpmpp_2m`); Karras and others
# 2022, arXiv 2206.00364 (time grids).
