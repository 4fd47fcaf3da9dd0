"""The whole exception tree.

SetwiseError
├── BadDescriptionError           building.toml, points.toml, service.toml, baseline.toml, evaluation.toml
│   ├── UnknownKeyError           a key nobody reads, with a did-you-mean
│   ├── AlreadyAdoptedError       setwise adopt into a folder that holds a building
│   └── UnknownNameError          a name that is in no signature, space or table
├── BadSeriesError                a frame or an array that is not what a signature asks for
│   ├── MissingColumnError
│   ├── GapError
│   ├── NotFiniteError
│   ├── IrregularTimeError
│   └── ShapeError
├── UnknownUnitError
├── OutsideBoundsError
│   └── OutsideTrainingBoundsError
├── SetpointsCrossError           heating setpoint less than 1 K under the cooling setpoint
├── SimulationError               the engine did not do what was asked
│   ├── BadWeatherFileError
│   ├── BadEpjsonError            a misspelt field or a dangling name, found before the engine sees it
│   ├── FailedRunError
│   └── DeadKnobError
├── BadDatasetError
├── BadCheckpointError            a training checkpoint that cannot be continued
├── BadBundleError
│   ├── BundleChecksumError
│   ├── BundleSchemaError
│   └── BundleSignatureError      no signature, or not one of the configured key
├── TooFewDataError               a calibration without enough good hours
├── CalibrationRefusedError
├── BadReadingError               one MQTT message that is not a reading; `reason` is what ingest counts
├── StoreError
│   └── NewerStoreError           a restore that would overwrite something newer than the backup
├── BrokerError
├── WeatherServiceError          a weather service that gives no forecast
├── NotAuthorisedError            no token, or one that is wrong, expired or revoked
│   ├── RoleTooLowError           a good token that may not do this
│   └── TooManyAttemptsError      too many wrong tokens from one address
├── OverrideRefusedError          an override that cannot be
├── KeyReusedError                an idempotency key that stood for another request
├── ApiError                      what a service answered to service/client.py instead of what was asked
├── ServiceFailedError            the service of a demo or a test did not do what was asked
├── NoAnswerError                 a what-if question that nobody could answer: too many ask, or what answers broke
├── JobOverlapError
└── MissingExtraError             a verb of the program whose libraries are not installed

Every error is a noun phrase made from facts: keyword arguments that stay attributes of the exception, and a sentence that
says what was found, what the limit is and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class SetwiseError(Exception):
    """Something setwise refuses. The facts are attributes; the sentence is `str(error)`."""

    sentence: ClassVar[str] = "{reason}"

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        super().__init__(self.sentence.format(**facts))

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(name)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions cross process borders in campaigns and jobs; keyword arguments need this to survive pickling.
        return (_rebuild, (type(self), self.facts))


def _rebuild(kind: type[SetwiseError], facts: dict[str, Any]) -> SetwiseError:
    return kind(**facts)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or the list of known names when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f" Did you mean '{near[0]}'?"
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f" Known: {shown}."


class BadDescriptionError(SetwiseError):
    sentence = "{file}: {reason}"


class UnknownKeyError(BadDescriptionError):
    sentence = "{file}: nobody reads the key '{key}' in [{section}].{hint}"


class AlreadyAdoptedError(BadDescriptionError):
    sentence = "{folder}: there is a building already, perhaps corrected by hand. Choose another folder, or move that one away."


class UnknownNameError(BadDescriptionError):
    sentence = "'{name}' is not a {kind} of {owner}.{hint}"


class BadSeriesError(SetwiseError):
    sentence = "{what}: {reason}"


class MissingColumnError(BadSeriesError):
    sentence = "{what} lacks {n_missing} of the {n_wanted} columns asked for: {missing}. Give them, or drop what needs them."


class GapError(BadSeriesError):
    sentence = "{what} has a gap of {gap_h:g} h in '{column}' from {start} on; at most {limit_h:g} h can be bridged."


class NotFiniteError(BadSeriesError):
    sentence = (
        "{what} has {n_bad} values that are not numbers in '{column}', the first at {where}. Fill or leave out those hours."
    )


class IrregularTimeError(BadSeriesError):
    sentence = "{what} must have a UTC index that rises in steps of {step_min:g} min; at {where} it does not ({reason})."


class ShapeError(BadSeriesError):
    sentence = "{what} has shape {shape}; wanted {wanted}."


class UnknownUnitError(SetwiseError):
    sentence = "'{unit}' is not a unit of {quantity}. Known: {known}."


class OutsideBoundsError(SetwiseError):
    sentence = "{variable} = {value:g} {unit} lies outside {low:g} .. {high:g} {unit}."


class OutsideTrainingBoundsError(OutsideBoundsError):
    sentence = (
        "{variable} = {value:g} {unit} lies outside {low:g} .. {high:g} {unit}, the range the bundle was trained on; "
        "its answer would be a guess. Bring the value inside, or train a bundle that covers it."
    )


class SetpointsCrossError(SetwiseError):
    sentence = (
        "at {where} the heating setpoint is {heating:g} degC and the cooling setpoint {cooling:g} degC; "
        "heating must stay at least {deadband:g} K under cooling."
    )


class SimulationError(SetwiseError):
    sentence = "{reason}"


class BadWeatherFileError(SimulationError):
    sentence = "{file}: {reason}"


class BadEpjsonError(SimulationError):
    sentence = "{file}: {object_type} '{object_name}': {reason}{hint}"


class FailedRunError(SimulationError):
    sentence = "the simulation failed ({reason}). The engine said: {engine}"


class DeadKnobError(SimulationError):
    sentence = (
        "{n_dead} knobs move no output: {dead}. Take them out of building.toml and evaluation.toml: calibration cannot find "
        "them, and the search would play with them. If one should act, its place in the model is not what the knob table says."
    )


class BadDatasetError(SetwiseError):
    sentence = "{path}: {reason}"


class BadCheckpointError(SetwiseError):
    sentence = "{path}: {reason} Delete it to start anew."


class BadBundleError(SetwiseError):
    sentence = "{path}: {reason}"


class BundleChecksumError(BadBundleError):
    sentence = (
        "{path}: sha256 of '{file}' is {found}, but bundle.json says {wanted}. The file is damaged or was changed; "
        "copy the bundle again."
    )


class BundleSchemaError(BadBundleError):
    sentence = "{path}: bundle schema version {found}, this setwise reads {wanted}. Use a matching setwise or export again."


class BundleSignatureError(BadBundleError):
    sentence = "{path}: {reason} Take the bundle again from whoever signed it, or put back the previous one: setwise rollback."


class TooFewDataError(SetwiseError):
    sentence = "{what}: {found:g} good hours, at least {wanted:g} are needed. {hint}"


class CalibrationRefusedError(SetwiseError):
    sentence = "calibration refused: {reason}. The last accepted calibration stays in force."


class BadReadingError(SetwiseError):
    sentence = "reading refused ({reason}) on '{topic}': {detail}"


class StoreError(SetwiseError):
    sentence = "store {url}: {reason}"


class NewerStoreError(StoreError):
    sentence = (
        "store {url}: it holds something of {newest}, the backup {file} ends at {until}. Make a backup of it first; "
        "with --force it is overwritten."
    )


class BrokerError(SetwiseError):
    sentence = "broker {host}:{port}: {reason}"


class WeatherServiceError(SetwiseError):
    sentence = "weather service {host}: {reason}. Plans go on with the last forecast, then with what the site's own sensors said."


class NotAuthorisedError(SetwiseError):
    sentence = "not authorised: {reason}"


class RoleTooLowError(NotAuthorisedError):
    sentence = "'{who}' is {role}; this asks for {wanted}."


class TooManyAttemptsError(NotAuthorisedError):
    sentence = "{n} wrong tokens came from {address}; the next is looked at in {wait_s} s."


class OverrideRefusedError(SetwiseError):
    sentence = "override refused: {reason}"


class KeyReusedError(SetwiseError):
    sentence = "the idempotency key '{key}' stood for another request ({former}). Take a new key for each new request."


class ServiceFailedError(SetwiseError):
    sentence = "the service: {reason}"


class ApiError(SetwiseError):
    sentence = "{url} ({code}): {message} {what_to_do}"


class JobOverlapError(SetwiseError):
    sentence = "a {kind} job is already running since {since}; one at a time per kind."


class NoAnswerError(SetwiseError):
    sentence = "no answer: {reason}"


class MissingExtraError(SetwiseError):
    sentence = "'setwise {verb}' needs {missing}, which this installation lacks. Install it with: pip install 'setwise[{extra}]'"
