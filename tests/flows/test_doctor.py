"""``winnow doctor`` says what is there, what will score, and how to mend what is missing."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from curation.scoring.engines import choose_engine
from flows import doctor
from tests.flows.winnow_process import winnow_here
from tests.real_data import shared


def test_it_says_what_is_installed_and_what_will_score() -> None:
    done = winnow_here("doctor")
    assert done.returncode == 0, done.stdout
    lines = {line[:28].removeprefix("ok").strip(): line[28:].strip() for line in done.stdout.splitlines()}
    assert lines["torch"] == torch.__version__
    assert lines["duckdb ducklake"] == "installed"
    assert re.search(r"^note +engine vllm-server +needs the URL", done.stdout, re.MULTILINE)
    assert lines["will score with"].startswith(f"{choose_engine(None)} (")


def test_the_version_is_that_of_the_package() -> None:
    assert winnow_here("--version").stdout == f"winnow {version('winnow-curation')}\n"


@pytest.mark.vllm
def test_engines_are_timed_and_auto_takes_the_faster_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = winnow_here("doctor", "--bench", shared("models/tiny-en"))
    assert done.returncode == 0, done.stderr
    rates = {name: int(rate.replace(",", "")) for name, rate in re.findall(r"^(\S+) +([\d,]+)$", done.stdout, re.M)}
    assert rates.keys() == {"transformers", "vllm"}
    fastest = max(rates, key=rates.__getitem__)
    assert choose_engine("auto") == fastest
    assert f"auto takes {fastest}: measured here" in done.stdout


def test_what_is_missing_comes_with_its_mend_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("torch", "a-package-that-is-not-there"))
    monkeypatch.setattr(doctor, "_EXTENSIONS", ("ducklake", "no_such_extension"))
    done = winnow_here("doctor")
    assert done.returncode == 1
    assert "missing a-package-that-is-not-there not installed" in " ".join(done.stdout.split())
    assert "To mend a-package-that-is-not-there: pip install --editable ." in done.stdout
    assert "pip install duckdb-extension-no-such-extension==" in done.stdout
