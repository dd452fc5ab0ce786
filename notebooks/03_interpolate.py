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
# At the end you will have a series of sounds that leads from one sound to another, through sounds that
# are neither, and know when such a walk works.
#
# **Time and hardware:** about two minutes on any computer with the small network that is built in.
# The published models need a graphics card, such as Colab's free T4; on a CPU a walk of seven
# sounds takes about ten minutes.

# %% [markdown]
# What you will do:
#
# - walk from a tom to a clap, or between two files of yours;
# - learn how it works, and hear how it differs from a crossfade;
# - choose how far towards noise the path goes;
# - walk between two seeds, and between two categories;
# - use exact inversion, for sounds that the usual one loses;
# - save the walk.
#
# You need no knowledge of Python, and no file of your own. After the first three code cells, each
# section works by itself.
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
# ## Your first walk
#
# - `checkpoint`: the model that makes the walk. `drums` is small and built in.
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
from_category = "tom"  # @param ["kick", "snare", "clap", "tom", "cymbal", "bass", "synth", "texture"]
to_category = "clap"  # @param ["kick", "snare", "clap", "tom", "cymbal", "bass", "synth", "texture"]
positions = 7  # @param {type:"slider", min:3, max:16, step:1}
seed = 4  # @param {type:"integer"}

# %% [markdown]
# Now walk. Turn the volume down a little first. The first and the last player are the two sounds
# themselves, bit for bit; the others are new.

# %%
import ddnb
from ddnb import runtime, widgets

ckpt = ddnb.load(checkpoint, on_progress=widgets.Progress("downloading"))
drums = ddnb.load("drums")
a = from_sound or ddnb.generate(drums, 1, seed, category=from_category)[0]
b = to_sound or ddnb.generate(drums, 1, seed, category=to_category)[0]
walk = ddnb.interpolate(ckpt, a, b, positions, on_step=widgets.Progress())
widgets.player(walk, [f"{i + 1} of {len(walk)}" for i in range(len(walk))])

# %% [markdown]
# Play them in order. The tom has a low tone; each sound after it has more noise and a larger share of
# high frequencies, and the last is the clap. In the spectrograms the bright area moves upwards step
# by step.

# %% [markdown]
# ## What is happening
#
# Every sound of a model begins as noise. So a sound can also be inverted, back to the noise that
# it could have been made from. Then one noise is turned into the other in equal steps, and
# a sound is made from each noise in between.
#
# This works only if each of the two sounds can be made again from its noise. Every walk measures
# this, as the level of the sound above that of the error:

# %%
there_and_back = walk.settings["making"]["round_trip_db"]
for name, level in zip(("first", "second"), there_and_back, strict=True):
    print(f"the {name} sound came back {level} dB above the error")

# %% [markdown]
# 20 dB is an error of a tenth, 40 dB of a hundredth. Below 20 dB, part of what you hear would be only a
# crossfade, so exact inversion is then used automatically; see *Exact inversion*. Noisy sounds,
# such as hats, are the hardest.
#
# The error is added back at the ends, and faded out towards the middle. That is why the ends are
# exact.

# %% [markdown]
# ## It is not a crossfade
#
# First the middle of your walk, then a crossfade of the two ends with the same average level. What do
# you expect of each?

