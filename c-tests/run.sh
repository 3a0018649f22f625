#!/usr/bin/env bash
# Runs all tests of the project: c-tests/run.sh
#
# Builds the library (release, without LTO), runs the Rust tests and then the C tests, continues after a failure, and
# finally lists the failed and the skipped tests, with reasons. Exits with 0 if nothing failed. Works from any directory,
# and without network access once cargo has the crates. Respects CARGO_TARGET_DIR; VPN_C_TESTS_BUILD is the CMake build
# directory (default c-tests/build).
#
# Needs cargo, a C and C++ compiler, cmake, make and python3; on Debian, as root, it installs missing packages. Some
# tests need clang, valgrind, chromium-driver, iproute2, iperf3, iptables, dbus-daemon or TUN and are skipped without
# them; with CI=true, as root, missing namespaces or TUN are a failure, and so is a missing browser.
set -u -o pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
build=${VPN_C_TESTS_BUILD:-$here/build}
started=$SECONDS
failed=() skipped=() summaries=()
PATH=$PATH:${HOME:-/root}/.cargo/bin:/usr/sbin:/sbin
if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ]; then
    export VPN_TESTS_MUST_NOT_SKIP=1
fi

say() { printf '\n== %s\n' "$*"; }

# step NAME COMMAND...: runs the command and records the name if it fails.
step() {
    local name=$1 begin=$SECONDS
    shift
    say "$name"
    if "$@"; then
        echo "-- $name: done in $((SECONDS - begin)) s"
    else
        echo "-- $name: FAILED after $((SECONDS - begin)) s"
        failed+=("$name")
        return 1
    fi
}

# --- prerequisites ------------------------------------------------------------------------------------------------

# command:Debian package:needed by all tests (yes) or by some
readonly TOOLS="cc:gcc:yes g++:g++:yes make:make:yes cmake:cmake:yes python3:python3:yes nm:binutils:yes
    pkg-config:pkg-config:some git:git:some xz:xz-utils:some
    clang:clang:some ip:iproute2:some iperf3:iperf3:some ping:iputils-ping:some unshare:util-linux:some
    valgrind:valgrind:some chromedriver:chromium-driver:some dbus-daemon:dbus-daemon:some iptables-legacy:iptables:some
    dh:debhelper:some lowdown:lowdown:some nft:nftables:some man:man-db:some systemd-analyze:systemd:some"

missing_packages() { # missing_packages yes|some
    local tool name package need
    for tool in $TOOLS; do
        IFS=: read -r name package need <<< "$tool"
        [ "$need" = "$1" ] && ! command -v "$name" > /dev/null && echo "$package"
    done
}

install_missing_packages() {
    local packages
    mapfile -t packages < <(missing_packages yes; missing_packages some)
    if [ ${#packages[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        say "Installing ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq > /dev/null || echo "apt-get update failed; trying with the cached package lists"
        apt-get install -y -qq --no-install-recommends "${packages[@]}" > /dev/null
    fi
    mapfile -t packages < <(missing_packages some)
    [ ${#packages[@]} -eq 0 ] || echo "Some tests will be skipped. To run them: apt-get install ${packages[*]}"
    mapfile -t packages < <(missing_packages yes)
    if [ ${#packages[@]} -gt 0 ]; then
        echo "These are needed: apt-get install ${packages[*]}"
        return 1
    fi
    command -v cargo > /dev/null && return
    echo "Rust is needed: https://rustup.rs (curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y)"
    return 1
}

# --- steps --------------------------------------------------------------------------------------------------------

rust_tests() {
    local log=$build/rust-tests.log status=0
    if cargo nextest --version > /dev/null 2>&1; then
        local junit=$root/target/nextest/default/junit.xml
        rm -f "$junit"
        # One more than there are processors: most tests wait for timers most of the time.
        cargo nextest run --workspace --config-file "$here/nextest.toml" --test-threads "$(($(nproc) + 1))" 2>&1 |
            tee "$log" || status=1
        summaries+=("Rust tests: $(grep -aE '^ *Summary' "$log" | tail -n 1)")
        collect_skips "$junit"
        cargo test --workspace --doc 2>&1 | tee "$log" || status=1
        summaries+=("Rust doc tests: $(grep -aE '^test result' "$log" | tail -n 1)")
    else
        cargo test --workspace --no-fail-fast -- --show-output 2>&1 | tee "$log" || status=1
        summaries+=("Rust tests: $(grep -acE '^test .* ok$' "$log") passed, $(grep -acE '^test .* FAILED$' "$log") failed")
        collect_skips "$log"
    fi
    return $status
}

configure_c_tests() {
    # A build directory that belongs to a moved clone is unusable.
    if [ -f "$build/CMakeCache.txt" ] && ! grep -qx "CMAKE_HOME_DIRECTORY:INTERNAL=$here" "$build/CMakeCache.txt"; then
        rm -rf "$build/CMakeCache.txt" "$build/CMakeFiles"
    fi
    (cd "$build" && cmake "$here" > cmake.log 2>&1) || { cat "$build/cmake.log"; return 1; }
}

build_c_tests() {
    (cd "$build" && cmake --build . -- -j "$(nproc)" > build.log 2>&1) || { tail -n 60 "$build/build.log"; return 1; }
}

c_tests() {
    local status=0 log=$build/c-tests.log
    (cd "$build" && ctest --output-on-failure -j "$(nproc)") 2>&1 | tee "$log" || status=1
    summaries+=("C tests: $(grep -aE 'tests passed|No tests were found' "$log" | tail -n 1)")
    grep -aq 'tests passed' "$log" || status=1
    collect_skips "$build/Testing/Temporary/LastTest.log"
    return $status
}

collect_skips() { # adds every test that printed "skipped: why"
    local line
    while IFS= read -r line; do
        skipped+=("$line")
    done < <(python3 "$here/scripts/skips.py" "$1")
}

report() {
    local line
    say "Summary, $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s"
    for line in "${summaries[@]}"; do echo "$line"; done
    echo "Skipped: ${#skipped[@]}"
    for line in "${skipped[@]}"; do echo "  skipped: $line"; done
    if [ ${#failed[@]} -gt 0 ]; then
        echo "FAILED: $(IFS=,; echo "${failed[*]}" | sed 's/,/, /g')"
        return 1
    fi
    echo "All passed."
}

main() {
    cd "$root" || exit 1
    step "Prerequisites" install_missing_packages || { report; exit 1; }
    mkdir -p "$build" || exit 1
    step "Library for C" build/c-library --quick
    step "Rust tests" rust_tests
    step "C tests: configure" configure_c_tests && step "C tests: build" build_c_tests && step "C tests" c_tests
    report
}

main "$@"
