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
# # The Studio
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/studio.ipynb)
#
# At the end you will have a pack of your own sounds: drums, loops and beats at your tempo, as files
# that your DAW understands.
#
# **Time and hardware:** as long as you like; the first four sounds take some seconds on any computer.
# The published models need a graphics card, such as Colab's free T4.

# %% [markdown] tags=["notebook"]
# What you will do:
#
# - make sounds, and listen to many of them quickly;
# - keep the good ones, vary them, turn one into another, fill or extend them;
# - make loops of exact bars and tempo, and beats;
# - export a pack;
# - bring sounds of your own.
#
# Everything here is also one call in a cell: the other notebooks show how. Start with the set-up.

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

# %% [markdown] tags=["notebook"]
# ## Settings
#
# - `checkpoint`: the model to start with. `drums` is built in; you can load another one later.
# - `folder`: where packs go.
# - `use_drive`: on Colab, keep packs in the folder `ddnb` of your Google Drive. Other files on Colab are lost
#   when the session ends.

# %% cellView="form"
# @title Settings
checkpoint = "drums"  # @param ["drums", "glitch-440k", "maestro-150k", "honk-140k"] {allow-input: true}
folder = "sounds"  # @param {type:"string"}
use_drive = False  # @param {type:"boolean"}

# %% [markdown]
# ## The panel
#
# It starts with four kicks. Press a pad, or its key, to play a sound; tick *keep* below the good
# ones; press *vary this* for variations. Each tab makes sounds in another way, *Surprise me* picks
# random settings, and *Keepers* exports a pack: one zip file, with folders, tempo and loop points
# for your DAW, and a list from which every sound can be made again.

# %%
from IPython.display import display

from ddnb import runtime, widgets

if use_drive and runtime.in_colab():
    folder = widgets.drive_folder()
panel = widgets.studio(checkpoint, folder)
display(panel)
panel.make()

# %% [markdown] tags=["notebook"]
# *Cancel* stops after the current step and keeps the finished sounds. On Colab, use the stop button of
# the cell instead.

# %% [markdown] tags=["notebook"]
# ## Sounds of your own
#
# In JupyterLab, type the path of a sound or of a folder into *vary this*, or upload a file. On Colab,
# set `bring` and run the next cell: it asks for a file, or records from your microphone for
# `seconds`, and puts the sound into the panel. Allow the microphone when the browser asks. Elsewhere
# the cell does nothing.

# %% cellView="form"
# @title Bring a sound (Colab)
bring = "nothing"  # @param ["nothing", "a file", "a recording"]
seconds = 4  # @param {type:"slider", min:1, max:30, step:1}

# %% [markdown] tags=["notebook"]
# The sound appears in the tabs *Vary*, *Interpolate* and *Inpaint / extend*.

# %% tags=["notebook"]
if runtime.in_colab() and bring == "a file":
    panel.use_sound(widgets.upload()[0])
if runtime.in_colab() and bring == "a recording":
    panel.use_sound(widgets.record_microphone(seconds=seconds))

# %% [markdown] tags=["notebook"]
# ## Download your pack
#
# In JupyterLab a link appears below *Export a pack*, and the file is in the folder shown
# there. On Colab, run the next cell after an export: your browser asks whether to save the pack.
# Unpack it and drag its folder into your DAW.

# %% tags=["notebook"]
if runtime.in_colab() and panel.packs:
    widgets.download(panel.packs[-1])
print(*panel.packs or ["no pack yet"], sep="\n")

# %% [markdown] tags=["notebook"]
# The panel and your cells share everything: `panel.kept` are the sounds that you keep,
# `panel.results` those on the screen, `panel.ckpt` the network, `panel.state` the settings.

# %% tags=["notebook"]
print(*(clip.name for clip in panel.results), sep="\n")

# %% [markdown]
# ## Try this
#
# Each changes one thing. Say what you expect before you listen.
#
# 1. Keep a kick, press *use as A*; make a cymbal, press *use as B*; open *Interpolate*. Where does the
#    kick end?
# 2. In *Vary*, make four sounds with strength 0.2, then with 0.8.
# 3. In *Inpaint / extend*, drag over the attack of a snare and fill it four times.

# %% [markdown]
# ## If something goes wrong
#
# - **A red message, or no result:** messages are below the Cancel button; *show where* unfolds
#   what a maintainer needs.
# - **The panel is gone after a restart:** run the cells again. *Settings as text* at the bottom brings
#   your settings back, if you have copied or saved them.
# - **An upload is refused:** it is too large for the browser's connection. Put the file into a folder
#   and type its path.

# %% [markdown]
# ## Credits, licence, sources
#
# Dance Diffusion is by Zach Evans and Harmonai. `drums` and the code are part of this project, under
# the MIT licence; published models have their own licences, which every pack repeats. The layout of
# the pads is that of drum machines; `smpl` and `acid` chunks follow the published WAV conventions.