# %%
middle = walk[len(walk) // 2]
ends = walk[0].audio + walk[-1].audio
ends *= middle.audio.std() / ends.std()
crossfade = ddnb.Clip(ends, walk.sample_rate, 0)
widgets.player([middle, crossfade], ["middle of the walk", "crossfade"])

# %% [markdown]
# In the crossfade the tom and the clap play at the same time, and you can tell them apart. The middle of
# the walk is a sound of its own, with a spectrum that neither end has.

# %% [markdown]
# ## Depth
#
# `depth` says how far towards noise the path goes: 1, the default, is all the way. The middle of the
# walk with depths of 0.3, 0.6 and 1. (`places=[1]` makes only the second of the three positions.)

# %%
depths = [0.3, 0.6, 1.0]
middles = [ddnb.interpolate(ckpt, a, b, 3, depth=depth, places=[1])[0] for depth in depths]
widgets.player(middles, [f"depth {depth}" for depth in depths])

# %% [markdown]
# The smaller the depth, the more of both sounds is kept, and the closer the result is to a crossfade.
# At 1 the model is free to find something that is neither. Two recordings lose more in the inversion:
# try `depth=0.3` there, or exact inversion. Depth means the same as `strength` in `02_vary`.

# %% [markdown]
# ## Two seeds instead of two sounds
#
# The sounds that `generate` makes have a seed, so their noise is known: no inversion is needed,
# nothing is lost, and it takes less time. Give two whole numbers:

# %%
wanted = "texture" if "texture" in ckpt.categories else None
ddnb.interpolate(ckpt, seed, seed + 1, positions, category=wanted, on_step=widgets.Progress())

# %% [markdown]
# The ends are what `generate` makes of these two seeds. Equal steps seldom sound equal: the timbre
# may stay the same for a while, then change within one or two positions.

# %% [markdown]
# ## Categories in between
#
# One seed twice, and two categories: the noise stays the same, and only the category changes,
# from a snare to a closed hat. Models without categories make the same sound each time; there, skip this.

# %%
kinds = {"category": "snare", "to_category": "closed_hat"} if ckpt.categories else {}
kit = ddnb.interpolate(ckpt, seed, seed, positions, **kinds, on_step=widgets.Progress())
kit

# %% [markdown]
# A series of sounds for one kit, from dull to bright. A walk between two sounds of different categories,
# like your first, changes both: the noise and the category.

# %% [markdown]
# ## Exact inversion
#
# From a clap to an open hat, both mostly noise. The usual inversion loses one of them.
# `exact=False` uses it anyway, with a warning, which is caught and printed here. With exact
# inversion each step can be undone. It is used automatically where needed; `exact=True` always uses
# it. First the usual walk, then the exact one:

# %%
import warnings

clap = ddnb.generate(drums, 1, seed, category="clap")[0]
hat = ddnb.generate(drums, 1, seed + 1, category="open_hat")[0]
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    usual = ddnb.interpolate(ckpt, clap, hat, 4, exact=False)
print(*(warning.message for warning in said), sep="\n")

exact = ddnb.interpolate(ckpt, clap, hat, 4)
print("exact:", *exact.settings["making"]["round_trip_db"], "dB")
widgets.player([*usual, *exact], [f"{name} {i + 1}" for name in ("usual", "exact") for i in range(len(usual))])

# %% [markdown]
# Both walks have the same ends. Compare the second sound of each, and the third: in the usual walk
# part of them is a crossfade of the ends. Exact inversion avoids that, but can add some hiss in quiet
# parts.

# %% [markdown]
# ## Save and download
#
# The next cell writes the first walk into the folder `walk`. The names give both ends and
# the position; each WAV file comes with a text file, ending in `.json`, from which
# `ddnb.remake` makes it again.

# %%
paths = walk.save("walk")
print(*paths, sep="\n")

# %% [markdown]
# To take everything home, make a pack of it: one zip file, made for a DAW, with a list from which every
# sound can be made again. On Colab your browser then asks whether to save it; elsewhere it is where
# the line below says.

# %%
pack = ddnb.pack(walk, "walk.zip")
print(pack)
if runtime.in_colab():
    widgets.download(pack)

# %% [markdown]
# In a sampler, map the positions to the velocities of one key: a soft hit plays the first
# sound, a hard hit the last. Or put them on the steps of a sequence.

# %% [markdown]
# ## Try this
#
# Each changes one thing. Say what you expect before you listen.
#
# 1. Set `to_category` to `texture`. How does the decay change along the walk?
# 2. Set `positions` to 16 and play every sound right after the other. Are there places where much
#    changes at once?
# 3. Walk between two recordings of your own. What does `round_trip_db` say?

# %% [markdown]
# ## If something goes wrong
#
# - **Inverting and sampling again loses ...**: a warning, not an error. Leave `exact` out, take more
#   `steps`, or a smaller `depth`.
# - **a seed and a sound**: give two sounds or two seeds, not one of each.
# - **adds noise on the way**: this sampler cannot be inverted; leave `sampler` out.
#
# Too slow? Press the stop button: the finished positions stay, once both ends are done.

# %% [markdown]
# ## Credits, licence, sources
#
# Dance Diffusion is by Zach Evans and Harmonai, after v-diffusion by Katherine Crowson. `drums` and
# the code are part of this project, under the MIT licence. The published models have their own
# licences, see `01_generate`. What lies between two sounds may resemble both: walk between what is
# yours, or free.
#
# Further reading: Song and others 2020, arXiv 2010.02502 (inversion); White 2016,
# arXiv 1609.04468 (from noise to noise, on a sphere); Zhang and others 2023, arXiv 2307.10829 (exact
# inversion).

# %% cellView="form" tags=["remove-cell"]
# @title Check of what the text claims (for maintainers)
import numpy as np

if (checkpoint, from_sound, to_sound, seed) == ("drums", "", "", 4):
    for series in (walk, kit):
        power = np.array([abs(np.fft.rfft(clip.audio.mean(axis=0))) ** 2 for clip in series])
        high = power[:, round(2000 * series[0].duration_s) :].sum(axis=1) / power.sum(axis=1)
        assert np.all(np.diff(high) > 0)
    flat = (walk[0].audio + walk[-1].audio).ravel()
    likeness = [np.corrcoef(clip.audio.ravel(), flat)[0, 1] for clip in middles]
    assert likeness == sorted(likeness, reverse=True)
    assert min(there_and_back) > 20 and min(exact.settings["making"]["round_trip_db"]) > 20
