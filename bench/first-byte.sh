#!/bin/sh
# From the order of an endpoint to the first byte through it: median, 90th percentile and maximum. As root, or as an
# ordinary user where the system lets users make namespaces. `bench/first-byte.sh [ROUNDS]`
set -eu
cd "$(dirname "$0")/.."
exec cargo run --quiet --release --package adit --example first_byte -- "$@"
