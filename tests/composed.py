"""docker-compose.yml without a container engine: its image in a folder, its services as processes.

The Dockerfile is carried out in a folder that stands for `/`, with an environment of its own for `pip`. A
service gets that folder, the volumes it names, and only the variables that the file gives it; what
differs from a container is the value of a variable that names another container, and the prefix of paths.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def interpolated(value: Any) -> Any:
    """The file's values as compose hands them on: defaults for variables, `$$` as `$`."""
    if isinstance(value, dict):
        return {key: interpolated(one) for key, one in value.items()}
    if isinstance(value, list):
        return [interpolated(one) for one in value]
    return _VARIABLE.sub(r"\2", value).replace("$$", "$") if isinstance(value, str) else value


class Image:
    """What the inline Dockerfile makes."""

    def __init__(self, folder: Path, dockerfile: str) -> None:
        self.root = folder / "image"
        self.venv = folder / "venv"
        self.env: dict[str, str] = {}
        self.workdir = "/"
        self.user = "root"
        self.done: list[str] = []
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.venv], check=True)
        pip = self.venv / "bin" / "pip"
        # An environment that uv has made holds no pip.
        own = f'"{sys.executable}" -m pip' if importlib.util.find_spec("pip") else "uv pip"
        python = f'--python "{self.venv}/bin/python"'
        # Each wants the option at another place.
        line = f'uv pip "$@" {python}' if own == "uv pip" else f'{own} {python} "$@"'
        pip.write_text(f"#!/bin/sh\nexec {line}\n")
        pip.chmod(0o755)
        for line in dockerfile.splitlines():
            if line.strip() and not line.startswith("#"):
                self._do(*line.split(None, 1))

    def place(self, path: str) -> Path:
        """Where an absolute path of the image is."""
        return self.root / path.lstrip("/")

    def _do(self, instruction: str, rest: str) -> None:
        self.done.append(instruction)
        if instruction == "ENV":
            self.env |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif instruction == "WORKDIR":
            self.workdir = rest
            self.place(rest).mkdir(parents=True)
        elif instruction == "COPY":
            *sources, target = rest.split()
            for source in sources:
                self._copy(ROOT / source, target)
        elif instruction == "RUN":
            for command in rest.split(" && "):
                self._run(shlex.split(command))
        elif instruction == "USER":
            self.user = rest
        else:
            assert instruction == "FROM", f"{instruction} is not understood here"

    def _copy(self, source: Path, target: str) -> None:
        into = self.place(self.workdir) / target
        if source.is_dir():
            # As .dockerignore says.
            shutil.copytree(source, into, ignore=shutil.ignore_patterns("__pycache__", ".plet"))
        else:
            shutil.copy(source, into / source.name)

    def _run(self, argv: list[str]) -> None:
        if argv[0] == "useradd":
            return  # the test's own user stands for it
        if argv[0] == "install":
            assert argv[argv.index("-m") + 1] == "700"
            for path in argv:
                if path.startswith("/"):
                    self.place(path).mkdir(mode=0o700)
            return
        assert argv[0] == "pip", argv
        # Downloads again what is in the cache: the only variable that is left out.
        env = os.environ | {k: v for k, v in self.env.items() if k != "PIP_NO_CACHE_DIR"}
        env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        done = subprocess.run(
            [self.venv / "bin" / "pip", *argv[1:], "--quiet"],
            cwd=self.place(self.workdir), env=env, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


class Service:
    """One service as a process."""

    def __init__(
        self, name: str, spec: dict[str, Any], image: Image, folder: Path, env: dict[str, str]
    ) -> None:
        self.name = name
        self.spec = spec
        self._image = image
        self.root = folder / name
        self.root.mkdir()
        self._mount(folder)
        self.env = {**image.env, **{key: self._here(str(value)) for key, value in env.items()}}
        self.env |= {"PATH": f"{image.venv}/bin:/usr/bin:/bin", "HOME": str(self.root)}
        self.env["HOSTNAME"] = socket.gethostname()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run the service's own command."""
        self.process = self._popen(shlex.split(self.spec["command"]), (self.root / "said").open("wb"))

    def run(self, *argv: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """`docker compose exec`: another command beside it."""
        return subprocess.run(
            [self._here(one) for one in argv], cwd=self._image.place(self._image.workdir), env=self.env,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def is_healthy(self) -> bool:
        """Run the service's own health check."""
        assert self.process is not None
        assert self.process.poll() is None, self.said
        kind, *argv = self.spec["healthcheck"]["test"]
        return self.run(*(["sh", "-c", *argv] if kind == "CMD-SHELL" else argv)).returncode == 0

    def wait(self, timeout: float = 120.0) -> int:
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self) -> int:
        """TERM, and as long as `stop_grace_period` says, at least a minute; then the exit code is -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        grace = int(str(self.spec.get("stop_grace_period", "10s")).removesuffix("s"))
        try:
            return self.process.wait(max(grace, 60))
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End the process and what it has started."""
        if self.process is None or self.process.poll() is not None:
            return 0
        os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()

    @property
    def said(self) -> str:
        return (self.root / "said").read_text(errors="replace")

    def _popen(self, argv: list[str], output: Any) -> subprocess.Popen[bytes]:
        with output:
            return subprocess.Popen(
                [self._here(one) for one in argv], cwd=self._image.place(self._image.workdir), env=self.env,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def _mount(self, folder: Path) -> None:
        mounts = [one.split(":", 1) for one in self.spec.get("volumes", [])]
        for volume, path in sorted(mounts, key=lambda mount: len(mount[1])):
            source = folder / "volumes" / volume
            if not source.exists():
                # As a new volume: with the mode of the image's own folder.
                source.mkdir(parents=True)
                source.chmod(self._image.place(path).stat().st_mode & 0o777)
            target = self.root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)
        # What is no volume is the container's own layer.
        for layer in ("srv/plet",):
            if not (self.root / layer).exists():
                shutil.copytree(self._image.root / layer, self.root / layer)

    def _here(self, value: str) -> str:
        """The same value with the container's path as it is on this machine."""
        return re.sub(r"(?<![\w/.])/srv/plet\b", str(self.root / "srv" / "plet"), value)


def compose_file() -> dict[str, Any]:
    """docker-compose.yml, its variables set to their defaults."""
    found: dict[str, Any] = interpolated(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
    return found
