#!/usr/bin/env bash
# compile.sh COMPILER INCLUDE_DIR FILE.c: compiles as C11 or, with a C++ compiler, as C++17, and keeps no output.
compiler=$1 include=$2 file=$3
command -v "$compiler" > /dev/null || {
    echo "skipped: compiler '$compiler' is not installed"
    exit 77
}
case $compiler in
*++) language=(-x c++ -std=c++17 -Wno-invalid-offsetof) ;;
*) language=(-x c -std=c11 -Wpedantic) ;;
esac
"$compiler" "${language[@]}" -D_GNU_SOURCE -Wall -Wextra -Werror -fsyntax-only -I"$include" -I"$include/embedded" "$file" \
    && echo "ok: $file with $compiler"
