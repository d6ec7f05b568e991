#!/bin/sh
# The API beside a bare axum handler and redb alone, and with a full store: prints the tables of docs/benchmarks.md.
# `bench/api.sh [reads] [creates]`; needs wrk and taskset.
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release --package adit --bin adit --example api
exec "${CARGO_TARGET_DIR:-target}/release/examples/api" "$@"
