# SPDX-License-Identifier: Apache-2.0
"""A real Ingress controller (Traefik) on a node, for tests of servers that have host names.

It stands for what an administrator has in a cluster already: a class of Ingresses, an address at which nodes reach it,
names that resolve to that, and a certificate that nodes trust. It listens at its node's own address, port 443. Called
by tests/e2e/starting/test_host_names.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagecache_operator import names

from .kube import NAMESPACE, Kube, Object
from .tls import Authority

SPACE = NAME = CLASS = "e2e-ingress"
TLS_SECRET = "e2e-ingress-tls"
CONTROLLER = "traefik.io/ingress-controller"
_READ = ["get", "list", "watch"]
_MARK = "# of a test"


@dataclass(frozen=True)
class IngressController:
    """It runs, and shows the certificate that Ingresses name by `TLS_SECRET`."""

    kube: Kube
    authority: Authority
    address: str

    @contextmanager
    def known_to_nodes(self, *hosts: str) -> Iterator[None]:
        """The names resolve to it on every node, whose container runtimes trust its certificate."""
        cluster = self.kube.cluster
        lines = "".join(f"{self.address} {host} {_MARK}\n" for host in hosts)
        try:
            for host in hosts:
                cluster.trust_registry(host, self.authority.ca_pem.decode())
            for node in cluster.nodes:
                cluster.on_node(node, f"cat >>/etc/hosts <<'END'\n{lines}END\n")
            yield
        finally:
            for node in cluster.nodes:
                # It is a mount: nothing can take its place, so it is written over.
                cluster.on_node(node, f"left=$(grep -v '{_MARK}$' /etc/hosts)\necho \"$left\" >/etc/hosts\n")
            for host in hosts:
                cluster.distrust_registry(host)

    def asked(self, host: str) -> list[str]:
        """The lines of its access log about that host: the witness of what went through it."""
        return [line for line in self.log().splitlines() if host in line]

    def log(self) -> str:
        return self.kube.cluster.kubectl("-n", SPACE, "logs", NAME)

    def answer(self, host: str, path: str, user: str | None = None) -> str:
        """The status with which a node is answered."""
        who = f"-u '{user}'" if user else ""
        trust = f"--cacert /etc/containerd/certs.d/{host}/ca.crt"
        asked = f"curl -s -m 10 -o /dev/null -w '%{{http_code}}' {who} {trust} 'https://{host}{path}' || true"
        return self.kube.cluster.on_node(self.kube.cluster.nodes[0], asked)


@contextmanager
def running(kube: Kube, image: str, domain: str, authority: Authority, folder: Path) -> Iterator[IngressController]:
    """On the first node, until the block ends. It reads Ingresses, and what they name, in the operator's namespace."""
    cluster, node = kube.cluster, kube.cluster.nodes[0]
    if image not in cluster.on_node(node, "ctr --namespace k8s.io images ls -q"):
        cluster.load_image(image)
    certificate, key = authority.issue([f"*.{domain}"], folder)
    try:
        for manifest in (*_objects(certificate.read_text(), key.read_text()), _pod(image, node)):
            kube.apply(manifest)
        cluster.kubectl("-n", SPACE, "wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=60s")
        found = kube.get("pod", NAME, SPACE)
        if found is None:
            raise AssertionError("the Ingress controller's Pod is gone")
        yield IngressController(kube, authority, found["status"]["hostIP"])
    finally:
        for kind in ("ingressclass", "clusterrole", "clusterrolebinding"):
            kube.delete(kind, NAME)
        for kind in ("role", "rolebinding"):
            kube.delete(kind, NAME)
        kube.delete("secret", TLS_SECRET)
        kube.delete("pod", NAME, SPACE, "--grace-period=0", "--force")  # its port is free for the next one
        cluster.kubectl("delete", "namespace", SPACE, "--wait=false", "--ignore-not-found")


def _objects(certificate: str, key: str) -> list[Object]:
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": SPACE}
    rbac = "rbac.authorization.k8s.io"
    within, everywhere = {"name": NAME, "namespace": NAMESPACE}, {"name": NAME}

    def bound(kind: str, metadata: Object, rules: list[Object]) -> list[Object]:
        role = {"apiGroup": rbac, "kind": kind, "name": NAME}
        return [
            {"apiVersion": f"{rbac}/v1", "kind": kind, "metadata": metadata, "rules": rules},
            {
                "apiVersion": f"{rbac}/v1", "kind": f"{kind}Binding", "metadata": metadata, "roleRef": role,
                "subjects": [subject],
            },
        ]

    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": SPACE}},
        *bound("Role", within, [
            {"apiGroups": [""], "resources": ["services", "secrets"], "verbs": _READ},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
            {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": _READ},
            {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses/status"], "verbs": ["update"]},
        ]),
        *bound("ClusterRole", everywhere, [
            {"apiGroups": [""], "resources": ["nodes"], "verbs": _READ},
            {"apiGroups": ["networking.k8s.io"], "resources": ["ingressclasses"], "verbs": _READ},
        ]),
        {
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": everywhere,
            "spec": {"controller": CONTROLLER},
        },
        {
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": TLS_SECRET, "namespace": NAMESPACE},
            "stringData": {"tls.crt": certificate, "tls.key": key},
        },
    ]


def _pod(image: str, node: str) -> Object:
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": NAME, "namespace": SPACE, "annotations": {names.ANNOTATION_CACHE: names.NONE}},
        "spec": {
            "nodeName": node, "hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet", "serviceAccountName": NAME,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": NAME, "image": image, "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}],
                "args": [
                    "--entrypoints.websecure.address=$(ADDRESS):443", "--entrypoints.websecure.http.tls=true",
                    "--accesslog", "--accesslog.format=json", "--log.level=INFO",
                    "--providers.kubernetesingress", f"--providers.kubernetesingress.namespaces={NAMESPACE}",
                    f"--providers.kubernetesingress.ingressclass={CLASS}",
                    "--global.checknewversion=false", "--global.sendanonymoususage=false",
                ],
                "readinessProbe": {"tcpSocket": {"port": 443}, "periodSeconds": 1},
            }],
        },
    }
