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
# At the end you will have a family of sounds that resemble one of yours, as similar or as different as
# you like, and know how to fill a gap in a sound and how to make it longer.
#
# **Time and hardware:** about two minutes on any computer with the small network that is built in.
# The published models need a graphics card, such as Colab's free T4; on a CPU each of their
# variations takes about a minute.

# %% [markdown]
# What you will do:
#
# - make your first variations, of a snare or of a file of your own;
# - hear what strength does;
# - choose level and length, and change the category;
# - vary a whole folder in one call;
# - fill a gap, and extend a sound;
# - save the variations, and make one again from its `.json` file.
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
# ## First variations
#
# - `checkpoint`: the model that makes the variations. `drums` is small and built in.
# - `your_sound`: the path of a sound file. Empty: a snare is made first, by `drums`.
# - `strength`: from 0, the sound itself, to 1, which ignores it.
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
# How it works: noise is added to the sound, and the model removes it again. What the
# noise has covered, the model invents.
#
# The first player is the original, at the sample rate of the model. Strength 0 returns it as it is.

# %%
import ddnb
from ddnb import runtime, widgets
from ddnb.training.dataset import EXAMPLES

ckpt = ddnb.load(checkpoint, on_progress=widgets.Progress("downloading"))
drums = ddnb.load("drums")
sound = your_sound or ddnb.generate(drums, 1, 7, category="snare")[0]
clips = ddnb.vary(ckpt, sound, strength, how_many, seed, on_step=widgets.Progress())
original = ddnb.vary(ckpt, sound, strength=0, n=1)[0]
widgets.player([original, *clips], ["original", *(f"variation, seed {clip.seed}" for clip in clips)])

# %% [markdown]
# Play the original, then the others. They begin as it does, and last about as long; what differs is
# the grain of the noise and the balance of low and high. They could be
# four recordings of the same drum. In the spectrograms the outline is the same, and the speckles inside it are not.

# %% [markdown]
# ## Your own sound
#
# Type the path of a file into `your_sound`, such as `/home/me/snare.wav`, and run all cells from there.
# WAV, FLAC, AIFF, OGG and MP3 are read, of any sample rate, mono or stereo.
#
# - **On Colab**: click the folder icon at the left, drag the file into the list, wait until it has
#   arrived, and type its name.
# - **No file?** Record something with your phone, a knock on the table or a word, and load
#   the file: `drums` turns it into a drum that resembles it.
#
# A few seconds work best. Memory and time grow with the length; above a minute, choose
# a part with `offset_s` and `duration_s`, see *Length*.

# %% [markdown]
# ## What strength does
#
# One seed, five strengths: the original, then 0.2, 0.4, 0.6, 0.8 and 1. Guess
# before you listen: where does it stop being the same drum?

# %%
strengths = [0.2, 0.4, 0.6, 0.8, 1.0]
series = [ddnb.vary(ckpt, sound, value, 1, seed)[0] for value in strengths]
widgets.player([original, *series], ["original", *(f"strength {value}" for value in strengths)])

# %% [markdown]
# Up to about 0.6 you hear the same drum, struck again, and less and less like the first time. At 0.8
# it may well be another one: length and brightness change. The last has nothing of the
# original: it is what `generate` makes of this seed.
#
# Strength is an amount of noise. These are noise levels relative to a sound whose peak is at 0 dB, and
# below them the average level of your sound relative to its peak:

# %%
import math

for value in strengths[:-1]:
    noise_db = 20 * math.log10(math.tan(value * math.pi / 2))
    print(f"strength {value}: noise at {noise_db:+.0f} dB")
peak = abs(original.audio).max()
print(f"the sound: {20 * math.log10(original.audio.std() / peak):.0f} dB")

# %% [markdown]
# Even at 0.2 the noise is louder than most of the sound. So much of it survives because
# the model knows what sounds are like. Strength means the same for every model and every
# sampler.

# %% [markdown]
# ## Level
#
# Each variation has the peak of the original, however loud that is. With `match_level=True` it gets
# the average level of the original (its root mean square) instead, which helps if it is to
# replace the original in an arrangement. The original, two variations, the same two matched:

