#!/bin/sh
# The data plane beside direct routing and HAProxy (as it comes, and tuned): bytes, connections and requests per second, processor
# time, latency, memory and fairness, in interleaved rounds; then the promises, and whether they hold (exit status).
# As root, with `ip`, `haproxy`, `taskset` and `chrt`: `bench/dataplane.sh [--rounds N] [--seconds S] [--idle CONNECTIONS] [--only WHAT]`
set -eu
cd "$(dirname "$0")/.."
exec cargo run --quiet --release --package adit-relay --example dataplane -- "$@"
