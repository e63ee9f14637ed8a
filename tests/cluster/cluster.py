# SPDX-License-Identifier: Apache-2.0
"""A running cluster, as tests and the demo use it. `up` returns one; nothing here creates or deletes clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .engine import Engine

LABEL = "imagecache-operator.cluster"  # marks containers that `down` removes together with the cluster


@dataclass(frozen=True)
class Cluster:
    name: str
    kubernetes: str  # the version that runs
    engine: Engine
    folder: Path

    @property
    def provider(self) -> str:
        """ "docker" or "own-engine"."""
        return self.engine.provider

    @property
    def network(self) -> str:
        """The Docker network of its nodes and of what runs beside them. Its own, so that `registry.test` is one per
        cluster."""
        return f"kind-{self.name}"

    @property
    def host_address(self) -> str:
        """Where the host reaches the ports that `run_container` publishes."""
        return self.engine.host_address

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log, one JSON object a line. Rotated at 100 MB, two old files beside it."""
        return self.folder / "audit" / "audit.log"

    @property
    def nodes(self) -> list[str]:
        """The nodes, which are also their containers' names. Pods can be scheduled on all of them."""
        return [f"{self.name}-control-plane", f"{self.name}-worker"]

    @property
    def environment(self) -> dict[str, str]:
        """For a shell or a child process: what makes docker, kind and kubectl mean this cluster."""
        return {"KUBECONFIG": str(self.kubeconfig), **self.engine.environment, "PATH": self.engine.path}

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:
        return self.engine.run("kubectl", "--kubeconfig", str(self.kubeconfig), *args, input=input, check=check)

    def build_image(
        self,
        tag: str,
        context: Path,
        dockerfile: Path | None = None,
        build_args: Mapping[str, str] | None = None,
    ) -> None:
        """docker build; no BuildKit features in the Dockerfile, our own engine has none."""
        self.engine.build(tag, context, dockerfile, **(build_args or {}))

    def load_image(self, tag: str) -> None:
        """Copies an image from the engine to all nodes."""
        self.engine.run("kind", "load", "docker-image", tag, "--name", self.name)

    def on_node(self, node: str, script: str) -> str:
        """Runs a bash script on a node."""
        return self.engine.docker("exec", "--interactive", node, "bash", "-eu", input=script)

    def trust_registry(self, host_port: str, ca_pem: str, at: str = "") -> None:
        """Lets all nodes pull from a registry with a certificate of this CA. containerd looks there at each pull.

        `at` is for one that answers under another name than images have: docker.io does.
        """
        folder, url = f"/etc/containerd/certs.d/{host_port}", f"https://{at or host_port}"
        hosts = f'server = "{url}"\n[host."{url}"]\n  ca = "{folder}/ca.crt"\n'
        for node in self.nodes:
            self.on_node(
                node,
                f"mkdir -p {folder}\n"
                f"cat >{folder}/ca.crt <<'END'\n{ca_pem.strip()}\nEND\n"
                f"cat >{folder}/hosts.toml <<'END'\n{hosts}END\n",
            )

    def distrust_registry(self, host_port: str) -> None:
        """Takes `trust_registry` back."""
        for node in self.nodes:
            self.on_node(node, f"rm -rf /etc/containerd/certs.d/{host_port}")

    def run_container(
        self,
        name: str,
        image: str,
        args: Sequence[str] = (),
        alias: str | None = None,
        publish: Mapping[int, int] | None = None,
        volumes: Mapping[Path | str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts a container beside the nodes, in place of one with the same name.

        Nodes and Pods reach it by `name` and `alias`; the host at `host_address`.
        `publish` maps ports of the container to ports of the host, `volumes` host folders to "/path" or "/path:ro".
        """
        self.remove_container(name)
        command = ["run", "--detach", "--name", name, "--network", self.network, "--label", f"{LABEL}={self.name}"]
        if alias is not None:
            command += ["--network-alias", alias]
        for port, host_port in (publish or {}).items():
            command += ["--publish", f"{self.engine.bind_address}:{host_port}:{port}"]
        for folder, path in (volumes or {}).items():
            command += ["--volume", f"{folder}:{path}"]
        for variable, value in (environment or {}).items():
            command += ["--env", f"{variable}={value}"]
        self.engine.docker(*command, image, *args)

    def remove_container(self, name: str) -> None:
        """Also right when there is none."""
        self.engine.docker("rm", "--force", "--volumes", name, check=False)