# %%
plain = ddnb.vary(ckpt, sound, 1, 2, seed)
matched = ddnb.vary(ckpt, sound, 1, 2, seed, match_level=True)
widgets.player([original, *plain, *matched], ["original", "plain 1", "plain 2", "matched 1", "matched 2"])

# %% [markdown]
# Compare the peaks: for the snare, matching raises the first variation by about 6 dB and
# changes nothing else. A short sound
# needs a higher peak to be as loud on average as a long one; above full scale it is turned down in
# players and files, and says so.

# %% [markdown]
# ## Length
#
# A variation is as long as its original. `offset_s` skips the beginning, `duration_s` says how long
# the result shall be, both in seconds. First only a part that starts at a tenth of the sound and is
# a third as long; then the sound with one second more:

# %%
length_s = original.duration_s
tail = ddnb.vary(ckpt, sound, strength, 1, seed, offset_s=length_s / 10, duration_s=length_s / 3)
longer = ddnb.vary(ckpt, sound, strength, 1, seed, duration_s=length_s + 1)
widgets.player([tail[0], longer[0]], ["part", "one second more"])

# %% [markdown]
# The added second is silence, and noise is added to it like to the rest: with a high strength the
# sound may ring into it, with a low one it stays silent. To continue a sound, see *Extend a sound*.

# %% [markdown]
# ## Another category
#
# A model with categories can turn a sound into another category: it removes the noise as if there
# were a clap below it. The snare, then variations towards a clap with the strengths 0.4, 0.6 and 0.8.
# Models without categories ignore this.

# %%
wanted = "clap" if "clap" in ckpt.categories else None
claps = [ddnb.vary(ckpt, sound, value, 1, seed, category=wanted)[0] for value in (0.4, 0.6, 0.8)]
widgets.player([original, *claps], ["original", *(f"clap, strength {value}" for value in (0.4, 0.6, 0.8))])

# %% [markdown]
# The higher the strength, the more it sounds like a clap.
#
# A sound that was made here remembers its category, and is varied in it by default. A file
# does not: give `category="snare"` to keep a snare a snare.

# %% [markdown]
# ## A whole folder
#
# One call varies every sound file of a folder and its subfolders. These are four snares of
# real drummers and machines from the package; replace them with the path of your folder.
# First the originals, with strength 0, then a variation of each:

# %%
folder = EXAMPLES / "snare"
snare = "snare" if "snare" in ckpt.categories else None
before = [batch[0] for batch in ddnb.vary_folder(ckpt, folder, 0)]
after = [batch[0] for batch in ddnb.vary_folder(ckpt, folder, strength, seed=seed, category=snare)]
widgets.player(before + after, [f"{kind} {i + 1}" for kind in ("original", "variation") for i in range(len(before))])

# %% [markdown]
# Each keeps its own length, and a file that cannot be read is skipped with a warning. Find
# the original of each variation by ear.
#
# To keep them all: `for batch in ddnb.vary_folder(ckpt, folder): batch.save("varied")`.

# %% [markdown]
# ## Fill a gap
#
# A cough in a recording, a click, an unwanted note: give the times of the gap, and the model fills
# it with something that fits. The rest stays as it was, except for 10 ms on either side of each
# gap. Here are two gaps in a texture, from 0.4 to 0.6 and from 0.9 to 1.1 seconds; first the
# texture, then two seeds. For a sound of your own, write `texture = sound` and other times.

# %%
texture = ddnb.generate(drums, 1, 7, category="texture")[0]
gaps = {"start_s": [0.4, 0.9], "end_s": [0.6, 1.1]}
filled = ddnb.inpaint(ckpt, texture, **gaps, n=2, seed=seed, on_step=widgets.Progress())
widgets.player([texture, *filled], ["texture", *(f"filled, seed {clip.seed}" for clip in filled)])

# %% [markdown]
# Orange lines in the pictures show where the gaps were. Between them the players differ; outside
# they are alike. Can you hear where it changes? Look at the brightness too: a filling that is too
# quiet shows as a darker column.
#
# There are three methods: `replace`, `resample`, and `guide`, which you heard above.

