"""The tabs of the Studio: which controls each has, and which call they come to."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ipywidgets
from traitlets import TraitError

from ..audio.loop import BPM
from ..checkpoints.checkpoint import Checkpoint
from ..clips.clip import Clip
from ..generation.beat import Beat, beat, list_patterns
from ..generation.extend import extend
from ..generation.generate import generate
from ..generation.inpaint import inpaint
from ..generation.interpolate import interpolate
from ..generation.length import MAX_DURATION_S
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
    """Controls, by the names of the arguments that they stand for, and the work they ask for.

    Attributes:
        controls: name -> control.
        hints: name -> what it does, in plain words.
    """

    title = ""

    def __init__(self, *above: ipywidgets.Widget):
        self.controls: dict[str, ipywidgets.Widget] = {}
        self.hints: dict[str, str] = {}
        self._category: str | None = None  # asked for by a state, of a network that is not there yet
        self._above = list(above)
        super().__init__()

    def add(self, name: str, hint: str, control: ipywidgets.Widget) -> None:
        """Add a control with its tooltip; the trait is called differently in ipywidgets 7 and 8."""
        setattr(control, "tooltip" if control.has_trait("tooltip") else "description_tooltip", hint)
        control.style.description_width = "110px"
        control.layout.width, control.layout.max_width = "310px", FITTING
        self.controls[name], self.hints[name] = control, hint

    def lay_out(self) -> None:
        """Show the controls, side by side where there is room."""
        self.defaults = {name: control.value for name, control in self.controls.items() if name != "seed"}
        box = ipywidgets.Box(list(self.controls.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.children = [*self._above, box]

    def know(self, ckpt: Checkpoint) -> None:
        """Offer what this checkpoint can do."""
        if "category" in self.controls:
            control, wanted = self.controls["category"], self._category or self.controls["category"].value
            control.options = [ANY, *ckpt.categories]
            control.value = wanted if wanted in control.options else ANY
            self._category = None if wanted in control.options else self._category
            control.disabled = not ckpt.categories
        if "guidance_scale" in self.controls:
            self.controls["guidance_scale"].disabled = not ckpt.categories

    def work(self) -> Work:
        """Return a function of the checkpoint, ``on_step`` and ``cancel``; the controls are read now, not later."""
        raise NotImplementedError

    def surprise(self, chance: random.Random) -> None:
        """Turn the knobs at random."""
        if "category" in self.controls:
            self.controls["category"].value = chance.choice(self.controls["category"].options)
        if "seed" in self.controls:
            self.controls["seed"].value = chance.randrange(LARGEST_SEED)

    def seeds(self) -> tuple[int, int] | None:
        """The first seed, and the one after the last; none without seeds."""
        if "seed" not in self.controls:
            return None
        first = self.controls["seed"].value
        return first, (first + (self.controls["n"].value if "n" in self.controls else 1)) % LARGEST_SEED

    def go_on(self, seeds: tuple[int, int] | None) -> None:
        """Go on to seeds that were not used yet, unless another one was typed meanwhile."""
        if seeds and self.controls["seed"].value == seeds[0]:
            self.controls["seed"].value = seeds[1]

    @property
    def state(self) -> dict[str, Any]:
        return {name: control.value for name, control in self.controls.items()}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            if name == "category" and value not in self.controls[name].options:
                self._category = value
            elif name in self.controls:
                self._set(name, value)

    def _set(self, name: str, value: Any) -> None:
        try:
            self.controls[name].value = value
        except TraitError as error:
            raise ValueError(f"{self.title}: {name}={value!r} does not fit: {error}") from error

    def _value(self, *names: str) -> dict[str, Any]:
        return {name: self.controls[name].value for name in names}

    def _options(self) -> dict[str, Any]:
        """What all verbs take."""
        options = self._value("steps")
        category = self.controls["category"].value
        if category != ANY:
            scale = self.controls["guidance_scale"].value
            options |= {"category": category} | ({"guidance_scale": scale} if scale != 1 else {})
        return options

    def _add_shared(self, category: str = ANY, n: int = 4, seed: bool = True) -> None:
        self.add(
            "category",
            "What kind of sound to make; 'any' leaves it to chance. Only for networks that have learned kinds.",
            ipywidgets.Dropdown(options=[category], description="category"),
        )
        self.add("n", "How many sounds to make.", ipywidgets.IntSlider(n, 1, MOST_CLIPS, description="how many"))
        if seed:
            self.add(
                "seed",
                "The number that picks the sounds: the same number gives the same sounds again.",
                ipywidgets.BoundedIntText(0, 0, LARGEST_SEED, description="seed"),
            )
        self.add(
            "steps",
            "How often the network is asked: few steps are fast and rough, many slow and clean.",
            ipywidgets.IntSlider(25, 1, 100, description="steps"),
        )
        self.add(
            "guidance_scale",
            "How strongly to follow the category: 1 as learned, 2 more typical, 0 not at all.",
            ipywidgets.FloatSlider(1.0, min=0.0, max=3.0, step=0.1, description="guidance"),
        )


class Generate(Tab):
    title = "Generate"

    def __init__(self):
        super().__init__()
        self._add_shared("kick")
        self.add(
            "duration_s",
            "Length in seconds; 0 makes sounds as long as those the network learned from.",
            ipywidgets.BoundedFloatText(0.0, min=0.0, max=MAX_DURATION_S, step=0.1, description="seconds"),
        )
        self.add(
            "width",
            "How wide: 0 keeps the channels as the network makes them, 1 makes a mono sound very wide.",
            ipywidgets.FloatSlider(0.0, min=0.0, max=1.0, step=0.05, description="stereo width"),
        )
        self.lay_out()

    def know(self, ckpt: Checkpoint) -> None:
        super().know(ckpt)
        self.controls["width"].disabled = ckpt.channels != 1

    def work(self) -> Work:
        given = self._options() | self._value("n", "seed")
        given["duration_s"] = self.controls["duration_s"].value or None
        if not self.controls["width"].disabled:
            given |= self._value("width")
        return lambda ckpt, **job: list(generate(ckpt, **given, **job))


class Vary(Tab):
    title = "Vary"

    def __init__(self, guarded: Callable[..., Any]):
        self.picker = SoundPicker("vary this", lambda source: None, guarded)
        super().__init__(self.picker)
        self.add(
            "strength",
            "How far away: 0 is the sound itself, 0.3 changes details, 0.5 the timbre, 1 has forgotten it.",
            ipywidgets.FloatSlider(0.5, min=0.0, max=1.0, step=0.05, description="strength"),
        )
        self._add_shared()
        self.add(
            "match_level",
            "Make the variations as loud as the sound.",
            ipywidgets.Checkbox(False, description="as loud as the sound"),
        )
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

    @property
    def state(self) -> dict[str, Any]:
        return Tab.state.fget(self) | {"sound": self.picker.state}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        Tab.state.fset(self, state)
        if "sound" in state:
            self.picker.state = state["sound"]


class Interpolate(Tab):
    title = "Interpolate"

    def __init__(self, guarded: Callable[..., Any]):
        self.a, self.b = (SoundPicker(name, lambda source: None, guarded) for name in ("A", "B"))
        super().__init__(self.a, self.b)
        self._add_shared(n=8, seed=False)
        self.add(
            "depth",
            "How far towards noise to go: 1 mixes the most, less keeps more of both sounds.",
            ipywidgets.FloatSlider(1.0, min=0.05, max=1.0, step=0.05, description="depth"),
        )
        self.controls["n"].min = 2
        self.lay_out()

    def work(self) -> Work:
        a, b = self.a.chosen(), self.b.chosen()
        given = self._options() | self._value("n", "depth")
        return lambda ckpt, **job: list(interpolate(ckpt, a(ckpt), b(ckpt), **given, **job))

    @property
    def state(self) -> dict[str, Any]:
        return Tab.state.fget(self) | {"a": self.a.state, "b": self.b.state}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        Tab.state.fset(self, state)
        for name, picker in (("a", self.a), ("b", self.b)):
            if name in state:
                picker.state = state[name]


class Inpaint(Tab):
    title = "Inpaint / extend"
    WAYS = ("fill the stretch", "go on at the end", "begin earlier")

    def __init__(self, guarded: Callable[..., Any]):
        self.region = Region()
        self.picker = SoundPicker("this sound", self.region.show, guarded)
        self.way = ipywidgets.ToggleButtons(options=self.WAYS)
        super().__init__(self.picker, self.way, self.region)
        self._add_shared()
        self.add(
            "duration_s",
            "How many seconds to add, where the sound is made longer.",
            ipywidgets.BoundedFloatText(1.0, min=0.05, max=MAX_DURATION_S, step=0.1, description="seconds to add"),
        )
        self.way.observe(lambda _: self._turn(), "value")
        self.lay_out()
        self._turn()

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

    def _turn(self) -> None:
        fill = self.way.value == self.WAYS[0]
        self.controls["duration_s"].disabled = fill
        self.region.slider.disabled = not fill

    @property
    def state(self) -> dict[str, Any]:
        mine = {"way": self.way.value, "sound": self.picker.state, "region": list(self.region.value)}
        return Tab.state.fget(self) | mine

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        Tab.state.fset(self, state)
        if state.get("way", self.way.value) not in self.WAYS:
            raise ValueError(f"{self.title}: way={state['way']!r} does not fit: it is one of {', '.join(self.WAYS)}.")
        self.way.value = state.get("way", self.way.value)
        if "sound" in state:
            self.picker.state = state["sound"]
        if "region" in state:
            self.region.value = tuple(state["region"])


class Loop(Tab):
    title = "Loop"

    def __init__(self):
        super().__init__()
        self.add(
            "bpm",
            "Tempo in beats per minute: the loop lasts exactly its bars.",
            ipywidgets.BoundedFloatText(128.0, min=BPM[0], max=BPM[1], step=1, description="BPM"),
        )
        self.add("bars", "Bars of four beats.", ipywidgets.BoundedIntText(2, min=1, max=64, description="bars"))
        self._add_shared("texture")
        self.add(
            "start_on_onset",
            "Turn each loop so that it begins on its strongest hit.",
            ipywidgets.Checkbox(False, description="begin on a hit"),
        )
        self.lay_out()

    def work(self) -> Work:
        given = self._options() | self._value("bpm", "bars", "n", "seed", "start_on_onset")
        return lambda ckpt, **job: list(generate(ckpt, loop=True, **given, **job))

    def surprise(self, chance: random.Random) -> None:
        super().surprise(chance)
        self.controls["bpm"].value = chance.choice(_TEMPOS)


class BeatTab(Tab):
    title = "Beat"

    def __init__(self):
        super().__init__()
        patterns = list_patterns()
        self.groove: dict[str, Any] | None = None  # once its steps were clicked
        self.add(
            "pattern",
            "Where the hits are; afterwards each step can be clicked.",
            ipywidgets.Dropdown(options=list(patterns), value="house", description="pattern"),
        )
        self.add(
            "bpm",
            "Tempo in beats per minute; the pattern's own is set when you choose one.",
            ipywidgets.BoundedFloatText(124.0, min=BPM[0], max=BPM[1], step=1, description="BPM"),
        )
        self.add("bars", "Bars of four beats.", ipywidgets.BoundedIntText(2, min=1, max=64, description="bars"))
        self.add(
            "seed",
            "The number that picks the sounds: the same number gives the same sounds again.",
            ipywidgets.BoundedIntText(0, 0, LARGEST_SEED, description="seed"),
        )
        self.add("steps", "How often the network is asked.", ipywidgets.IntSlider(25, 1, 100, description="steps"))
        self.controls["pattern"].observe(lambda change: self._turn(change["new"]), "value")
        self.lay_out()

    def work(self) -> Work:
        given = self._value("bpm", "bars", "seed", "steps")
        pattern = self.groove or self.controls["pattern"].value
        return lambda ckpt, **job: beat(ckpt, pattern, **given, **job)

    def surprise(self, chance: random.Random) -> None:
        super().surprise(chance)
        self.controls["pattern"].value = chance.choice(self.controls["pattern"].options)

    def _turn(self, pattern: str) -> None:
        self.groove = None
        self.controls["bpm"].value = list_patterns()[pattern]["bpm"]

    @property
    def state(self) -> dict[str, Any]:
        return Tab.state.fget(self) | ({"groove": self.groove} if self.groove else {})

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        # the pattern first: it brings its tempo along
        Tab.state.fset(self, {"pattern": state.get("pattern", self.controls["pattern"].value), **state})
        self.groove = dict(state["groove"]) if isinstance(state.get("groove"), Mapping) else None

    def take(self, beat: Beat) -> None:
        """Remember a beat whose steps, tempo or swing were changed."""
        self.groove = {"tracks": dict(beat.tracks), "swing": beat.swing}
        self._set("bpm", beat.bpm)


def tempo_of(clip: Clip) -> dict[str, Any]:
    """Loop and tempo of a clip, as options of ``vary``."""
    making = clip.settings.get("making", {})
    tempo = {name: making[name] for name in ("bpm", "bars", "beats_per_bar") if name in making}
    return ({"loop": True} if clip.loop else {}) | tempo


def help_html(tabs: Iterable[Tab]) -> str:
    """What every control does, to be read: a tooltip wants a mouse."""
    lines = []
    for tab in tabs:
        items = "".join(f"<li><b>{tab.controls[name].description}</b>: {hint}</li>" for name, hint in tab.hints.items())
        lines.append(f"<b>{tab.title}</b><ul>{items}</ul>")
    return "".join(lines)
