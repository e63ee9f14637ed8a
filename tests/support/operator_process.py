# SPDX-License-Identifier: Apache-2.0
"""The operator as a process on this machine, in place of the one in the cluster, killed with no time to say goodbye.

It has the rights of its own ServiceAccount, so RBAC is real, and the settings of the Deployment.
tests/e2e/building/test_killed_at_each_write.py runs it behind a `CuttingProxy`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecache_operator
import yaml

from .kube import NAMESPACE, OPERATOR, Kube, until

CODE = Path(imagecache_operator.__file__).parents[1]
DEPLOYMENT = "imagecache-operator"
ACCOUNT = "imagecache-operator"


@dataclass(frozen=True)
class OperatorProcess:
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """It ends by being killed, never by itself."""
        if (code := self.process.poll()) is not None:
            raise AssertionError(f"the operator has ended by itself, with code {code}; its log is in {self.log}")


@dataclass(frozen=True)
class Installed:
    """What a process needs to be the operator: found in the cluster, where `install` has put it."""

    token: str
    environment: Mapping[str, str]

    @classmethod
    def of(cls, kube: Kube) -> Installed:
        found: Any = kube.get("deployment", DEPLOYMENT)
        variables = found["spec"]["template"]["spec"]["containers"][0]["env"]
        return cls(
            token=kube.cluster.kubectl("-n", NAMESPACE, "create", "token", ACCOUNT).strip(),
            # The only one without a value is the namespace, which a Pod learns from itself.
            environment={v["name"]: v.get("value", NAMESPACE) for v in variables},
        )

    @contextmanager
    def running(self, server: str, folder: Path, log: Path, **settings: str) -> Iterator[OperatorProcess]:
        """The operator, with `server` for its API server, until the block ends, by SIGKILL. Its words go to `log`."""
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": server}}],
            "users": [{"name": "it", "user": {"token": self.token}}],
        }))
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "imagecache_operator", "controller", "--no-liveness", "--metrics-port", "0"],
                # Nothing of this process' own environment: a proxy named there would come between. But the same code,
                # whichever working tree is installed.
                env={
                    "PATH": os.defpath, "PYTHONPATH": str(CODE), "KUBECONFIG": str(kubeconfig), **self.environment,
                    **settings,
                },
                stdout=output, stderr=output, cwd=folder,
            )
        try:
            yield OperatorProcess(process, log)
        finally:
            process.kill()
            process.wait()


@contextmanager
def nobody_in_the_cluster(kube: Kube) -> Iterator[None]:
    """The cluster's own operator rests: ImageCaches have no namespace, so it would look after every one."""
    _scale(kube, 0)
    try:
        yield
    finally:
        _scale(kube, 1)
        kube.cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{DEPLOYMENT}", "--timeout=120s")


def _scale(kube: Kube, replicas: int) -> None:
    kube.cluster.kubectl("-n", NAMESPACE, "scale", f"deployment/{DEPLOYMENT}", f"--replicas={replicas}")
    until(
        lambda: len(kube.list("pods", OPERATOR)) == replicas, f"{replicas} operator Pods are there", 60,
        lambda: str([p["metadata"]["name"] for p in kube.list("pods", OPERATOR)]),
    )