# %%
methods = ["replace", "resample", "guide"]
ways = [ddnb.inpaint(ckpt, texture, **gaps, n=1, seed=seed, method=name)[0] for name in methods]
widgets.player(ways, methods)

# %% [markdown]
# - `replace` puts the known part back after each step. It is fast, and what it makes follows the
#   edges little: good for a first look.
# - `resample` goes back and forth five times a step until inside and outside agree. It takes five
#   times as long, and needs no more memory.
# - `guide`, the default, asks the network in which direction to change the sound so that it meets the
#   edges. It takes three times the work and much more memory; the others more often leave gaps that are
#   too quiet.
#
# None is best for every sound: compare two or three seeds of each.

# %% [markdown]
# ## Extend a sound
#
# `extend` makes a sound longer, up to the length that you name, in seconds. The new part comes after
# it, or before it with `backwards=True`. The methods are the same. An orange line marks the join.

# %%
texture = ddnb.generate(drums, 1, 7, category="texture")[0]
longer_s = texture.duration_s + 1
after_it = ddnb.extend(ckpt, texture, longer_s, 1, seed, on_step=widgets.Progress())
before_it = ddnb.extend(ckpt, texture, longer_s, 1, seed, backwards=True)
widgets.player([after_it[0], before_it[0]], ["extended at the end", "extended at the start"])

# %% [markdown]
# Listen across the line. The new part has a similar timbre, but seldom the same level or
# movement. The small network knows sounds of one and a half seconds: ask it for a second more, not
# for ten. Published models continue window by window, up to ten minutes.
#
# A drum that has decayed continues with silence, or with another hit.

# %% [markdown]
# ## Save and download
#
# The next cell writes the first variations as 24-bit WAV files into the folder `variations`.
# Nothing is ever overwritten: a name that is taken gets a number.

# %%
paths = clips.save("variations")
print(*paths, sep="\n")

# %% [markdown]
# Each WAV file comes with a small text file, ending in `.json`, with all that `remake` needs to make
# the sound again: model, strength, seed, and the input. An input that was made here is made again
# first; a file of yours must still exist, so pass it to `remake`.

# %%
again = ddnb.remake(paths[0], sounds=[sound])
print(f"largest difference: {abs(again.audio[0] - clips[0].audio).max():.6f}")
widgets.player(again)

# %% [markdown]
# To take everything home, make a pack of it: one zip file, made for a DAW, with a list from which every
# sound can be made again. On Colab your browser then asks whether to save it; elsewhere it is where
# the line below says.

# %%
pack = ddnb.pack(clips, "variations.zip")
print(pack)
if runtime.in_colab():
    widgets.download(pack)

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
# - **There is no sound file at ...**: a typing error in `your_sound`. On Colab the name is enough once
#   the file is in the list at the left.
# - **ffmpeg** is missing: phones record M4A, which needs that program. Colab has it. Or convert
#   the file to WAV.
# - **say which part**: the file is longer than a minute. Cut it, or give `offset_s` and
#   `duration_s`.
# - **a gap from ... to ...**: it must begin before it ends, and lie inside the sound; the message
#   says how long that is.
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

# %% cellView="form" tags=["remove-cell"]
# @title Check of what the text claims (for maintainers)
import numpy as np

if (checkpoint, your_sound, seed) == ("drums", "", 0):
    levels = [20 * np.log10(clip.audio.std() / original.audio.std()) for clip in (*plain, *matched)]
    assert -12 < levels[0] < -3 and levels[1] < -1 and max(np.abs(levels[2:])) < 0.5
    assert max(abs(abs(clip.audio).max() - abs(original.audio).max()) for clip in (*series, *plain)) < 0.001
inside = [
    slice(round(start * texture.sample_rate), round(end * texture.sample_rate))
    for start, end in ((0, 0.39), (0.61, 0.89))
]
assert all(np.abs(clip.audio[:, part] - texture.audio[:, part]).max() < 1e-4 for clip in filled for part in inside)
