"""The exceptions of ddnb, in one tree.

    DdnbError                  catch this for everything below
    ├── ArgumentError          an argument out of its range, an unknown name, or two that contradict each other
    ├── AudioError             input audio that cannot be read, is empty, silent or not finite
    ├── CheckpointError        a checkpoint that cannot be found, downloaded, read or trusted
    ├── RecordError            a provenance record or a pack manifest that is damaged or incomplete
    ├── DatasetError           a folder of sounds that cannot be trained on or compared with
    ├── RunError               a training run that cannot be started or resumed
    └── Cancelled              the caller's ``cancel`` event was set

All but ``Cancelled`` also derive from ``ValueError`` or ``RuntimeError``. A missing file raises ``FileNotFoundError``,
a file that exists already ``FileExistsError``, a full disk ``OSError``, too little memory ``MemoryError``, and values
that are not finite ``FloatingPointError``.
"""

from __future__ import annotations


class DdnbError(Exception):
    """The base of all exceptions that ddnb defines; its message says what to do."""


class ArgumentError(DdnbError, ValueError):
    """An argument out of its range, an unknown name, or arguments that contradict each other."""


class AudioError(DdnbError, ValueError):
    """Input audio that cannot be read, is empty, silent or not finite."""


class CheckpointError(DdnbError, RuntimeError):
    """A checkpoint that cannot be found, downloaded, read or trusted."""


class RecordError(DdnbError, ValueError):
    """A provenance record or a pack manifest that is damaged or incomplete."""


class DatasetError(DdnbError, ValueError):
    """A folder of sounds that cannot be trained on or compared with."""


class RunError(DdnbError, ValueError):
    """A training run that cannot be started or resumed."""


class Cancelled(DdnbError):
    """The caller's ``cancel`` event was set before the work was complete."""


class Interrupted(UserWarning):
    """Work was interrupted by the user; what is finished is returned."""


class PartialResult(UserWarning):
    """Work stopped early by an error; what is finished is returned."""


class FormatOverridden(UserWarning):
    """A checkpoint states another sample rate or length than the caller, whose word counts."""
