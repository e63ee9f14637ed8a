# SPDX-License-Identifier: Apache-2.0
"""The controller of Deployments, played: one Pod for each, made again when it is gone. `kubelet.py` steps it.

`answering` False: no Pod of a server is ready any more, as after the loss of a node.
"""

from __future__ import annotations

from imagecache_operator import names
from imagecache_operator.cluster.api import Object

from tests.support.memory_api import MemoryApi


class Deployments:
    """One `step` brings each Deployment's Pods and status up to date."""

    def __init__(self, api: MemoryApi) -> None:
        self._api = api
        self._made = 0
        self.answering = True

    def step(self) -> None:
        for deployment in self._api.list("Deployment", names.NAMESPACE):
            uid, template = deployment["metadata"]["uid"], deployment["spec"]["template"]
            pods = [p for p in self._api.list("Pod", names.NAMESPACE) if _owner(p) == uid]
            for pod in pods:
                if pod["metadata"]["annotations"] != template["metadata"]["annotations"] | {"image": _image(template)}:
                    self._api.delete("Pod", pod["metadata"]["name"], names.NAMESPACE)
            if not pods:
                self._start(deployment)
            ready = [p for p in pods if self.answering and p["status"]["phase"] == "Running" and not _goes(p)]
            status = {"observedGeneration": deployment["metadata"]["generation"], "readyReplicas": len(ready)}
            self._report(deployment["metadata"]["name"], status)

    def _report(self, name: str, status: Object) -> None:
        self._api.edit("Deployment", name, lambda d: d.update(status=status), names.NAMESPACE)

    def _start(self, deployment: Object) -> None:
        self._made += 1
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        self._api.create({
            "apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
            "metadata": {
                "name": f"{meta['name']}-{self._made}", "namespace": names.NAMESPACE,
                "labels": template["metadata"]["labels"],
                "annotations": template["metadata"]["annotations"] | {"image": _image(template)},
                "ownerReferences": [{"kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}],
            },
        })


def _owner(pod: Object) -> str:
    return str(next((o["uid"] for o in pod["metadata"].get("ownerReferences", [])), ""))


def _image(template: Object) -> str:
    return str(template["spec"]["containers"][0]["image"])


def _goes(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]
