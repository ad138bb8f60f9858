"""Optuna's samplers by name; the only file that knows Optuna."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pcgraph.errors import Fault, FieldPath, InputError, SpecError, closest
from pcgraph.study.file import Study
from pcgraph.study.search import LESS, Search
from pcgraph.study.space import Values

if TYPE_CHECKING:
    import optuna

PATH: FieldPath = ("search", "sampler")
Draw = Callable[[Any], Values]


class Sampler:
    """What proposes values, and is told what came of them; the same calls give the same proposals.

    Args:
        study: The file; it has a section ``search``.
        draw: Takes the values of a proposal from a trial of Optuna.

    Raises:
        InputError: Optuna is not installed.
        SpecError: There is no such sampler or option, or it cannot be used for such a search.
    """

    def __init__(self, study: Study, draw: Draw) -> None:
        self._study, self._draw = study, draw
        self.exhausted = False
        self._begin()
        (_, trial), (_, failed) = self.ask(), self.ask()  # to know at once whether it can be used
        self.tell(trial, [0.0] * len(self._search.objectives))
        self.tell(failed, None)
        self.ask()
        self._begin()

    @property
    def _search(self) -> Search:
        assert self._study.search is not None
        return self._study.search

    def _begin(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        kinds = optuna.study.StudyDirection
        directions = [kinds.MINIMIZE if one in LESS else kinds.MAXIMIZE for one in self._search.objectives]
        self.exhausted = False
        self._asked = optuna.create_study(directions=directions, sampler=self._made())

    def _made(self) -> optuna.samplers.BaseSampler:
        given = self._search.sampler
        name, options = (given, {}) if isinstance(given, str) else next(iter(given.items()))
        kinds = _kinds()
        if name not in kinds:
            raise self._refused(f"Optuna has no sampler {name!r}", hint=closest(name, kinds))
        known = inspect.signature(kinds[name]).parameters
        for option in options:
            if option == "seed" or option not in known:
                hint = "Write 'search: {seed: ...}'." if option == "seed" else closest(option, known)
                raise self._refused(f"'{option}' is no option of {name}", option, hint=hint)
        seed = {"seed": self._search.seed} if "seed" in known else {}
        made: optuna.samplers.BaseSampler = self._tried(lambda: kinds[name](**options, **seed))
        return made

    def ask(self) -> tuple[Values, optuna.Trial]:
        """The next proposal, and what to tell its result with."""

        def draw() -> tuple[Values, optuna.Trial]:
            trial = self._asked.ask()
            return self._draw(trial), trial

        found: tuple[Values, optuna.Trial] = self._tried(draw)
        return found

    def tell(
        self, trial: optuna.Trial, values: Sequence[float] | None, *, early: float | None = None
    ) -> None:
        """What came of a proposal: its objectives; or, as it was pruned, its first accuracy; or nothing."""
        import optuna

        state = optuna.trial.TrialState.COMPLETE
        if values is None:
            state = optuna.trial.TrialState.FAIL if early is None else optuna.trial.TrialState.PRUNED
        if early is not None and len(self._search.objectives) == 1:
            trial.report(early, 0)
        try:
            self._tried(lambda: self._asked.tell(trial, values, state))
        except _ExhaustedError:
            self.exhausted = True

    def _tried(self, work: Callable[[], Any]) -> Any:
        """Do what foreign code does with options of the file."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return work()
        except ImportError as error:
            hint = f"pip install {error.name}" if error.name else ""
            raise self._refused(f"this sampler needs a package: {error}", hint=hint) from None
        except Exception as error:  # whatever a sampler raises on options and spaces that it cannot use
            if "Study.stop" in str(error):  # no proposals are left, for those that know
                raise _ExhaustedError from None
            raise self._refused(f"this sampler cannot be used here: {error}") from None

    def _refused(self, message: str, *path: str, hint: str = "") -> SpecError:
        name = self._search.sampler
        below = (next(iter(name)), *path) if isinstance(name, dict) else ()
        return SpecError(self._study.located(Fault(" ".join(message.split()), (*PATH, *below), hint)))


class _ExhaustedError(Exception):
    """No proposals are left."""


def _kinds() -> dict[str, Any]:
    """All samplers that propose by themselves, by name."""
    try:
        from optuna import samplers
    except ImportError:
        hint = "pip install 'pcgraph[study]'"
        raise InputError(Fault("a search needs optuna, which is not installed", hint=hint)) from None
    found = {name: getattr(samplers, name) for name in samplers.__all__ if name.endswith("Sampler")}
    return {name: kind for name, kind in found.items() if not inspect.isabstract(kind)}
