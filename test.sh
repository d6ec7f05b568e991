#!/usr/bin/env bash
# Runs every test of the workspace: with nextest where it is installed, else with plain cargo.
#
# Tests that need more than the Rust toolchain say so by name when they are skipped; with CI=true a test that has to be
# skipped fails instead. Arguments go to the runner (`./test.sh whitelist`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# command:package of what tests call. Everything else they make by themselves.
needs=(ip:iproute2 setpriv:util-linux)

packages=()
for need in "${needs[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${need%%:*}" >/dev/null || packages+=("${need##*:}")
done
if ((${#packages[@]} > 0)); then
    if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        echo "test.sh: installing ${packages[*]}"
        { apt-get update && apt-get install --yes --no-install-recommends "${packages[@]}"; } >/dev/null 2>&1 ||
            echo "test.sh: ${packages[*]} could not be installed; the tests that need them are skipped" >&2
    else
        echo "test.sh: ${packages[*]} not found; the tests that need them are skipped" >&2
    fi
fi
export PATH="$PATH:/usr/sbin:/sbin"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() { "$@" 2>&1 | tee -a "$log"; }

if cargo nextest --version >/dev/null 2>&1; then
    run cargo nextest run --workspace --cargo-quiet --no-tests=pass --success-output final "$@"
    [[ $# -gt 0 ]] || run cargo test --quiet --workspace --doc
else
    RUST_TEST_NOCAPTURE=1 run cargo test --quiet --workspace "$@"
fi

if grep -q SKIPPED "$log"; then
    echo "Skipped on this machine:"
    grep -oE 'SKIPPED.*' "$log" | sort -u | sed 's/^SKIPPED:* */  /'
fi
