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
# # Fine-tune on your own sounds
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/05_finetune.ipynb)
#
# At the end you will have a model that was trained on a folder of your sounds, know how it was
# trained, and have it as a file for this and for other tools.
#
# **Time and hardware:** about three minutes on any computer for the demonstration, which is small on
# purpose. Fine-tuning a published model on your own sounds needs a graphics card, such as Colab's
# free T4, and an hour or more.

# %% [markdown]
# What you will do:
#
# - choose a folder of sounds, and hear some of them;
# - hear at once what the built-in model makes of it;
# - check it before you spend time on training;
# - choose what to start from;
# - train, watch the curve, stop when you like;
# - listen to before, during and after;
# - ask for one kind of sound;
# - download the model, and continue tomorrow.
#
# With the settings as they are, a tiny network is trained from scratch on twelve drum sounds from the
# package. Fine-tuning means to start from a trained model instead.
#
# Start with the set-up. Its one line of output says which device will train, and where downloads are
# stored.

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
# ## Your sounds
#
# - `sounds`: a folder of sound files, or a zip file of one. Empty: the twelve from the package. If
#   it has subfolders, such as `kick` and `snare`, their names become categories that you can
#   ask for later.
# - `run`: a new folder for the results of the training.
# - `use_drive`: on Colab, open your Google Drive, to read from and to write to. Its paths begin
#   with `/content/drive/MyDrive/`. **Put `run` there too: other files on Colab are lost when
#   the session ends.**
#
# Without Drive on Colab: drag a zip file into the file list at the left, wait until it has arrived,
# and type its name.

# %% cellView="form"
# @title Folders
sounds = ""  # @param {type:"string"}
run = "my-run"  # @param {type:"string"}
use_drive = False  # @param {type:"boolean"}

# %% [markdown]
# The next cell reads the sounds and plays some of them, from every folder. Are they what you want
# to hear more of? A model learns everything in them, including hum and clicks.

# %%
import shutil

import ddnb
from ddnb import runtime, widgets
from ddnb.training.dataset import EXAMPLES

if use_drive and runtime.in_colab():
    from google.colab import drive

    drive.mount("/content/drive")
folder = sounds or EXAMPLES
if sounds.endswith(".zip"):
    folder = sounds.removesuffix(".zip")
    shutil.unpack_archive(sounds, folder)
widgets.dataset_player(ddnb.check_dataset(folder))

# %% [markdown]
# ## Hear your folder
#
# The built-in model, `drums`, can take the sound of a folder without training, in about ten seconds for
# each kind of sound. It measures how loud your sounds are in each band and moment, and the harmonics
# of those with a pitch; then it makes a few sounds and corrects what they lack. Every training of
# this model begins so. For each kind: the model before, where it knows a category of
# that name, and after, with the same seed.

# %%
drums = ddnb.load("drums")
fitted = ddnb.fit(drums, folder)
heard = {}
for kind in fitted.own_categories:
    if kind in drums.categories:
        heard[f"{kind}, before"] = ddnb.generate(drums, 1, 0, category=kind)[0]
    heard[f"{kind}, fitted"] = ddnb.generate(fitted, 1, 0, category=kind)[0]
widgets.player(list(heard.values()), list(heard))

# %% [markdown]
# The fitted sounds are new: compare them with your files above. If you like them, you may be done.
# `ddnb.fit(drums, folder, "mine.safetensors")` writes the model to a file that every other notebook
# opens. Training, below, learns more of the fine structure, and works with every model.

# %% [markdown]
# ## What to start from
#
# - `start`: `scratch` is a tiny network that knows nothing. It learns sounds of a quarter of a second at 8000 Hz on any
#   computer within minutes, and only their rough shape: **expect dull thumps and hiss, not music.**
#   `drums` is the built-in model. For real results take a published model (886 MB each, on a graphics
#   card) or the path of your own checkpoint: a trained model learns a new kind of sound much faster.
# - `steps`: number of training steps. The doctor below suggests one.
# - `seed`: fixes everything random in training.
# - `learn_kinds`: learn the names of the subfolders as categories.

# %% [markdown]
# If a graphics card runs out of memory, or for more speed:
#
# - `batch_size`: sounds per step. 0: 2 from scratch, otherwise as many as fit. Halving it needs twice the
#   steps.
# - `learning_rate`: the size of a step. 0: the usual rate.
# - `lora_rank`: 0 trains all weights. 16 trains small additions instead, with less memory and
#   smaller saved states; often as good for a small folder. The result is an ordinary model.
# - `recompute`: save most of the memory by computing part of each step twice, a little slower. The
#   sound is the same.
#
# On a T4 try `lora_rank` 16 and `recompute` first; with 24 GB or more leave all as they are.

