# SPDX-License-Identifier: Apache-2.0
"""The command `webhook` as the process that runs in a Pod: from the kubeconfig to an answer, and its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from imagecache_operator import names

from tests.support import scripted_api
from tests.support.scripted_api import Answer, ScriptedApi, event, listed, watched
from tests.support.tls import Authority
from tests.unit.admission.test_review import review
from tests.unit.admission.test_server import HOST, free_port, put
from tests.unit.planning.offers import TRAIN, cache, pod

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def started(folder: Path, port: int, kubeconfig: str) -> Iterator[subprocess.Popen[str]]:
    config = folder / "kubeconfig"
    config.write_text(kubeconfig)
    program = subprocess.Popen(
        [sys.executable, "-m", "imagecache_operator", "webhook", "--certificates", folder, "--port", str(port),
         "--metrics-port", "0"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator"), "KUBECONFIG": str(config)},
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def ask(port: int, authority: Authority, path: str, body: str | None = None) -> tuple[int, str] | None:
    """None while nobody listens."""
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    connection = http.client.HTTPSConnection(HOST, port, timeout=10, context=context)
    try:
        connection.request("GET" if body is None else "POST", path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


def healthy(program: subprocess.Popen[str], port: int, authority: Authority) -> bool:
    """Waits for it, for as long as the program runs and 30 seconds at most."""
    end = time.monotonic() + 30
    while time.monotonic() < end and program.poll() is None:
        if ask(port, authority, "/healthz") == (200, "ok\n"):
            return True
        time.sleep(0.05)
    return False


def test_it_answers_from_what_it_has_listed_and_ends_when_told(tmp_path: Path) -> None:
    authority, port = Authority.create(tmp_path / "authority"), free_port()
    put(authority, tmp_path, "1")
    with (
        scripted_api.running([listed("1", cache("ml", TRAIN))]) as api,
        started(tmp_path, port, api.kubeconfig) as program,
    ):
        assert healthy(program, port, authority)
        answer = ask(port, authority, "/mutate", json.dumps(review(pod(TRAIN))))
        assert answer is not None
        assert json.loads(answer[1])["response"]["patchType"] == "JSONPatch"
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=30)
    assert program.returncode == 0
    assert "team-a/train-*: starts from ImageCache ml: 1 of 1 image" in said
    assert "Traceback" not in said


def test_it_waits_for_the_namespaces_and_goes_by_their_labels(tmp_path: Path) -> None:
    authority, port = Authority.create(tmp_path / "authority"), free_port()
    put(authority, tmp_path, "1")
    gold = cache("ml", TRAIN, spec={"allowedNamespaces": {"selector": {"matchLabels": {"tier": "gold"}}}})
    with scripted_api.running([listed("1", gold)]) as api:
        api.namespaces.update({"team-a": {"tier": "gold"}, "team-b": {"tier": "iron"}})
        api.instead = Answer(403, {"message": "namespaces is forbidden"})
        with started(tmp_path, port, api.kubeconfig) as program:
            while not api.asked or ask(port, authority, "/healthz") is None:
                assert program.poll() is None
                time.sleep(0.05)
            assert ask(port, authority, "/healthz") == (503, "caches and namespaces are not known yet\n")
            api.instead = None
            assert healthy(program, port, authority)
            for namespace, hit in (("team-a", True), ("team-b", False), ("team-new", False)):
                answer = ask(port, authority, "/mutate", json.dumps(review(pod(TRAIN), namespace=namespace)))
                assert answer is not None
                assert ("warnings" not in json.loads(answer[1])["response"]) == hit, namespace


@pytest.mark.parametrize("of", ["caches", "namespaces"])
def test_it_ends_rather_than_answer_from_what_gets_older(of: str, tmp_path: Path) -> None:
    authority, port = Authority.create(tmp_path / "authority"), free_port()
    put(authority, tmp_path, "1")
    unreadable = {"metadata": {"name": "without-uid"}}
    watches = [watched(event("ADDED", unreadable))] if of == "caches" else []
    with scripted_api.running([listed("1")], *watches) as api:
        api.instead = listed("1", unreadable) if of == "namespaces" else None
        with started(tmp_path, port, api.kubeconfig) as program:
            _, said = program.communicate(timeout=30)
    assert f"the watch of {of} has ended" in said
    assert "KeyError" in said, "whoever looks for the mistake finds it"


@pytest.mark.parametrize("kubeconfig", ["", "{", "[]", "\t:"])
def test_without_a_cluster_it_says_so(kubeconfig: str, tmp_path: Path) -> None:
    with started(tmp_path, free_port(), kubeconfig) as program:
        _, said = program.communicate(timeout=30)
    assert program.returncode == 1
    assert said.startswith("Error: no cluster can be found: ")
    assert len(said.splitlines()) == 1


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    authority, port = Authority.create(tmp_path / "authority"), free_port()
    put(authority, tmp_path, "1")
    api = ScriptedApi([listed("1")], [], url="http://127.0.0.1:9")
    with started(tmp_path, port, api.kubeconfig) as first:
        while first.poll() is None and ask(port, authority, "/healthz") is None:
            time.sleep(0.05)
        with started(tmp_path, port, api.kubeconfig) as second:
            _, said = second.communicate(timeout=30)
    assert second.returncode == 1
    assert "address already in use" in said
    assert "Traceback" not in said
    assert names.KIND in said, "the cluster that cannot be reached is told of too"
