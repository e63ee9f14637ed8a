# SPDX-License-Identifier: Apache-2.0
"""The command line: `python -m tests.cluster up|down|status|env`, from the root of the repository."""

from __future__ import annotations

import shlex

import click

from . import life, machine, own_engine
from .cluster import Cluster
from .progress import ClusterError

name_option = click.option("--name", default=life.DEFAULT_NAME, show_default=True, help="Name of the cluster.")


class Readable(click.Group):
    """Shows our own errors as they are; anything else is a bug and keeps its traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except ClusterError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Readable)
def main() -> None:
    """A real kind cluster for the tests, also on machines without a Docker engine."""


@main.command()
@name_option
@click.option("--in-memory", is_flag=True, help="Nodes keep images in memory (at most 6 GiB each), not on the "
                                                "machine's disk: for the benchmark of starts.")
def up(name: str, in_memory: bool) -> None:
    """Make the cluster, or use the healthy one that runs."""
    cluster = life.up(name, click.echo, in_memory)
    click.echo(f"To use it: eval $(python -m tests.cluster env --name {cluster.name})")


@main.command()
@name_option
def down(name: str) -> None:
    """Remove the cluster; with the last one, our own engine."""
    life.down(name, click.echo)
    if not own_engine.running():
        for line in machine.leftovers():
            click.echo(f"left over: {line}", err=True)


@main.command()
@name_option
def status(name: str) -> None:
    """Print nodes, versions, provider and paths."""
    cluster = _existing(name)
    click.echo(f"cluster      {cluster.name}, Kubernetes {cluster.kubernetes}")
    click.echo(f"provider     {cluster.provider}")
    click.echo(f"kubeconfig   {cluster.kubeconfig}")
    click.echo(f"audit log    {cluster.audit_log}")
    click.echo(cluster.kubectl("get", "nodes", "--output", "wide", "--request-timeout=10s"))


@main.command()
@name_option
def env(name: str) -> None:
    """Print `export` lines for eval."""
    for variable, value in _existing(name).environment.items():
        click.echo(f"export {variable}={shlex.quote(value)}")


def _existing(name: str) -> Cluster:
    cluster = life.find(name)
    if cluster is None:
        running = ", ".join(life.names()) or "none"
        raise ClusterError(f"There is no cluster {name} (running: {running}). Make it: python -m tests.cluster up")
    return cluster


if __name__ == "__main__":
    main(prog_name="python -m tests.cluster")
