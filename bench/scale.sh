#!/bin/sh
# The control plane with ten thousand, a hundred thousand and a million endpoints in its store, or as many as are named, and a
# tenth as many services: prints the table of docs/benchmarks.md. `bench/scale.sh [ENDPOINTS...]`.
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release --package adit --bin adit --example api
exec "${CARGO_TARGET_DIR:-target}/release/examples/api" scale "$@"
