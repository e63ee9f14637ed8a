# SPDX-License-Identifier: Apache-2.0
"""The command line: `imagecache_operator controller | builder | crds`. Wires; decides nothing."""

from __future__ import annotations

import logging
import os

import click
import yaml

from imagecache_operator.api.crd import custom_resource_definition

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class Program(click.Group):
    """Finds the builder's command only when it is asked for: the controller needs none of what it imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "builder"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "builder":
            from imagecache_operator.builder.command import builder

            return builder
        return super().get_command(ctx, cmd_name)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Image caches for Kubernetes: images pulled once onto a volume, verified, ready for Pods."""


@main.command()
@click.option("--log-level", default="INFO", show_default=True, help="DEBUG, INFO, WARNING or ERROR.")
@click.option("--liveness/--no-liveness", default=True, help="Answer liveness probes on port 8080.")
def controller(log_level: str, liveness: bool) -> None:
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
    operator.run(Client(connections=operator.THREADS), settings, liveness=operator.LIVENESS if liveness else None)


@main.command()
def crds() -> None:
    """Print the CustomResourceDefinition as YAML."""
    click.echo("# Generated from operator/imagecache_operator/api by `make generate`. Do not edit.")
    click.echo(yaml.safe_dump(custom_resource_definition(), sort_keys=False, width=110, allow_unicode=True), nl=False)


if __name__ == "__main__":
    main()
