# SPDX-License-Identifier: Apache-2.0
"""The command line: `imagecache_operator controller | builder | webhook | match | crds`. Wires; decides nothing."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click
import yaml

from imagecache_operator.api.crd import custom_resource_definition

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class Program(click.Group):
    """Finds these commands only when they are asked for: none needs what the others import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "builder", "match"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "builder":
            from imagecache_operator.builder.command import builder

            return builder
        if cmd_name == "match":
            from imagecache_operator.admission.explain import explain

            return explain
        return super().get_command(ctx, cmd_name)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Image caches for Kubernetes: images pulled once onto a volume, verified, ready for Pods."""


@main.command()
@click.option("--log-level", default="INFO", show_default=True, help="DEBUG, INFO, WARNING or ERROR.")
@click.option("--liveness/--no-liveness", default=True, help="Answer liveness probes on port 8080.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), default=8081, show_default=True,
              help="Where to serve /metrics, without TLS; 0: nowhere.")
def controller(log_level: str, liveness: bool, metrics_port: int) -> None:
    """Run the operator: look after every ImageCache of the cluster."""
    # Imported here, so that a builder starts without kopf and the Kubernetes client: less memory, faster.
    from imagecache_operator.cluster.client import Client
    from imagecache_operator.controller import operator
    from imagecache_operator.settings import InvalidSettings, Settings

    logging.basicConfig(level=log_level.upper(), format=LOG_FORMAT)
    try:
        settings = Settings.from_environment(os.environ)
    except InvalidSettings as error:
        raise click.ClickException(str(error)) from None
    operator.run(
        Client(connections=operator.CONNECTIONS), settings, liveness=operator.LIVENESS if liveness else None,
        metrics_port=metrics_port,
    )


@main.command()
@click.option("--certificates", type=click.Path(file_okay=False, path_type=Path), default="/etc/imagecache/tls",
              show_default=True, metavar="FOLDER",
              help="Where tls.crt and tls.key are, or will be; they are read again when they change.")
@click.option("--port", type=click.IntRange(1, 65535), default=8443, show_default=True, help="Where to answer.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), default=8080, show_default=True,
              help="Where to serve /metrics, without TLS; 0: nowhere.")
@click.option("--log-level", default="INFO", show_default=True, help="DEBUG, INFO, WARNING or ERROR.")
def webhook(certificates: Path, port: int, metrics_port: int, log_level: str) -> None:
    """Answer the API server: let Pods that ask for it start from a cache."""
    from imagecache_operator.admission.webhook import run
    from imagecache_operator.cluster.api import ClusterError
    from imagecache_operator.cluster.client import Client

    logging.basicConfig(level=log_level.upper(), format=LOG_FORMAT)
    try:
        run(Client(connections=2), certificates, port, metrics_port)
    except (ClusterError, OSError) as error:
        raise click.ClickException(str(error)) from None


@main.command()
def crds() -> None:
    """Print the CustomResourceDefinition as YAML."""
    click.echo("# Generated from operator/imagecache_operator/api by `make generate`. Do not edit.")
    click.echo(yaml.safe_dump(custom_resource_definition(), sort_keys=False, width=110, allow_unicode=True), nl=False)


if __name__ == "__main__":
    main()
