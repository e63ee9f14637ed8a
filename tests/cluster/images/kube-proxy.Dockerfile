# SPDX-License-Identifier: Apache-2.0
#
# What kube-proxy's image needs below kube-proxy itself: iptables with ALL of its extensions and all their libraries.
# One missing library (libxt_statistic needs libm) breaks every later sync, and Services silently go stale.
ARG DEBIAN
FROM ${DEBIAN} AS collect
RUN apt-get update && apt-get install --yes iptables && rm -rf /var/lib/apt/lists/*
RUN mkdir -p /collected/usr/sbin \
 && extensions=$(find /usr/lib -path '*/xtables/*.so') \
 && libraries=$(ldd /usr/sbin/xtables-nft-multi $extensions | grep -o '/[^ :]*\.so[^ :]*' | sort -u) \
 && cp --parents --dereference /usr/sbin/xtables-nft-multi $extensions $libraries /collected/ \
 && for name in iptables ip6tables; do for suffix in "" -save -restore; do \
      ln -s xtables-nft-multi /collected/usr/sbin/$name$suffix; done; done

FROM scratch
COPY --from=collect /collected/ /
