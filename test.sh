#!/usr/bin/env bash
# Runs every test of the workspace: with nextest where it is installed, else with plain cargo.
#
# Tests that need more than the Rust toolchain say so by name when they are skipped; with CI=true a test that has to be
# skipped fails instead. Arguments go to the runner in place of --workspace (`./test.sh -p adit-model whitelist`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
(($# > 0)) || set -- --workspace

# command:package of what tests call. Everything else they make by themselves.
needs=(
    ip:iproute2 setpriv:util-linux curl:curl openssl:openssl python3:python3
    haproxy:haproxy nginx:nginx tshark:tshark etcd:etcd-server
)

packages=()
for need in "${needs[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${need%%:*}" >/dev/null || packages+=("${need##*:}")
done
# Other people's clients come from the Python package index, into an environment of their own.
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv)
if ((${#packages[@]} > 0)); then
    if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        echo "test.sh: installing ${packages[*]}"
        # Servers are for tests alone: Debian asks this file before it starts one, and 101 means no.
        policy=/usr/sbin/policy-rc.d
        [[ -e $policy ]] && policy= || install -m 755 <(printf '#!/bin/sh\nexit 101\n') "$policy"
        { apt-get update && apt-get install --yes --no-install-recommends "${packages[@]}"; } >/dev/null 2>&1 ||
            echo "test.sh: ${packages[*]} could not be installed; the tests that need them are skipped" >&2
        [[ -z $policy ]] || rm -f "$policy"
    else
        echo "test.sh: ${packages[*]} not found; the tests that need them are skipped" >&2
    fi
fi
export PATH="$PATH:/usr/sbin:/sbin"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0

# Every test runs, also after one has failed.
if cargo nextest --version >/dev/null 2>&1; then
    # What passing tests print comes after the summary: it is kept for the list below, and not shown.
    cargo nextest run --cargo-quiet --no-fail-fast --success-output final "$@" 2>&1 | tee -a "$log" |
        awk '!ended || /^ *[A-Z]+ \[/ && !/PASS/ || /^error/; / Summary \[/ { ended = 1 }' || status=1
    # nextest leaves the examples in the documentation out.
    if [[ $* == --workspace ]] && ! cargo test --quiet --workspace --doc --no-fail-fast >"$log.doc" 2>&1; then
        cat "$log.doc"
        status=1
    fi
    rm -f "$log.doc"
else
    RUST_TEST_NOCAPTURE=1 cargo test --quiet --no-fail-fast "$@" 2>&1 | tee -a "$log" || status=1
fi

if grep -q SKIPPED "$log"; then
    echo "Skipped on this machine:"
    grep -E 'SKIPPED' "$log" | sed 's/^ */  /' | sort -u
fi
exit "$status"
