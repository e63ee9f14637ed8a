# SPDX-License-Identifier: Apache-2.0
"""Pull Secrets open the images that they open for kubelet, in its order.

The tables hold the examples of the Kubernetes documentation ("Images", "Interpretation of config.json") and what
kubelet's keyring was seen to answer. That they are rules and not samples is held by a second reading of the rules,
written here with other means. What an entry may hold is in `test_credentials_entries.py`.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagecache_operator.api import reference
from imagecache_operator.api.credentials import Credential, Credentials, parse
from imagecache_operator.api.reference import Reference

ONE, OTHER = "team-a:one", "team-b:other"


def secret(*keys: str, source: str = ONE) -> tuple[Credential, ...]:
    """A Secret's entries; each one's username is its key as it was written."""
    return parse(json.dumps({"auths": {key: {"username": key, "password": "p"} for key in keys}}), source)


def tried(image: str, *keys: str) -> list[str]:
    """The keys that are tried for the image, in order."""
    return [c.username for c in Credentials(entries=secret(*keys)).candidates(reference.parse(image))]


@pytest.mark.parametrize(("key", "image", "opens"), [
    ("*.kubernetes.io", "kubernetes.io/app", False), ("*.kubernetes.io", "abc.kubernetes.io/app", True),
    ("*.*.kubernetes.io", "abc.kubernetes.io/app", False), ("*.*.kubernetes.io", "abc.def.kubernetes.io/app", True),
    ("prefix.*.io", "prefix.kubernetes.io/app", True), ("*-good.kubernetes.io", "prefix-good.kubernetes.io/app", True),
])
def test_the_documentations_patterns(key: str, image: str, opens: bool) -> None:
    assert bool(tried(image, key)) is opens


@pytest.mark.parametrize(("image", "keys"), [
    ("my-registry.example/images", ["my-registry.example/images"]),
    ("my-registry.example/images/my-image", ["my-registry.example/images"]),
    ("my-registry.example/images/another-image", ["my-registry.example/images"]),
    ("sub.my-registry.example/images/my-image", ["*.my-registry.example/images"]),
    ("a.sub.my-registry.example/images/my-image", []), ("a.b.sub.my-registry.example/images/my-image", []),
])
def test_the_documentations_images(image: str, keys: list[str]) -> None:
    assert tried(image, "my-registry.example/images", "*.my-registry.example/images") == keys


def test_the_documentations_two_paths_are_both_tried() -> None:
    short, long = "my-registry.example/images", "my-registry.example/images/subpath"
    assert tried("my-registry.example/images/subpath/my-image", short, long) == [long, short]
    assert tried("my-registry.example/images/my-image", short, long) == [short]


@pytest.mark.parametrize(("image", "keys"), [
    # Stars stand for text within one part of the host, and for nothing else.
    ("reg.corp.example/app", ["reg.corp.*", "reg.*.example", "r*.c*p.*", "**.corp.example", "reg*.corp.example",
                              "*.*.*"]),
    ("reg.example/app", ["*reg.example", "*e*.*a*", "re*g.example"]),
    ("localhost/app", ["*", "local*", "localhost"]),
    ("reg.example:5000/app", ["*.example:5000", "reg.*:5000/app", "https://reg.example:5000",
                              "http://*.example:5000/v2/"]),
    # A path is the beginning of a text, not of a list of names.
    ("reg.example/team-b/app", ["reg.example", "reg.example/", "reg.example/team", "reg.example/team-b",
                                "reg.example/team-b/", "reg.example/team-b/app", "reg.example/t"]),
    # The forms that `docker login` and old tools write.
    ("reg.example/team/app", ["https://reg.example", "http://reg.example", "https://reg.example/", "reg.example/v1/",
                              "https://reg.example/v1/", "https://reg.example/v2/", "reg.example/v2/team",
                              "https://reg.example/v1/team/app", "reg.example:"]),
    ("reg.example/v1/app", ["reg.example/v1", "reg.example/v", "reg.example/v1/v1/"]),
    # A key is a URL: who logs in, a query and a fragment do not count.
    ("reg.example/team/app", ["me@reg.example", "https://me:word@reg.example/team", "reg.example?ns=team",
                              "reg.example/team#there", "https://reg.example/v1/?x=/v2/"]),
    # References are normalised before, hosts in lower case.
    ("Reg.Example/app", ["reg.example", "Reg.Example", "*.EXAMPLE"]),
    ("[::1]:5000/app", ["[::1]:5000", "*:5000", "[::1]:5000/app"]),
    ("[::1]/app", ["*", "[::1]"]),  # the second not for kubelet, to which the brackets are a pattern
])
def test_it_opens(image: str, keys: list[str]) -> None:
    assert [key for key in keys if not tried(image, key)] == []


@pytest.mark.parametrize(("image", "keys"), [
    ("reg.corp.example/app", ["*", "*.*", "*.example", "*.*.*.*", "reg.*", "*corp.example", "*.corp.example.*", ""]),
    ("reg.example/app", ["reg.exampl", "eg.example", "reg.com", "r*b.example", "*eg*eg.example", "g*.example",
                         "reg.example.", ".reg.example", "reg-example", "reg?example", "r[e]g.example", "r.*g.example",
                         "reg.example\n", " reg.example", "https://", "https:///app", "//reg.example"]),
    ("ab.example/app", ["ab*b.example", "a*ab.example", "*b*a*.example"]),  # no letter serves two pieces of a pattern
    ("reg.example/app", ["reg.example:443", "https://reg.example:443", "http://reg.example:80", "*.example:*"]),
    ("reg.example:5000/app", ["reg.example", "*.example", "reg.example:5001", "reg.example:*", "reg.example:05000",
                              "reg.example/5000"]),
    ("reg.example/team/app:1.0", ["reg.example/team/app:1.0", "reg.example/team/app:", "reg.example/team/app@sha256:"]),
    ("reg.example/team/app", ["reg.example/team/app/", "reg.example/team/app/x", "reg.example/Team", "reg.example/*",
                              "reg.example/*/app", "reg.example/app", "reg.example//team", "reg.example//",
                              "reg.example/v1/v2/", "reg.example/v1", "reg.example/v3/"]),
    ("reg.example/team", ["reg.example/team/", "reg.example/team/v1/"]),
    ("reg.example/app", ["HTTPS://reg.example", "ftp://reg.example", "https://http://reg.example"]),
])
def test_it_does_not_open(image: str, keys: list[str]) -> None:
    assert [key for key in keys if tried(image, key)] == []


@pytest.mark.parametrize("image", ["busybox", "library/busybox", "docker.io/busybox:1", "index.docker.io/busybox"])
@pytest.mark.parametrize(("keys", "order"), [
    (["https://index.docker.io/v1/"], ["https://index.docker.io/v1/"]),  # what `docker login` writes
    (["index.docker.io"], ["index.docker.io"]),
    (["index.docker.io/v2/"], ["index.docker.io/v2/"]),
    (["docker.io"], ["docker.io"]),
    (["https://docker.io/v1/"], ["https://docker.io/v1/"]),
    (["docker.io/lib"], ["docker.io/lib"]),
    # The name that Docker gives its hub is asked for only where no other key is for the image.
    (["index.docker.io", "docker.io"], ["docker.io"]),
    (["index.docker.io", "docker.io/library"], ["docker.io/library"]),
    (["https://index.docker.io/v1/", "*.io"], ["*.io"]),
    (["index.docker.io", "docker.io/team"], ["index.docker.io"]),
    (["index.docker.io", "https://index.docker.io/v1/"], ["index.docker.io", "https://index.docker.io/v1/"]),
    (["index.docker.io/v1"], []), (["index.docker.io/library"], []), (["index.docker.io:443"], []),
    (["registry-1.docker.io"], []), (["*.docker.io"], []), (["hub.docker.com"], []), (["myhostdocker.io"], []),
])
def test_docker_hub_has_several_names(image: str, keys: list[str], order: list[str]) -> None:
    assert tried(image, *keys) == order


@pytest.mark.parametrize("image", [
    "world.mesos.org/foo", "docker.io.example/foo", "docker.io:443/foo", "sub.docker.io/foo",
    "localhost/foo",  # kubelet sends them there, because it takes a name without dot and port for a user's
])
def test_docker_hubs_credentials_go_nowhere_else(image: str) -> None:
    assert tried(image, "https://index.docker.io/v1/", "docker.io") == []


@pytest.mark.parametrize(("image", "order"), [
    ("bar.example/pong/x", ["bar.example/pong/", "bar.example/pong", "bar.example/p", "bar.example", "*.example/pong",
                            "*.example", "*.*"]),
    ("bar.example/pongs", ["bar.example/pong", "bar.example/p", "bar.example", "*.example/pong", "*.example", "*.*"]),
    ("bar.example/ping", ["bar.example/p", "bar.example", "*.example", "*.*"]),
    ("foo.example/pong", ["*.example/pong", "*.example", "*.*"]),
    ("bar.foo.example/pong", []),
])
@pytest.mark.parametrize("step", [1, -1])
def test_the_longer_path_comes_first_and_patterns_last(image: str, order: list[str], step: int) -> None:
    keys = ["bar.example", "*.example", "bar.example/pong", "*.*", "*.example/pong", "bar.example/pong/",
            "bar.example/p"]
    assert tried(image, *keys[::step]) == order


def test_one_key_in_several_secrets_is_tried_in_the_order_of_the_secrets() -> None:
    old, new = secret("reg.example", source=ONE), secret("https://reg.example/v2/", "reg.example/app", source=OTHER)
    image = reference.parse("reg.example/app")
    for secrets, sources in (
        ((old, new), [(OTHER, "reg.example/app"), (ONE, "reg.example"), (OTHER, "reg.example")]),
        ((new, old), [(OTHER, "reg.example/app"), (OTHER, "reg.example"), (ONE, "reg.example")]),
    ):
        found = Credentials(entries=(*secrets[0], *secrets[1])).candidates(image)
        assert [(c.source, c.match) for c in found] == sources


def test_more_stars_than_letters_are_no_trouble() -> None:
    # A Secret is a user's: tried as a regular expression, one such key would hold up everybody's caches for ever.
    part = "a" * 60
    assert tried(f"{part}b.example/app", "*a" * 40 + "*b.example", "*" * 5000 + ".*", "*a" * 61 + "*.example") == [
        "*a" * 40 + "*b.example", "*" * 5000 + ".*",
    ]
    assert tried(f"{part}.example/app", "*a" * 40 + "*b.example", "*b" + "*a" * 40 + ".example") == []


def by_the_book(entries: tuple[Credential, ...], image: Reference) -> list[Credential]:
    """The rules once more, from the keys as they were written (they are the usernames), in small steps."""
    fitting: list[tuple[str, Credential]] = []
    hub: list[Credential] = []
    for entry in entries:
        rest = entry.username.removeprefix("https://").removeprefix("http://")
        for mark in "#?":
            rest = rest[: rest.index(mark)] if mark in rest else rest
        host, *folders = rest.split("/")
        if len(folders) > 1 and folders[0] in ("v1", "v2"):
            folders = folders[1:]
        if "@" in host:
            host = host[host.rindex("@") + 1 :]
        path = "" if folders == [""] else "".join(f"/{folder}" for folder in folders)
        name, _, port = host.partition(":")
        image_name, _, image_port = image.host.partition(":")
        parts, image_parts = name.lower().split("."), image_name.split(".")
        if host + path == "index.docker.io":
            hub.append(entry)
        if port != image_port or len(parts) != len(image_parts) or ("/" + image.path)[: len(path)] != path:
            continue
        if all(fnmatchcase(wanted, part) for wanted, part in zip(image_parts, parts, strict=True)):
            fitting.append((host + path, entry))
    ordered: list[Credential] = []
    for key in sorted({key for key, _ in fitting}, reverse=True):
        ordered += [entry for other, entry in fitting if other == key]
    return ordered or (hub if image.host == "docker.io" else [])


_part = st.sampled_from(["a", "b", "ab", "*", "*", "a*", "*b", "*a*b*", "A"])
_host = st.lists(_part, min_size=1, max_size=2).map(".".join) | st.sampled_from(
    ["docker.io", "docker.*", "index.docker.io", "index.docker.io", "a.b", "*.*"])
_names = st.lists(st.sampled_from(["a", "b", "ab", "v1", "v2"]), max_size=2)
_keys = st.builds(
    lambda scheme, host, port, path, end: scheme + host + port + "".join(f"/{name}" for name in path) + end,
    st.sampled_from(["", "", "", "https://", "http://", "me@", "https://me:pw@"]), _host,
    st.sampled_from(["", "", "", "", ":1", ":"]), _names, st.sampled_from(["", "", "", "/", "/v1/", "?x", "#/x"]),
)
_secrets = st.lists(st.lists(_keys, min_size=1, max_size=6, unique=True), min_size=1, max_size=3)
_images = st.builds(
    lambda host, path: reference.parse(f"{host}/{'/'.join(path)}"),
    st.sampled_from(["docker.io", "docker.io", "a.b", "ab.b", "a.b:1", "b.ab", "a:1", "index.docker.io"]),
    st.lists(st.sampled_from(["a", "b", "ab", "v1"]), min_size=1, max_size=2),
)


def _merged(secrets: list[list[str]]) -> Credentials:
    return Credentials(entries=tuple(
        entry for number, keys in enumerate(secrets) for entry in secret(*keys, source=f"team:{number}")
    ))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(_secrets, _images)
def test_any_key_means_what_the_rules_say(secrets: list[list[str]], image: Reference) -> None:
    everything = _merged(secrets)
    assert list(everything.candidates(image)) == by_the_book(everything.entries, image)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_secrets, st.lists(_images, max_size=3))
def test_a_builder_gets_what_its_images_are_tried_with_and_nothing_else(
    secrets: list[list[str]], images: list[Reference],
) -> None:
    everything = _merged(secrets)
    needed = everything.needed_by(image for image in images)
    tried_with = [entry for image in images for entry in by_the_book(everything.entries, image)]
    assert needed.entries == tuple(entry for entry in everything.entries if entry in tried_with)
    assert all(needed.candidates(image) == everything.candidates(image) for image in images)
