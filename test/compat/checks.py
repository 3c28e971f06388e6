"""What the scripts share: checks that are told one by one, as JSON lines on standard output, and go on after a failure."""

import contextlib
import json
import traceback
from importlib import metadata

import numpy as np


class Checks:
    """Checks of one client, named with the version of the package it comes from."""

    def __init__(self, client, package=None):
        self._client = client
        self._version = metadata.version(package or client)

    @contextlib.contextmanager
    def __call__(self, what):
        detail = None
        try:
            yield
        except Exception as error:  # whatever a client throws is the finding
            place = traceback.extract_tb(error.__traceback__)[-1]
            detail = f"{type(error).__name__}: {error} (line {place.lineno}: {place.line})"
        line = {"client": self._client, "version": self._version, "what": what, "ok": detail is None, "detail": detail}
        print(json.dumps(line), flush=True)


class each:
    """Collects failures by case, so that one datatype's does not hide the others'."""

    def __init__(self, cases):
        self._cases = cases
        self._failures = []

    def __iter__(self):
        for case in self._cases:
            yield case, self._guard(case)
        if self._failures:
            raise AssertionError("; ".join(self._failures))

    @contextlib.contextmanager
    def _guard(self, case):
        try:
            yield
        except Exception as error:
            self._failures.append(f"{case}: {type(error).__name__}: {error}")


SHAPE = [2, 3]


def _sample():
    integers = {}
    for bits in (8, 16, 32, 64):
        for name, kind in ((f"INT{bits}", f"int{bits}"), (f"UINT{bits}", f"uint{bits}")):
            info = np.iinfo(kind)
            integers[name] = np.array([info.min, info.max, 0, 1, 2, 3], kind)
    floats = {
        name: np.array([0.0, -0.0, 1.5, np.inf, np.finfo(kind).max, np.finfo(kind).tiny], kind)
        for name, kind in (("FP16", "float16"), ("FP32", "float32"), ("FP64", "float64"))
    }
    texts = np.array([b"", b"plain", "Grüße, 世界".encode(), b" spaces ", b"x" * 70_000, b"1"], object)
    flat = {"BOOL": np.array([True, False, False, True, True, False]), **integers, **floats, "BYTES": texts}
    return {datatype: values.reshape(SHAPE) for datatype, values in flat.items()}


# An array [2, 3] of each datatype, with the values at the ends of its range.
SAMPLES = _sample()


def assert_same(actual, expected):
    """Equal in shape, type and every bit."""
    assert actual is not None, "there is no such output"
    assert list(actual.shape) == list(expected.shape), f"shape {actual.shape} instead of {expected.shape}"
    if expected.dtype == np.object_:
        assert actual.tolist() == expected.tolist(), f"{actual.tolist()!r:.200} instead of {expected.tolist()!r:.200}"
        return
    assert actual.dtype == expected.dtype, f"{actual.dtype} instead of {expected.dtype}"
    assert actual.tobytes() == expected.tobytes(), f"{actual} instead of {expected}"


def assert_failed(call, error_class, status, *words):
    """The call raises, with the status and with each of the words in its message. Returns the error."""
    try:
        call()
    except error_class as error:
        assert_error(error, status, *words)
        return error
    raise AssertionError("it did not fail")


def assert_error(error, status, *words):
    told = error.status() if callable(getattr(error, "status", None)) else None
    assert status is None or told == f"StatusCode.{status}", f"status {told} instead of {status}: {error}"
    for word in words:
        assert word in str(error), f"'{word}' is missing in: {error}"