# %% cellView="form"
# @title Settings
start = "scratch"  # @param ["scratch", "drums", "glitch-440k", "maestro-150k", "honk-140k"] {allow-input: true}
steps = 800  # @param {type:"integer"}
seed = 0  # @param {type:"integer"}
batch_size = 0  # @param {type:"integer"}
learning_rate = 0.0  # @param {type:"number"}
lora_rank = 0  # @param {type:"integer"}
recompute = False  # @param {type:"boolean"}
learn_kinds = True  # @param {type:"boolean"}

# %% [markdown]
# ## The doctor
#
# Before you spend hours, check the folder: what is in it, what to look at, which files
# cannot be used and why, and how long to train. The doctor also tries a few training steps and
# estimates how long training will take on this machine.

# %%
from ddnb.training import from_scratch

if start == "scratch":
    ckpt = from_scratch("demo", sample_rate=8000, frames=2048)
    settings = {"learning_rate": learning_rate or 2e-3, "batch_size": batch_size or 2}
else:
    ckpt = ddnb.load(start, dtype="float32", on_progress=widgets.Progress("downloading"))
    settings = {"learning_rate": learning_rate or None, "batch_size": batch_size or None}
ddnb.check_dataset(folder, ckpt)

# %% [markdown]
# These are suggestions: a clipped kick may be just what you want. But sounds that begin late teach
# silence, and near copies are memorised first. Fix the folder, and run the cell again. Twelve sounds
# are few, as it says: for a model of your own collect 50 or more. Its number of steps assumes its
# own batch size; the demonstration uses a smaller batch, so it takes more steps.

# %% [markdown]
# ## Train
#
# The bar shows how long training will take. The stop button of the notebook (on Colab, of the
# cell) stops it at any time without loss: **run the same cell again to continue.**
# After a crash it continues from the last save; there are twenty during a run.

# %%
settings |= {"steps": steps, "seed": seed, "categories": None if learn_kinds else False}
settings |= {"lora_rank": lora_rank or None, "recompute_levels": 4 if recompute else 0}
for _ in widgets.follow(ddnb.finetune(ckpt, folder, run, **settings)):
    pass

# %% [markdown]
# The blue line is the error on the sounds it trains on. It jumps, as each step sees other sounds with
# other amounts of noise. The orange points are the error on a few sounds that are held out, always
# measured in the same way: trust those.
#
# - Both fall: continue.
# - Orange is flat or rises while blue falls: it begins to memorise your sounds. The best
#   step is circled, and its model is saved.
# - A jump upwards that stays: the learning rate was too high; begin a new run with a lower one.
#
# The whole curve again, from the run's own log, tomorrow too:

# %%
widgets.curve(run)

# %% [markdown]
# ## Before, during, after
#
# The curve cannot hear. During training the run made the same sounds again and again: each column
# starts from the same noise, each row is a later step. Start with the pictures: where does a flat
# block of noise begin to fade out, as a drum does? Then play a column from top to bottom.

# %%
widgets.demos(run)

# %% [markdown]
# In the demonstration the first row is hiss, as loud at its end as at its beginning. The last row
# begins with a low, dull thump and fades by some 10 dB; hiss remains, and a click at the very end,
# where the network is least sure. The kinds hardly differ yet. That is what a tiny network learns from
# twelve sounds in a minute. With a published model the first row already has clean sounds, which
# become more and more like yours.
#
# When to stop? When you no longer hear a difference between two rows, or when the sounds become
# copies of yours.

# %% [markdown]
# ## Ask for a kind
#
# The run's result is `last.safetensors`, an ordinary model: it can be loaded by its path here and in
# all the other notebooks. If your folder had subfolders, it knows their names:

# %%
mine = ddnb.load(Path(run) / "last.safetensors")
print(mine, "categories:", *mine.categories)

# %% [markdown]
# Give one of them as `category`. `guidance_scale` says how strongly to follow it: 1 is as learned,
# 2 to 4 exaggerate what makes the kind different, 0 ignores it; too much distorts the sound. The same
# seed for up to three kinds, exaggerated:

# %%
kinds = mine.categories[:3] or [None]
asked = [ddnb.generate(mine, 1, seed, category=kind, guidance_scale=3 if kind else None) for kind in kinds]
widgets.player([clips[0] for clips in asked], [kind or "any" for kind in kinds])

# %% [markdown]
# A mixture works too: `category={"kick": 2, "snare": 1}` asks for something between the two, nearer
# to the kick.

# %% [markdown]
# ## Did it copy?
#
# A network that is trained for long on few sounds memorises them. The originality check looks for
# the nearest of your sounds to each new one, regardless of level, and shows the two side by side.
# What counts as near depends on how similar the sounds in your folder are to one another.

