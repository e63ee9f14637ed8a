# SPDX-License-Identifier: Apache-2.0
#
# local-path-provisioner runs `sh`, `mkdir` and `rm` of this image to make and remove a volume's folder.
ARG DEBIAN
FROM ${DEBIAN} AS debian
RUN apt-get update && apt-get install --yes busybox-static && rm -rf /var/lib/apt/lists/*

FROM scratch
COPY --from=debian /bin/busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
CMD ["/bin/sh"]
