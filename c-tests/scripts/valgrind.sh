#!/usr/bin/env bash
# valgrind.sh PROGRAM [ARGUMENT...]: fails on a definite leak, an invalid access, or a failure of the program itself.
command -v valgrind > /dev/null || {
    echo "skipped: valgrind is not installed"
    exit 77
}
exec valgrind --quiet --suppressions="$(dirname "${BASH_SOURCE[0]}")/valgrind.supp" --error-exitcode=99 \
    --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --num-callers=30 --fair-sched=yes "$@"
