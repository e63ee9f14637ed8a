#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs inside a container of the node image: imports /images.tar into its containerd, for `docker commit` to keep.
# Without these images, kubelet first waits for pulls that can't work and a cluster takes minutes instead of seconds.
# --no-unpack: unpacking needs mounts, which this container may not make; each node does it at its first use.
set -eu
containerd >/tmp/containerd.log 2>&1 &
for _ in $(seq 100); do
  if ctr version >/dev/null 2>&1; then break; fi
  sleep 0.2
done
ctr --namespace k8s.io images import --no-unpack /images.tar || { tail -20 /tmp/containerd.log; exit 1; }
kill %1
wait %1 || true
rm -rf /tmp/containerd.log /run/containerd
