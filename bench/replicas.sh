#!/bin/sh
# One to three control planes on an etcd of three members: reads, and orders beside etcd alone, as tables of
# docs/benchmarks.md. `bench/replicas.sh`; needs etcd and wrk.
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release --package adit --bin adit --example api
exec "${CARGO_TARGET_DIR:-target}/release/examples/api" replicas "$@"
