"""The tabs of the Studio: the controls of each and the call they make."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import ipywidgets
from traitlets import TraitError

from ..audio.loop import BPM
from ..audio.notes import read_pitch
from ..checkpoints.checkpoint import Checkpoint
from ..clips.clip import Clip
from ..errors import ArgumentError
from ..generation.beat import Beat, beat, list_patterns
from ..generation.extend import extend
from ..generation.generate import generate
from ..generation.inpaint import inpaint
from ..generation.interpolate import interpolate
from ..generation.length import MAX_DURATION_S
from ..generation.options import FILLING_STEPS
from ..generation.vary import vary
from .jobs import FITTING
from .region import Region
from .sources import SoundPicker

ANY = "any"
MOST_CLIPS = 16
LARGEST_SEED = 2**31 - 1
_TEMPOS = (80, 90, 100, 110, 120, 124, 128, 132, 140, 160, 174)

Made = list[Clip] | Beat
Work = Callable[..., Made]


class Tab(ipywidgets.VBox):
    """Hold controls named after the arguments they set, and the call they make.

    Attributes:
        controls: name -> control.
        hints: name -> help text.
        pickers: name in the state -> picker of an input sound.
    """

    title = ""
    usual_steps: int | None = None  # where it is not that of the network

    def __init__(self, *above: ipywidgets.Widget, pickers: Mapping[str, SoundPicker] | None = None):
        self.pickers = dict(pickers or {})
        self.controls: dict[str, ipywidgets.Widget] = {}
        self.hints: dict[str, str] = {}
        self._category: str | None = None  # from a loaded state, until its checkpoint is loaded
        self._above = list(above)
        super().__init__()

    def add(self, name: str, hint: str, control: ipywidgets.Widget) -> None:
        """Add a control with its tooltip, whose trait has different names in ipywidgets 7 and 8."""
        setattr(control, "tooltip" if control.has_trait("tooltip") else "description_tooltip", hint)
        control.style.description_width = "110px"
        control.layout.width, control.layout.max_width = "310px", FITTING
        self.controls[name], self.hints[name] = control, hint

    def lay_out(self) -> None:
        """Show the controls, side by side where there is room."""
        self.defaults = {name: control.value for name, control in self.controls.items() if name != "seed"}
        box = ipywidgets.Box(list(self.controls.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.children = [*self._above, box]

    def adapt_to(self, ckpt: Checkpoint) -> None:
        """Offer the categories and options of a checkpoint."""
        if "category" in self.controls:
            control, wanted = self.controls["category"], self._category or self.controls["category"].value
            control.options = [ANY, *ckpt.categories]
            control.value = wanted if wanted in control.options else ANY
            self._category = None if wanted in control.options else self._category
            control.disabled = not ckpt.categories
        if "steps" in self.controls:
            control, before = self.controls["steps"], self.defaults["steps"]
            self.defaults["steps"] = self.usual_steps or ckpt.default_steps
            control.value = self.defaults["steps"] if control.value == before else control.value
        for name, known in (("guidance_scale", ckpt.categories), ("note", ckpt.tonal_categories)):
            if name in self.controls:
                self.controls[name].disabled = not known

    def work(self) -> Work:
        """Return a function of the checkpoint, ``on_step`` and ``cancel``; the controls are read at once."""
        raise NotImplementedError

    def surprise(self, chance: random.Random) -> None:
        """Choose random settings."""
        if "category" in self.controls:
            self.controls["category"].value = chance.choice(self.controls["category"].options)
            self.controls["note"].value = ""
        if "seed" in self.controls:
            self.controls["seed"].value = chance.randrange(LARGEST_SEED)

    def seeds(self) -> tuple[int, int] | None:
        """Return the first seed and the one after the last; None in a tab without seeds."""
        if "seed" not in self.controls:
            return None
        first = self.controls["seed"].value
        return first, (first + (self.controls["n"].value if "n" in self.controls else 1)) % LARGEST_SEED

    def advance_seed(self, seeds: tuple[int, int] | None) -> None:
        """Advance to unused seeds, unless the user typed another seed meanwhile."""
        if seeds and self.controls["seed"].value == seeds[0]:
            self.controls["seed"].value = seeds[1]

    @property
    def state(self) -> dict[str, Any]:
        """The settings as a JSON-ready dictionary."""
        return self._read_state()

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._apply_state(state)

    def _read_state(self) -> dict[str, Any]:
        values = {name: control.value for name, control in self.controls.items()}
        return values | {name: picker.state for name, picker in self.pickers.items()}

    def _apply_state(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            if name in self.pickers:
                self.pickers[name].state = value
            elif name == "category" and name in self.controls and value not in self.controls[name].options:
                self._category = value
            elif name in self.controls:
                self._set(name, value)

    def _set(self, name: str, value: Any) -> None:
        try:
            self.controls[name].value = value
        except TraitError as error:
            raise ArgumentError(f"{self.title}: {name}={value!r} is invalid: {error}") from error

    def _value(self, *names: str) -> dict[str, Any]:
        return {name: self.controls[name].value for name in names}

    def _options(self) -> dict[str, Any]:
        """Return the options that all functions take."""
        options = self._value("steps")
        if (category := self.controls["category"].value) != ANY:
            options |= {"category": category}
            options |= self._value("guidance_scale") if self.controls["guidance_scale"].value != 1 else {}
        return options | read_pitch(self.controls["note"].value)

    def _add_shared(self, category: str = ANY, n: int = 4, seed: bool = True) -> None:
        self.add(
            "category",
            "What kind of sound to make; 'any' leaves it to chance. Only for checkpoints with categories.",
            ipywidgets.Dropdown(options=[category], description="category"),
        )
        hint = "A note (A1, F#2, 55 Hz) or a key (A minor), for categories with a pitch; empty: each seed draws one."
        self.add("note", hint, ipywidgets.Text("", placeholder="A1, or A minor", description="note or key"))
        self.add("n", "How many sounds to make.", ipywidgets.IntSlider(n, 1, MOST_CLIPS, description="how many"))
        if seed:
            self.add(
                "seed",
                "Seed of the noise: the same seed gives the same sounds again.",
                ipywidgets.BoundedIntText(0, 0, LARGEST_SEED, description="seed"),
            )
        self.add(
            "steps",
            "Number of sampling steps: few are fast and rough, many slow and clean.",
            ipywidgets.IntSlider(25, 1, 100, description="steps"),
        )
        self.add(
            "guidance_scale",
            "Guidance scale: 1 follows the category as trained, 2 more strongly, 0 ignores it.",
            ipywidgets.FloatSlider(1.0, min=0.0, max=3.0, step=0.1, description="guidance"),
        )


class Generate(Tab):
    title = "Generate"

    def __init__(self) -> None:
        super().__init__()
        self._add_shared("kick")
        self.add(
            "duration_s",
            "Length in seconds; 0 uses the training length of the model.",
            ipywidgets.BoundedFloatText(0.0, min=0.0, max=MAX_DURATION_S, step=0.1, description="seconds"),
        )
        self.add(
            "width",
            "Stereo width: 0 keeps the sound mono, 1 makes it very wide.",
            ipywidgets.FloatSlider(0.0, min=0.0, max=1.0, step=0.05, description="stereo width"),
        )
        self.lay_out()

    def adapt_to(self, ckpt: Checkpoint) -> None:
        super().adapt_to(ckpt)
        self.controls["width"].disabled = ckpt.channels != 1

    def work(self) -> Work:
        given = self._options() | self._value("n", "seed")
        given["duration_s"] = self.controls["duration_s"].value or None
        if not self.controls["width"].disabled:
            given |= self._value("width")
        return lambda ckpt, **job: list(generate(ckpt, **given, **job))


class Vary(Tab):
    title = "Vary"

    def __init__(self, guard: Callable[..., Any]):
        self.picker = SoundPicker("vary this", lambda source: None, guard)
        super().__init__(self.picker, pickers={"sound": self.picker})
        self.add(
            "strength",
            "Strength of the change: 0 keeps the sound, 0.3 changes details, 0.5 the timbre, 1 ignores the sound.",
            ipywidgets.FloatSlider(0.5, min=0.0, max=1.0, step=0.05, description="strength"),
        )
        self._add_shared()
        match = ipywidgets.Checkbox(False, description="match level")
        self.add("match_level", "Match the level of the variations to the sound.", match)
        self.lay_out()

    def work(self) -> Work:
        chosen = self.picker.chosen()
        given = self._options() | self._value("strength", "n", "seed", "match_level")

        def work(ckpt: Checkpoint, **job: Any) -> list[Clip]:
            sound = chosen(ckpt)
            return list(vary(ckpt, sound, **tempo_of(sound), **given, **job))

        return work

    def surprise(self, chance: random.Random) -> None:
        super().surprise(chance)
        self.controls["strength"].value = chance.choice((0.3, 0.4, 0.5, 0.6, 0.7))


class Interpolate(Tab):
    title = "Interpolate"

    def __init__(self, guard: Callable[..., Any]):
        self.a, self.b = (SoundPicker(name, lambda source: None, guard) for name in ("A", "B"))
        super().__init__(self.a, self.b, pickers={"a": self.a, "b": self.b})
        self._add_shared(n=8, seed=False)
        self.add(
            "depth",
            "Noise level to blend at: 1 blends most, less keeps more of both sounds.",
            ipywidgets.FloatSlider(1.0, min=0.05, max=1.0, step=0.05, description="depth"),
        )
        self.controls["n"].min = 2
        self.lay_out()

    def work(self) -> Work:
        a, b = self.a.chosen(), self.b.chosen()
        given = self._options() | self._value("n", "depth")
        return lambda ckpt, **job: list(interpolate(ckpt, a(ckpt), b(ckpt), **given, **job))


class Inpaint(Tab):
    title, usual_steps = "Inpaint / extend", FILLING_STEPS
    WAYS = ("fill the region", "extend the end", "extend the start")
    FORMER_WAYS = {  # noqa: RUF012 in states saved by version 0.1
        "fill the stretch": "fill the region",
        "go on at the end": "extend the end",
        "begin earlier": "extend the start",
    }

    def __init__(self, guard: Callable[..., Any]):
        self.region = Region()
        self.picker = SoundPicker("this sound", self.region.show, guard)
        self.way = ipywidgets.ToggleButtons(options=self.WAYS)
        super().__init__(self.picker, self.way, self.region, pickers={"sound": self.picker})
        self._add_shared()
        self.add(
            "duration_s",
            "Seconds to add when extending.",
            ipywidgets.BoundedFloatText(1.0, min=0.05, max=MAX_DURATION_S, step=0.1, description="seconds to add"),
        )
        self.way.observe(lambda _: self._update(), "value")
        self.lay_out()
        self._update()

    def work(self) -> Work:
        chosen = self.picker.chosen()
        given = self._options() | self._value("n", "seed")
        (first, last), more_s = self.region.value, self.controls["duration_s"].value
        fill, backwards = self.way.value == self.WAYS[0], self.way.value == self.WAYS[2]

        def work(ckpt: Checkpoint, **job: Any) -> list[Clip]:
            sound = chosen(ckpt)
            if fill:
                return list(inpaint(ckpt, sound, first, last, loop=sound.loop, **given, **job))
            duration_s = sound.duration_s + more_s
            return list(extend(ckpt, sound, duration_s, backwards=backwards, **given, **job))

        return work

    def _update(self) -> None:
        fill = self.way.value == self.WAYS[0]
        self.controls["duration_s"].disabled = fill
        self.region.slider.disabled = not fill

    def _read_state(self) -> dict[str, Any]:
        return super()._read_state() | {"way": self.way.value, "region": list(self.region.value)}

    def _apply_state(self, state: Mapping[str, Any]) -> None:
        super()._apply_state(state)
        way = state.get("way", self.way.value)
        way = self.FORMER_WAYS.get(way, way)
        if way not in self.WAYS:
            raise ArgumentError(f"{self.title}: way={way!r}; allowed: {', '.join(self.WAYS)}.")
        self.way.value = way
        if "region" in state:
            self.region.value = tuple(state["region"])


class Loop(Tab):
    title = "Loop"

    def __init__(self) -> None:
        super().__init__()
        self.add(
            "bpm",
            "Tempo in beats per minute; the loop lasts exactly its bars.",
            ipywidgets.BoundedFloatText(128.0, min=BPM[0], max=BPM[1], step=1, description="BPM"),
        )
        self.add("bars", "Bars of four beats.", ipywidgets.BoundedIntText(2, min=1, max=64, description="bars"))
        self._add_shared("texture")
        start = ipywidgets.Checkbox(False, description="start on onset")
        self.add("start_on_onset", "Rotate each loop so that it starts on its strongest onset.", start)
        self.lay_out()

    def work(self) -> Work:
        given = self._options() | self._value("bpm", "bars", "n", "seed", "start_on_onset")
        return lambda ckpt, **job: list(generate(ckpt, loop=True, **given, **job))

    def surprise(self, chance: random.Random) -> None:
        super().surprise(chance)
        self.controls["bpm"].value = chance.choice(_TEMPOS)


class BeatTab(Tab):
    title = "Beat"

    def __init__(self) -> None:
        super().__init__()
        patterns = list_patterns()
        self.groove: dict[str, Any] | None = None  # once its steps were edited
        rhythm = ipywidgets.Dropdown(options=list(patterns), value="house", description="pattern")
        self.add("pattern", "Rhythm of the beat; click its steps afterwards to edit it.", rhythm)
        self.add(
            "bpm",
            "Tempo in beats per minute; choosing a pattern sets its own.",
            ipywidgets.BoundedFloatText(124.0, min=BPM[0], max=BPM[1], step=1, description="BPM"),
        )
        self.add("bars", "Bars of four beats.", ipywidgets.BoundedIntText(2, min=1, max=64, description="bars"))
        self.add(
            "seed",
            "Seed of the noise: the same seed gives the same sounds again.",
            ipywidgets.BoundedIntText(0, 0, LARGEST_SEED, description="seed"),
        )
        self.add("steps", "Number of sampling steps.", ipywidgets.IntSlider(25, 1, 100, description="steps"))
        self.controls["pattern"].observe(lambda change: self._update(change["new"]), "value")
        self.lay_out()

    def work(self) -> Work:
        given = self._value("bpm", "bars", "seed", "steps")
        pattern = self.groove or self.controls["pattern"].value
        return lambda ckpt, **job: beat(ckpt, pattern, **given, **job)

    def surprise(self, chance: random.Random) -> None:
        super().surprise(chance)
        self.controls["pattern"].value = chance.choice(self.controls["pattern"].options)

    def _update(self, pattern: str) -> None:
        self.groove = None
        self.controls["bpm"].value = list_patterns()[pattern]["bpm"]

    def _read_state(self) -> dict[str, Any]:
        return super()._read_state() | ({"groove": self.groove} if self.groove else {})

    def _apply_state(self, state: Mapping[str, Any]) -> None:
        # the pattern first: it sets its own tempo
        super()._apply_state({"pattern": state.get("pattern", self.controls["pattern"].value), **state})
        self.groove = dict(state["groove"]) if isinstance(state.get("groove"), Mapping) else None

    def take(self, beat: Beat) -> None:
        """Store a beat whose steps, tempo or swing were edited."""
        self.groove = {"tracks": dict(beat.tracks), "swing": beat.swing}
        self._set("bpm", beat.bpm)


def tempo_of(clip: Clip) -> dict[str, Any]:
    """Return loop and tempo of a clip as options of ``vary``."""
    tempo = asdict(clip.tempo) if clip.tempo else {}
    return ({"loop": True} if clip.loop else {}) | tempo
