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
# At the end you will have heard your folder twice: at once, from a model that was fitted to it, and
# after a training. You can turn the training up and down, and have the model as a file.
#
# **Time and hardware:** about four minutes on any computer. Fine-tuning a published model needs a
# graphics card, such as Colab's free T4, and an hour or more.

# %% [markdown]
# What you will do:
#
# - choose a folder of sounds, and hear some of them;
# - hear at once what the built-in model makes of it;
# - train the model, and listen meanwhile;
# - compare before and after, with the same seeds;
# - blend the two;
# - check that nothing was copied;
# - take the model with you, and continue tomorrow;
# - last of all, train a network that knows nothing.
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
# of those with a pitch; then it makes a few sounds and corrects what they lack. For each kind: the
# model before, where it knows a category of that name, and after, with the same seed.

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
# opens. Training learns more of the fine structure, and works with every model.

# %% [markdown]
# ## Choose a model, and check the folder
#
# - `start`: the model to train. `drums` is the built-in one. Others are published models (886 MB each,
#   for a graphics card), or the path of your own.

# %% cellView="form"
# @title The model to start from
start = "drums"  # @param ["drums", "glitch-440k", "maestro-150k", "honk-140k"] {allow-input: true}

# %% [markdown]
# Before you spend time, check the folder: what is in it, what to look at, which files
# cannot be used and why, and how long to train. This also tries a few training steps and
# estimates how long training will take on this machine.

# %%
ckpt = ddnb.load(start, dtype="float32", on_progress=widgets.Progress("downloading"))
ddnb.check_dataset(folder, ckpt)

# %% [markdown]
# These are suggestions: a clipped kick may be just what you want. But sounds that begin late teach
# silence, and near copies are memorised first. Fix the folder, and run the cell again. Twelve sounds
# are few, as it says: for a model of your own collect 50 or more.

# %% [markdown]
# ## Train
#
# - `steps`: number of training steps. The demonstration takes fewer than the check suggests.
# - `seed`: fixes everything random in training.
# - `learn_kinds`: learn the names of the subfolders as categories.
# - `learning_rate`: the size of a step. 0: the usual rate.
# - `lora_rank`: 0 trains all weights. 16 trains small additions instead, with less memory and smaller
#   saved states. The result is an ordinary model.
# - `batch_size`: sounds per step. 0: as many as fit.
# - `recompute`: for published models, save most of the memory by computing part of each step twice.
#
# With a published model on a T4 try `lora_rank` 16 and `recompute` first.

# %% cellView="form"
# @title Settings
steps = 300  # @param {type:"integer"}
seed = 0  # @param {type:"integer"}
learn_kinds = True  # @param {type:"boolean"}
learning_rate = 0.0  # @param {type:"number"}
lora_rank = 0  # @param {type:"integer"}
batch_size = 0  # @param {type:"integer"}
recompute = False  # @param {type:"boolean"}

# %% [markdown]
# The training runs in the background: go on with the next cell meanwhile. The *Stop* button saves the
# run, and **running the same cell again resumes it.** On Colab the cell itself trains, and the stop
# button is the cell's own. After a crash it continues from the last save.

# %%
settings = {"steps": steps, "seed": seed, "categories": None if learn_kinds else False}
settings |= {"learning_rate": learning_rate or None, "batch_size": batch_size or None}
settings |= {"lora_rank": lora_rank or None, "recompute_levels": 4 if recompute else 0}
training = widgets.train(ckpt, folder, run, **settings)

# %% [markdown]
# Meanwhile, four more sounds of the fitted model, of one kind. They take a little longer than usual, as
# the training uses the processor, too.

# %%
kind = fitted.own_categories[0]
widgets.player(ddnb.generate(fitted, 4, 10, category=kind), [f"{kind}, fitted, seed {n}" for n in range(10, 14)])

# %% [markdown]
# The next cell waits for the end of the training, and then draws its curve. The last step takes longer
# than the others: the levels of each kind are corrected once more.

# %%
training.wait()
widgets.curve(run)

# %% [markdown]
# The blue line is the error on the sounds it trains on. It jumps, as each step sees other sounds with
# other amounts of noise. The orange points are the error on a few sounds that are held out, always
# measured in the same way: trust those.
#
# - Both fall: continue.
# - Orange is flat or rises while blue falls: it begins to memorise your sounds. The best
#   step is circled, and its model is saved.
# - A jump upwards that stays: the learning rate was too high; begin a new run with a lower one.

# %% [markdown]
# ## Before and after
#
# The curve cannot hear. Each row below is one kind with one seed: the model as it came, fitted, and
# trained. The run's result is `last.safetensors`, an ordinary model: its folder is enough to load it, here
# and in all other notebooks.

# %%
mine = ddnb.load(run)
models = {"fitted": fitted, "trained": mine} if start == "drums" else {"trained": mine}
pairs = [(kind, name) for kind in mine.own_categories[:3] or [None] for name in models]
after = [ddnb.generate(models[name], 1, 1, category=kind)[0] for kind, name in pairs]
widgets.player(after, [f"{kind or 'any'}, {name}" for kind, name in pairs])

# %% [markdown]
# The differences are small where the fit was already close: transients, the sound of a tail, how its
# partials beat. During the training the run made the same sounds from the same seeds as well; with
# longer runs the rows below show how they changed. When to stop? When you no longer hear a
# difference between two rows, or when the sounds become copies of yours.

# %%
widgets.demos(run)

# %% [markdown]
# ## Blend
#
# A blend lies between the model you started from and the trained one: 0 is the start, 1 the result, and up to
# 1.2 exaggerates the difference. Around 0.7 is often a good compromise between the variety of
# the one and the character of the other. The same seed at four weights:

# %%
weights = [0, 0.4, 0.8, 1.2]
kind = mine.own_categories[0] if mine.categories else None
blends = [ddnb.blend(ckpt, mine, weight) for weight in weights]
blended = [ddnb.generate(model, 1, 1, category=kind)[0] for model in blends]
widgets.player(blended, [f"{kind or 'any'}, weight {weight}" for weight in weights])

# %% [markdown]
# Several trainings of the same start can be mixed: `ddnb.blend(drums, [mine, hers], [0.6, 0.4])`. In the
# Studio the weight is a slider. `category={"kick": 2, "snare": 1}` mixes categories instead, and
# `guidance_scale=2` exaggerates what makes a category different.

# %% [markdown]
# ## Did it copy?
#
# A network that is trained for long on few sounds memorises them. The originality check looks for
# the nearest of your sounds to each new one, regardless of level, and shows the two side by side.
# What counts as near depends on how similar the sounds in your folder are to one another.

# %%
ddnb.originality(after, folder)

# %% [markdown]
# "No near copy found in this folder" is all it can say: it compares with these sounds only. After a
# long training run it again; if copies appear, use a blend of less, or an earlier of the run's `best-step`
# files.

# %% [markdown]
# ## Take it with you
#
# The sounds you like go into a pack for your music program. The model is one file, which every notebook and
# command of this project opens. A published model that was trained can also be written for the original Dance Diffusion
# code and the tools around it, at half the size.

# %%
pack = ddnb.pack(after, f"{run}.zip")
files_made = [pack, Path(run) / "last.safetensors"]
if mine.default_sampler == "iplms":  # a network of the published kind
    exported = Path(f"{run}-step{steps}_{mine.sample_rate}_{mine.frames}.ckpt")
    files_made.append(ddnb.convert(files_made[-1], exported, dtype="float16"))
for file in files_made:
    print(Path(file).resolve(), f"{Path(file).stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# On Colab this hands the files to your browser. Elsewhere they are where the lines above say, on Drive
# if `run` is there.

# %%
if runtime.in_colab():
    from google.colab import files

    for file in files_made:
        files.download(str(file))

# %% [markdown]
# ## Continue tomorrow
#
# Close everything, come back, and run the notebook with the same folders and settings: the training
# cell continues where it stopped, bit for bit on a CPU. To train longer than planned, raise `steps` and
# nothing else.
#
# On Colab a session ends after some hours, and its files are lost. If `run` is on Drive, at most
# the last twentieth of the run is lost, or ten minutes. Have you changed your sounds? That is another run: choose a
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
# ## From scratch
#
# To see what training is, start with a network that knows nothing. This one is tiny: it learns sounds of a
# quarter of a second at 8000 Hz, and only their rough shape. **Expect dull thumps and hiss, not
# music.** A model that you start from has already spent days on what this one lacks.

# %% cellView="form"
# @title Steps from scratch
scratch_steps = 800  # @param {type:"integer"}

# %% [markdown]
# This training runs in the cell itself. The bar shows how long it takes.

# %%
from ddnb.training import from_scratch

tiny = from_scratch("demo", sample_rate=8000, frames=2048)
tiny_settings = {
    "steps": scratch_steps,
    "learning_rate": 2e-3,
    "batch_size": 2,
    "demo_every": max(1, scratch_steps // 2),
}
for _ in widgets.follow(ddnb.finetune(tiny, EXAMPLES, f"{run}-scratch", **tiny_settings)):
    pass

# %% [markdown]
# Each column starts from the same noise, each row is a later step. Start with the pictures: where does a
# flat block of noise begin to fade out, as a drum does? Then play a column from top to bottom.

# %%
widgets.demos(f"{run}-scratch")

# %% [markdown]
# The first row is hiss, as loud at its end as at its beginning. The last row begins with a low, dull
# thump and fades by some 10 dB; hiss remains, and a click at the very end, where the network is least
# sure. The kinds hardly differ yet. That is what a tiny network learns from twelve sounds in a minute.

# %% [markdown]
# ## Try this
#
# Each changes one thing. Give `run` a new name each time, and say what you expect before you listen.
#
# 1. Raise `steps` to 1000. What changes between the rows of the demos, and what does not?
# 2. Put ten sounds of one kind into a folder, your own voice perhaps, and fit and train on those. What does
#    it pick up first?
# 3. Stop the training in its first third and listen to `ddnb.load(run)`. Then continue.
# 4. Blend with weights of two runs, from two folders, that add up to 1.

# %% [markdown]
# ## If something goes wrong
#
# - **The folder does not exist**, or nothing in it can be used: a typing error in `sounds`, or no sound files.
# - **The run in ... began with ...**: a setting has changed. Give the old one to continue, or
#   another `run`.
# - **is in use by another process**: stop the notebook that has the same `run` open.
# - **Nothing changes**: raise `learning_rate` fivefold, then `steps`; or blend with 1.2.
# - **Out of memory**: set `batch_size` to 1, `lora_rank` to 16, tick `recompute`; *Restart*.
# - **The loss is nan**: begin a new `run` with half the `learning_rate`.
# - **No space left**: free some, and run the cell again.

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
assert mine.info["training"]["step"] == steps and ckpt.sample_rate == mine.sample_rate
assert set(fitted.own_categories) <= set(fitted.categories) and len(heard) >= len(fitted.own_categories)
assert kind not in ckpt.categories or (blended[0].audio == ddnb.generate(ckpt, 1, 1, category=kind)[0].audio).all()
assert Path(pack).is_file() and {clip.seed for clip in after} == {1}
