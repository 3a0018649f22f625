#!/usr/bin/env bash
# box.sh COMMAND [ARGUMENT...]: runs a command in network, mount and process namespaces of its own, so that a test
# touches no device, address or file of the host and leaves nothing behind.
#
#   this namespace            /run/netns/srv (VPN_NS_SERVER)
#   veth-cli 10.200.0.2/24 -- veth-srv 10.200.0.1/24
#
# VPN_TEST_TMP is a directory that is removed with the box; VPN_TEST_HOSTS=FILE replaces /etc/hosts by a file. Works as
# root, and without root if the kernel allows user namespaces. Otherwise it prints "skipped: why" and exits with 77, or
# with 1 if VPN_TESTS_MUST_NOT_SKIP is 1.
set -u

skip() {
    echo "skipped: $1"
    [ "${VPN_TESTS_MUST_NOT_SKIP:-}" = 1 ] && exit 1
    exit 77
}
must() {
    "$@" || { echo "FAIL: box.sh: $*"; exit 1; }
}

if [ "${1:-}" != --inside ]; then
    for tool in unshare ip; do
        command -v "$tool" > /dev/null || skip "no command '$tool' (packages util-linux, iproute2)"
    done
    [ -c /dev/net/tun ] || skip "no /dev/net/tun (modprobe tun; in a container: --device /dev/net/tun)"
    options=(--net --mount --pid --fork --mount-proc --kill-child)
    [ "$(id -u)" = 0 ] || options=(--user --map-root-user "${options[@]}")
    why=$(unshare "${options[@]}" true 2>&1) || skip "this kernel or container does not allow new namespaces ($why)"
    exec unshare "${options[@]}" "$0" --inside "$@"
fi
shift

(: <> /dev/net/tun) 2> /dev/null || skip "this user may not open /dev/net/tun"
must mount -t tmpfs tmpfs /run
# A program without a configuration keeps its state here.
must mount -t tmpfs tmpfs /var/lib
must mkdir -p /run/netns /run/vpn-test
# An /etc of its own, with links to the host's entries and a copy of its resolv.conf: a client writes that file.
must mkdir /run/etc /run/etc/.host
must mount --rbind /etc /run/etc/.host
must mount -o remount,bind,ro /run/etc/.host
for entry in /etc/* /etc/.[!.]*; do
    name=${entry##*/}
    if [ "$name" = resolv.conf ]; then
        cat "$entry" > "/run/etc/$name" 2> /dev/null
    elif [ -L "$entry" ]; then
        must cp -P "$entry" "/run/etc/$name"
    elif [ -e "$entry" ]; then
        must ln -s ".host/$name" "/run/etc/$name"
    fi
done
must mount --rbind /run/etc /etc
must ip netns add srv
must ip link set lo up
must ip link add veth-cli type veth peer name veth-srv netns srv
must ip address add 10.200.0.2/24 dev veth-cli
must ip link set veth-cli up
must ip -n srv link set lo up
must ip -n srv address add 10.200.0.1/24 dev veth-srv
must ip -n srv link set veth-srv up
[ -z "${VPN_TEST_HOSTS:-}" ] || must mount --bind "$VPN_TEST_HOSTS" /etc/hosts
# Hide the host's settings from the tests.
unset CELLFRAME_VPN_CONFIG XDG_STATE_HOME
export VPN_TEST_BOX=1 VPN_NS_SERVER=/run/netns/srv VPN_TEST_TMP=/run/vpn-test
"$@"
# Without exec this shell stays the namespace's first process, so that the command keeps the default signal actions.
exit $?
