#!/usr/bin/env bash
# Describes each form of structures.c anew: FORM.btf by pahole (1.24), as kernels' builds do, and
# FORM.txt by the compiler itself, which knows nothing of BTF. The tests of offsets.rs hold one against
# the other.
set -eu
cd "$(dirname "$0")"
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT

form() { # NAME COMPILER FLAGS…
    name=$1 compiler=$2
    shift 2
    "$compiler" -g -fno-eliminate-unused-debug-types "$@" structures.c -o "$work/$name"
    "$work/$name" >"$name.txt"
    pahole --btf_gen_floats --btf_encode_detached="$name.btf" "$work/$name"
}

form bit-field-protocol gcc -DBIT_FIELD_PROTOCOL
form kept-sizes gcc -DKABI
form groups-and-enum64 gcc -DGROUPS
form without-ipv6 gcc -DNO_IPV6
form randomized gcc -DRANDOMIZED
form tags-of-clang clang-16 -DTAGS
