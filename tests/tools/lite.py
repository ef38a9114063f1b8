"""Build the kit for a browser alone: JupyterLab, Python as WebAssembly, vfiolab and the notebooks, as files that any web server can serve.

    python tests/tools/lite.py OUT          # OUT is replaced; then: python -m http.server -d OUT

What is needed comes from package indexes (JupyterLite, the wheels of `.ci/lite.txt`, Pyodide by npm); the result asks no other host for
anything. numpy, pandas and matplotlib are not in it, for no index has them for WebAssembly. Needs the extra `site`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from email.parser import Parser
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / ".ci" / "lite.txt"
START = "00-start-here.ipynb"
#: The npm package `pyodide` that JupyterLite's kernel asks for, version and sha256.
PYODIDE = {"314.0.6": "d78ac549b28a2a58600cd06f44e017024151775f8c6b2d73fab1475400d38ea2"}
RUNTIME = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
LOCK = "pyodide-lock.json"
#: JupyterLab's parts that the page needs; whatever else this environment has installed stays out.
EXTENSIONS = ("@jupyter-widgets/jupyterlab-manager", "@jupyterlite/pyodide-kernel-extension")
KERNEL = "@jupyterlite/pyodide-kernel-extension:kernel"
#: What markers of a wheel's requirements are asked on: the Python of Pyodide.
THERE = {"sys_platform": "emscripten", "platform_system": "Emscripten", "os_name": "posix", "platform_python_implementation": "CPython"}
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false", "doNotDisturbMode": True},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # a widget that is scrolled out of sight stays
}
#: The first page leads to notebook 00; JupyterLab reads the settings of the whole site out of it.
PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>vfiolab</title><link rel="icon" href="lab/favicon.ico">
<script id="jupyter-config-data" type="application/json" data-jupyter-lite-root=".">{{}}</script>
<meta http-equiv="refresh" content="0; url=lab/index.html?path={START}"></head>
<body><p><a href="lab/index.html?path={START}">Open notebook 00</a></p></body></html>
"""


def run(*argv: str | Path, cwd: Path = ROOT) -> str:
    """Run a tool; return its complaints. RuntimeError with its words if it fails."""
    # The machine's own Jupyter settings and pip's notices have no part in the site.
    own = os.environ | {"JUPYTER_NO_CONFIG": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([*map(str, argv)], cwd=cwd, env=own, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stderr


def pyodide(folder: Path, version: str) -> dict[str, Any]:
    """Put Pyodide's runtime into `folder`; return its lock. RuntimeError: no npm, or not the package whose sha256 is written here."""
    if version not in PYODIDE:
        raise RuntimeError(
            f"JupyterLite's kernel asks for pyodide {version}: write its sha256 into PYODIDE, which has {', '.join(PYODIDE)}"
        )
    npm = shutil.which("npm", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if npm is None:
        raise RuntimeError("npm is not here: pip install 'vfiolab[site]' brings it")
    with tempfile.TemporaryDirectory() as download:
        run(npm, "pack", f"pyodide@{version}", "--pack-destination", download)
        (packed,) = Path(download).glob("*.tgz")
        if hashlib.sha256(packed.read_bytes()).hexdigest() != PYODIDE[version]:
            raise RuntimeError(f"pyodide {version} is not the package whose sha256 is known")
        with tarfile.open(packed) as archive:
            for name in RUNTIME:
                (folder / name).write_bytes(archive.extractfile(f"package/{name}").read())
            return json.load(archive.extractfile(f"package/{LOCK}"))


def wheels(folder: Path) -> None:
    """Put vfiolab's own wheel, built from this checkout, and the locked wheels of others into `folder`."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    target = ("--only-binary=:all:", "--platform=any", "--python-version=3.14")
    run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", *target, "-d", folder, "-r", WHEELS)


def entries(files: Iterable[Path], python: str) -> dict[str, dict[str, Any]]:
    """Describe wheels as Pyodide's lock does: name, file, sha256, what a cell imports, and which of the others it needs."""
    found = {}
    for file in files:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            (metadata,) = (name for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            facts = Parser().parsestr(archive.read(metadata).decode())
        tops = {name.split("/")[0] for name in names if name.endswith(".py")}
        found[canonicalize_name(facts["Name"])] = {
            "name": canonicalize_name(facts["Name"]),
            "version": facts["Version"],
            "file_name": file.name,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "imports": sorted(top.removesuffix(".py") for top in tops if "." not in top.removesuffix(".py")),
            "depends": [Requirement(text) for text in facts.get_all("Requires-Dist", [])],
            "install_dir": "site",
            "package_type": "package",
            "unvendored_tests": False,
        }
    there = THERE | {"python_version": python.rpartition(".")[0], "python_full_version": python, "extra": ""}
    for entry in found.values():
        needed = {canonicalize_name(need.name) for need in entry["depends"] if need.marker is None or need.marker.evaluate(there)}
        entry["depends"] = sorted(needed & found.keys())
    return dict(sorted(found.items()))


def configure(folder: Path) -> None:
    """Write JupyterLite's own settings: `import vfiolab` works in the first cell, and no other host is asked for anything."""
    labextensions = Path(sys.prefix) / "share" / "jupyter" / "labextensions"
    missing = [name for name in EXTENSIONS if not (labextensions / name).is_dir()]
    if missing:
        raise RuntimeError(f"{', '.join(missing)} is not in {labextensions}: pip install 'vfiolab[site]'")
    page = {
        "appName": "vfiolab",
        "exposeAppInBrowser": True,  # a test, or a learner's console, finds the notebook
        "litePluginSettings": {KERNEL: {"loadPyodideOptions": {"packages": ["ipywidgets", "vfiolab"]}}},
    }
    build = {
        "apps": ["lab"],
        "contents": ["notebooks"],
        "federated_extensions": [str(labextensions / name) for name in EXTENSIONS],
        "ignore_sys_prefix": ["federated_extensions"],
        "no_sourcemaps": True,
        "no_unused_shared_packages": True,
    }
    (folder / "jupyter-lite.json").write_text(json.dumps({"jupyter-lite-schema-version": 0, "jupyter-config-data": page}))
    (folder / "jupyter_lite_config.json").write_text(json.dumps({"LiteBuildConfig": build}))
    (folder / "overrides.json").write_text(json.dumps(SETTINGS))


def build(out: Path) -> None:
    """Build the site into the folder `out`, in the place of what is there. RuntimeError says what is missing."""
    from jupyterlite_pyodide_kernel.constants import PYODIDE_VERSION

    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "source"
        static = source / "static" / "pyodide"
        static.mkdir(parents=True)
        shutil.copytree(ROOT / "notebooks", source / "notebooks", ignore=shutil.ignore_patterns(".*"))
        lock = pyodide(static, PYODIDE_VERSION)
        wheels(static)
        lock["packages"] = entries(static.glob("*.whl"), lock["info"]["python"])
        (static / LOCK).write_text(json.dumps(lock))
        configure(source)
        site = Path(work) / "site"
        run(sys.executable, "-m", "jupyterlite_core", "build", "--lite-dir", source, "--output-dir", site, cwd=source)
        (site / "index.html").write_text(PAGE)
        shutil.copy(site / "lab" / "favicon.ico", site)
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(site, out)


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="the folder to write, which is replaced")
    out = parser.parse_args(argv).out
    build(out.resolve())
    print(f"{out}: {size(out) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
