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
# make each of them again.
#
# **Time and hardware:** one or two minutes on any computer with the small network that is built in.
# The published models need a graphics card, such as Colab's free T4; on a CPU each of their
# sounds takes about a minute.

# %% [markdown]
# What you will do:
#
# - make your first sounds;
# - ask for kicks, basses or textures, and for things in between;
# - choose a model;
# - use seeds to make a sound again, or a new one;
# - hear what steps and samplers do;
# - look inside, while noise becomes a sound;
# - choose the length, save the sounds and take them home.
#
# You need no knowledge of Python. Run the cells from top to bottom; after the first three code
# cells, each section works by itself.
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
# ## Your first sounds
#
# Five settings; leave them as they are the first time:
#
# - `checkpoint`: the model, a network trained on some kind of sound. `drums` is small and built in:
#   it needs no download.
# - `category`: what to make; also `clap`, `open_hat`, `tom`, `cymbal` and `perc`. `any` picks at
#   random. The published models know no categories and ignore this.
# - `how_many`: number of sounds.
# - `seed`: a whole number that picks the sounds.
# - `steps`: how many times the network is called, 1 to 100. Few steps are fast and rough.

# %% cellView="form"
# @title Settings
checkpoint = "drums"  # @param ["drums", "glitch-440k", "maestro-150k", "honk-140k"] {allow-input: true}
category = "kick"  # @param ["any", "kick", "snare", "closed_hat", "bass", "synth", "texture"] {allow-input: true}
how_many = 4  # @param {type:"slider", min:1, max:16, step:1}
seed = 7  # @param {type:"integer"}
steps = 16  # @param {type:"slider", min:1, max:100, step:1}

# %% [markdown]
# Now load the model, make the sounds and show them. Each player shows the sound's length, settings and peak level,
# then its waveform and its spectrogram: low frequencies at the bottom, bright where there is energy.

# %%
import ddnb
from ddnb import runtime, widgets

ckpt = ddnb.load(checkpoint, on_progress=widgets.Progress("downloading"))
wanted = category.lower() if ckpt.categories and category.lower() != "any" else None
clips = ddnb.generate(ckpt, how_many, seed, category=wanted, steps=steps, on_step=widgets.Progress())
heard = widgets.player(clips)
heard

# %% [markdown]
# Click a pad to play it; after the first click its key on the keyboard works too. Tick *keep* below the sounds
# you like: they go into your pack at the end.
#
# What should you hear? Four different kicks. In the spectrogram each starts at once, falls in
# pitch, and ends in silence.
#
# All have a peak of -1 dBFS, just below full scale, as the sounds of sample packs do. Textures and loops
# get the same loudness instead, -18 LUFS. `level="network"` keeps what the model made, which is quieter.

# %% [markdown]
# ## Categories
#
# `drums` has learned eleven categories. Here is one sound of each; guess from the pictures which is
# which before you listen.

# %%
names = ckpt.categories or [None]
widgets.player(
    [ddnb.generate(ckpt, 1, seed, category=name)[0] for name in names], labels=[name or "any" for name in names]
)

# %% [markdown]
# Hats and cymbals are bright and noisy; kicks and basses are low. Only a texture has no clear beginning
# or end.
#
# Categories can be mixed: two parts kick and one part clap, or a tom that is half a bass. And
# `guidance_scale` above 1 exaggerates what is typical of a category, and gives less variety.

# %%
mixtures = [{"kick": 2, "clap": 1}, {"tom": 1, "bass": 1}] if ckpt.categories else []
mixed = [ddnb.generate(ckpt, 1, seed, category=mixture)[0] for mixture in mixtures]
strong = [ddnb.generate(ckpt, 1, seed, category=wanted, guidance_scale=2.0)[0]] if wanted else []
titles = [*("kick and clap", "tom and bass")[: len(mixed)], *["guidance 2"] * len(strong), "guidance 1"]
widgets.player(mixed + strong + [clips[0]], titles)

# %% [markdown]
# The last two have the same seed and the same category: first exaggerated, then as learned.
# `width=0.5` turns a mono sound into stereo and leaves its mono mix unchanged.

