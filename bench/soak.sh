#!/bin/sh
# A region under mixed load while endpoints and services come and go: nothing may be lost, and nothing may be left behind. As root.
# Ends with what was carried and what the region held before and after, or with what was wrong. `bench/soak.sh [--minutes N]`
set -eu
cd "$(dirname "$0")/.."
minutes=10
while [ $# -gt 0 ]; do
    case "$1" in
    --minutes) minutes=$2 && shift 2 ;;
    *) echo "usage: bench/soak.sh [--minutes N]" >&2 && exit 2 ;;
    esac
done
# With debug assertions on. A machine where it would be skipped is not the one to run it on.
CI=true ADIT_SOAK_S=$((minutes * 60)) exec cargo test --quiet --package adit --test soak -- --nocapture