# %%
ddnb.originality([clips[0] for clips in asked], folder)

# %% [markdown]
# "No near copy found in this folder" is all it can say: it compares with these sounds only. After a
# long training run it again; if copies appear, an earlier of the run's `best-step` files is the
# better model.

# %% [markdown]
# ## Download the model
#
# The model is one file. The next cell writes it once more, as a `.ckpt` for the original Dance
# Diffusion code and the tools around it, at half the size (`float16`). Its name gives the step,
# and the sample rate and length that other tools ask for.

# %%
last = Path(run) / "last.safetensors"
exported = Path(f"{run}-step{mine.info['training']['step']}_{mine.sample_rate}_{mine.frames}.ckpt")
if not exported.exists():
    ddnb.convert(last, exported, dtype="float16")
print(exported.resolve(), f"{exported.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# Hugging Face's diffusers takes a folder. It has no categories, so this works for a model
# without categories only; to have one, train with `learn_kinds` off.

# %%
if not mine.categories and not exported.with_suffix("").exists():
    print(ddnb.convert(last, exported.with_suffix("")))

# %% [markdown]
# On Colab this hands the file to your browser. Elsewhere it is where the line above says, on Drive
# if `run` is there.

# %%
if runtime.in_colab():
    from google.colab import files

    files.download(str(exported))

# %% [markdown]
# ## Continue tomorrow
#
# Close everything, come back, and run the notebook with the same folders and settings: the training
# cell continues where it stopped, bit for bit on a CPU. To train longer than planned, raise `steps` and
# nothing else.
#
# On Colab a session ends after some hours, and its files are lost. If `run` is on Drive, at most
# the last twentieth of the run is lost. Have you changed your sounds? That is another run: choose a
# new `run`, and give `my-run/last.safetensors` as `start`.

# %% [markdown]
# ## Several graphics cards
#
# In a terminal, with the same folders, one command uses all of them:
#
# ```
# accelerate launch -m ddnb finetune --checkpoint glitch-440k --data my-sounds --out my-run
# ```
#
# In a notebook the same needs a **fresh kernel**, in which nothing has been computed yet
# (*Restart*, then only this cell); each process loads the network itself:
#
# ```python
# from accelerate import notebook_launcher
#
# def train():
#     import ddnb
#     ckpt = ddnb.load("glitch-440k", device="cpu", dtype="float32")
#     for record in ddnb.finetune(ckpt, "my-sounds", "my-run", steps=2000):
#         pass
#
# notebook_launcher(train, num_processes=2)
# ```
#
# `widgets.curve("my-run")` in another notebook shows its progress.

# %% [markdown]
# ## Try this
#
# Each changes one thing. Give `run` a new name each time, and say what you expect before you listen.
#
# 1. Raise `steps` to 3000 and take a break. Do the kinds become different from each other?
# 2. Put ten sounds of one kind into a folder, your own voice perhaps, and train on those. What does
#    it pick up first?
# 3. Stop the training in its first third and look at the demos. Then continue.

# %% [markdown]
# ## If something goes wrong
#
# - **The folder does not exist**, or nothing in it can be used: a typing error in `sounds`, or no sound files.
# - **The run in ... began with ...**: a setting has changed. Give the old one to continue, or
#   another name as `run`.
# - **is in use by another process**: a second notebook has the same `run` open; stop it.
# - **Out of memory**: set `batch_size` to 1, `lora_rank` to 16, tick `recompute`; *Restart* and run
#   again from the top.
# - **The loss is nan**: begin a new `run` with half the `learning_rate` of its `settings.json`.
# - **No space left**: free some, and run the same cell again.

# %% [markdown]
# ## Credits, licence, sources
#
# The twelve sounds are in the public domain (CC0), by menegass, looppool, adammusic18, cubix and
# n1ghthawk on Freesound, from the samples of Sonic Pi; `ddnb/assets/one-shots/CREDITS.md` has the
# numbers. A model that you train on a published one inherits its licence, and what you may do with
# it also depends on the sounds: train on what is yours, or free.
#
# Dance Diffusion is by Zach Evans and Harmonai. Further reading: Salimans and Ho 2022, arXiv
# 2202.00512 (the error that is measured); Ho and Salimans 2022, arXiv 2207.12598 (guidance); Hu and
# others 2021, arXiv 2106.09685 (LoRA).

# %% cellView="form" tags=["remove-cell"]
# @title Check of what the text claims (for maintainers)
assert ckpt.sample_rate == mine.sample_rate and mine.info["training"]["step"] == steps
assert set(fitted.own_categories) <= set(fitted.categories) and len(heard) >= len(fitted.own_categories)