# %% [markdown]
# ## Notes
#
# Kicks, toms, basses and synths have a pitch. Where you ask for none, each seed draws one; the name of
# the sound says which. `note` asks for one, `key` draws from a scale:

# %%
pitched = "bass" if "bass" in ckpt.tonal_categories else None
played = [ddnb.generate(ckpt, 1, seed, category=pitched, note=note)[0] for note in ("A1", "C2", "E2") if pitched]
played += list(ddnb.generate(ckpt, 3, seed, category="synth", key="A minor")) if pitched else []
notes = [f"{next(iter(clip.making.category))} {clip.provenance.root_note.name}" for clip in played]
widgets.player(played, notes) if played else None

# %% [markdown]
# The three basses are one sound at three notes: the same seed has the same timbre at every pitch. A whole
# keyboard of them is `ddnb.keybed(ckpt, "bass", "C1", "C3")`, and
# `ddnb.pack(..., instruments=True)` makes it an instrument for your sampler.

# %% [markdown]
# ## Choose a model
#
# These models can be loaded by name. The six published ones were trained by Harmonai. Each
# is a download of 886 MB, made once, and needs a network connection. The package contains `drums`,
# and `debug`, an untrained network for tests that makes noise.

# %%
for name, entry in ddnb.list_checkpoints().items():
    seconds = entry["frames"] / entry["sample_rate"]
    print(f"{name:17} {seconds:.1f} s at {entry['sample_rate']} Hz, licence {entry['licence']}")
    print(f"{'':17} {entry['description']}")

# %% [markdown]
# The seconds are the length of the sounds that the model was trained on; 16000 Hz gives a darker
# sound than 48000 Hz.
#
# To use one of them, put its name into `checkpoint` in the settings above and run all cells from
# there. A file of your own works too: give its path, such as `my-drums_48000_65536.ckpt`. This
# model is loaded now:

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
# The difference is zero, or on a graphics card close to zero. So write down the seeds you like; you can
# also ask for several at once. Guess first: which of these two have you not heard yet?

# %%
ddnb.generate(ckpt, seed=[seed, 2026], category=wanted, steps=steps)

# %% [markdown]
# Only the second is new: the first has the seed of the first sound of this notebook.

# %% [markdown]
# ## Steps
#
# A sound starts as pure noise, and each step removes some of it. More steps take more time and give
# a cleaner sound, up to a point. One seed with 4, 9 and 16 steps:

# %%
few, some, many = (ddnb.generate(ckpt, 1, seed, category=wanted, steps=count)[0] for count in (4, 9, 16))
widgets.player([few, some, many], ["4 steps", "9 steps", "16 steps"])

# %% [markdown]
# Listen to the highs, and to the quiet parts: that is where too few steps leave hiss or a watery
# sound. Where can you no longer tell two apart? That number is enough: 16 is the default
# of `drums`. The published models need 25.

# %% [markdown]
# ## Samplers
#
# A sampler is the method that turns the network's output into the next step. `dpmpp_3m` is the
# default of `drums`, `iplms` that of the published models. `v-iplms` is the sampler of the original
# Dance Diffusion notebook, rounding errors included, for those who want to make an old sound again:

# %%
names = ["dpmpp_3m", "iplms", "v-iplms"]
sounds = [ddnb.generate(ckpt, 1, seed, category=wanted, steps=12, sampler=name)[0] for name in names]
widgets.player(sounds, names)

# %% [markdown]
# Same seed, same model, same number of steps: the results are similar. With more steps all
# three come closer to one another.

# %% [markdown]
# ## A look inside
#
# Before each step the network guesses the finished sound. `generate` passes these guesses to the
# function that you give as `on_step`; here four of 16 are kept. What do you expect the first guess
# to sound like?

# %%
watch = widgets.Snapshots(at=[1, 4, 8, 16])
result = ddnb.generate(ckpt, 1, seed, category=wanted, steps=16, on_step=watch)
watch.show(result)

# %% [markdown]
# Compare the spectrograms in order. The first guess is a dull blur, close to the average of all
# kicks that the model knows, and about 20 dB quieter than the sound. The large shapes
# come next, and the fine, high details last. The guess of the last step is the sound itself.
#
# How much noise is left after each step is a choice, called the time grid. These are the four to
# choose from:

