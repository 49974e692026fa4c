"""Rewrites the two jar lock files; a maintainer runs it after changing a version below, users never do.

Needs Maven on the PATH: `python -m turnstream.local_stack.relock`. Maven resolves the runtime closure, this file only
hashes what Maven verified, so the lock files are the sole trust anchor of later downloads.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from turnstream.local_stack.jars import Jar, lock_file, render_lock

_ROOTS: Final = {
    # Kafka logs through slf4j and leaves the binding to its distribution, so the binding is named here.
    "kafka": ("org.apache.kafka:kafka_2.13:4.3.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"),
    "cassandra": ("org.apache.cassandra:cassandra-all:5.0.8",),
}


def _pom(coordinates: tuple[str, ...]) -> str:
    dependencies = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *coordinate.split(":")
        )
        for coordinate in coordinates
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>lock</groupId><artifactId>lock</artifactId>"
        f"<version>1</version><dependencies>{dependencies}</dependencies></project>"
    )


def _jar_of(repository: Path, file: Path) -> Jar:
    *group, artifact, version, name = file.relative_to(repository).parts
    classifier = name.removeprefix(f"{artifact}-{version}").removesuffix(".jar").removeprefix("-")
    content = file.read_bytes()
    return Jar(".".join(group), artifact, version, classifier, hashlib.sha256(content).hexdigest(), len(content))


def resolve(coordinates: tuple[str, ...]) -> list[Jar]:
    """Return the runtime closure of Maven coordinates (`group:artifact:version`), sorted, hashed.

    Raises `subprocess.CalledProcessError` when Maven fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pom.xml").write_text(_pom(coordinates), encoding="utf-8")
        repository = Path(folder, "jars")
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        layout = [f"-DoutputDirectory={repository}", "-Dmdep.useRepositoryLayout=true"]
        subprocess.run([*command, *layout], cwd=folder, check=True)  # noqa: S603 - constants, no user input
        return sorted(_jar_of(repository, file) for file in repository.rglob("*.jar"))


def main() -> None:
    """Rewrite every lock file beside this module."""
    for name, coordinates in _ROOTS.items():
        lock_file(name).write_text(render_lock(resolve(coordinates)), encoding="utf-8")


if __name__ == "__main__":
    main()
