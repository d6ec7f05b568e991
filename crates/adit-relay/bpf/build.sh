#!/usr/bin/env bash
# Builds the BPF programs of this directory. The objects are committed beside their sources, so that nobody needs clang to
# build Adit; whoever changes a source runs this and commits both.
#
#   build.sh            builds the objects
#   build.sh --check    builds them elsewhere and fails if those here are not the same, byte for byte
#
# Other versions of clang build other bytes: this one is what Debian 12 has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

clang_version=14.0.6

fail() { echo "build.sh: $*" >&2; exit 1; }

for tool in clang llvm-strip; do
    command -v "$tool" >/dev/null || fail "$tool is not installed (Debian: apt-get install clang llvm)"
done
have=$(clang -dumpversion)
[[ $have == "$clang_version" ]] ||
    fail "clang is $have, and the committed objects are built by $clang_version (Debian 12's): nothing can be compared"

build() { # source, object
    # Without -g there would be no .BTF, which the kernel asks of maps that hang on sockets; the rest of what -g adds goes
    # again. The prefix map keeps this machine's folders out.
    clang -O2 -g -target bpf -mcpu=v2 -Wall -Wextra -Werror -nostdinc -fdebug-prefix-map="$PWD=." -c "$1" -o "$2"
    llvm-strip -g "$2"
}

to=.
if [[ ${1:-} == --check ]]; then
    to=$(mktemp -d)
    trap 'rm -rf "$to"' EXIT
fi
for source in *.bpf.c; do
    object=${source%.c}.o
    build "$source" "$to/$object"
    [[ $to == . ]] || cmp "$object" "$to/$object" ||
        fail "$object is not what $source builds to: run crates/adit-relay/bpf/build.sh and commit the object"
done