# %%
widgets.draw_grids(25)

# %% [markdown]
# At the top left the noise covers the sound; at the bottom right little is left, most of it on the
# `linear` grid. Where a line is steep, each step removes much noise. The default is `log_snr`, which goes
# down by equal steps in dB; with 9 steps or fewer it is `karras`. The original used `crash`, which takes
# small steps in the middle and large ones at the end.

# %% [markdown]
# ## Length
#
# `duration_s` sets the length of a sound, in seconds, up to 60. A model knows the length it
# was trained on, 1.5 s for `drums`; the further you go from it, the stranger the results. Longer
# sounds also take more time and memory.

# %%
ddnb.generate(ckpt, 2, seed, category="texture" if wanted else None, duration_s=3.0)

# %% [markdown]
# ## Save and download
#
# So far the sounds exist in this notebook only. The next cell writes them as 24-bit WAV files
# into the folder `sounds`, and prints where. Nothing is ever overwritten: a name that is taken gets
# a number.

# %%
paths = clips.save("sounds")
print(*paths, sep="\n")

# %% [markdown]
# Each WAV file comes with a small text file of the same name, ending in `.json`, that says how the
# sound was made: model, seed, steps, sampler, level. Keep the two together, and `remake` can make the
# sound again, even in a year:

# %%
again = ddnb.remake(paths[0])
print(f"largest difference: {abs(again.audio[0] - clips[0].audio).max():.6f}")
widgets.player(again)

# %% [markdown]
# To take sounds home, make a pack of those that you kept, or of all. It is one zip file, made for a
# DAW: one-shots with the silence around them removed; a list from which every sound can be
# made again; a picture; licences.

# %%
pack = ddnb.pack(heard.kept or clips, "sounds.zip")
print(pack)

# %% [markdown]
# On Colab the next cell downloads it through your browser; allow the download when asked. Elsewhere it does
# nothing, and the file is where the line above says. Then drag the WAV files from the unpacked
# folder into your DAW.

# %%
if runtime.in_colab():
    widgets.download(pack)

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
# - **Unknown category**: a typing error in `category`. The message lists the categories.
# - **Unknown checkpoint**: a typing error in its name. The message lists the names that are known.
# - **could not be downloaded from any of ... sources**: no connection, or the server is busy. Try again
#   later. `drums` works offline.
# - **Not even one clip fits into the memory**: make the sounds shorter, or close other notebooks.
#   On Colab, choose *Runtime > Restart session* and run again from the top.
#
# Too slow? Press the stop button: the sounds that are finished stay.

# %% [markdown]
# ## Credits, licence, sources
#
# Dance Diffusion is by Zach Evans and Harmonai, after v-diffusion by Katherine Crowson. `drums` and
# the code are part of this project, under the MIT licence. `drums` was trained on procedural
# sounds, samples of Sonic Pi (CC0), Fluid R3 by Frank Wen (MIT) and the rumpf_kit (CC BY 3.0). The
# published models have their own licences, listed above; "not known" means that none was found, so
# ask before you release something made with them.
#
# Further reading: Salimans and Ho 2022, arXiv 2202.00512 (the network's task); Zhang and Chen 2022,
# arXiv 2204.13902 (`iplms`); Lu and others 2022, arXiv 2211.01095 (`dpmpp_3m`); Karras and others
# 2022, arXiv 2206.00364 (time grids).

# %% cellView="form" tags=["remove-cell"]
# @title Check of what the text claims (for maintainers)
if (checkpoint, category, seed, steps) == ("drums", "kick", 7, 16):
    first, finished = (abs(watch.kept[step]).max() for step in (1, 16))
    assert 0.06 < first / finished < 0.12  # about 20 dB
    more = [ddnb.generate(ckpt, 1, seed, category=wanted, steps=25, sampler=name)[0].audio for name in names]
    for few, many in zip(sounds[1:], more[1:], strict=True):
        assert abs(many - more[0]).std() < abs(few.audio - sounds[0].audio).std()
