/* The client's TUN functions: their codes, and the devices that they create. */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <dap_chain_net_vpn_client_tun.h>

extern int tun_device_create(char *dev);
extern void save_current_connection_interface_data(char **name, char **device);
extern void disableIPV6(const char *device);
extern void enableIPV6(const char *device);

/* Finds the device that carries this address; false if none does. */
static bool device_of(const char *address, char name[IF_NAMESIZE])
{
    struct ifaddrs *all = NULL;
    bool found = false;
    if (getifaddrs(&all) != 0)
        return false;
    for (struct ifaddrs *each = all; each && !found; each = each->ifa_next) {
        if (!each->ifa_addr || each->ifa_addr->sa_family != AF_INET)
            continue;
        char text[INET_ADDRSTRLEN];
        inet_ntop(AF_INET, &((struct sockaddr_in *)each->ifa_addr)->sin_addr, text, sizeof(text));
        found = strcmp(text, address) == 0;
        if (found)
            snprintf(name, IF_NAMESIZE, "%s", each->ifa_name);
    }
    freeifaddrs(all);
    return found;
}

/* Whether the device has exactly the route to this network in the kernel's list (proc(5), /proc/net/route), and no other. */
static bool is_routed(const char *device, const char *network, const char *mask)
{
    char line[256];
    int routes = 0, others = 0;
    FILE *file = fopen("/proc/net/route", "r");
    CHECK(file != NULL);
    while (file && fgets(line, sizeof(line), file)) {
        char name[IF_NAMESIZE];
        unsigned destination, netmask;
        if (sscanf(line, "%15s %x %*x %*x %*d %*d %*d %x", name, &destination, &netmask) != 3 || strcmp(name, device))
            continue;
        bool fits = destination == inet_addr(network) && netmask == inet_addr(mask);
        routes += fits;
        others += !fits;
    }
    if (file)
        fclose(file);
    return routes == 1 && others == 0;
}

static void set_down(const char *device)
{
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK_INT(ioctl(fd, SIOCGIFFLAGS, &request), 0);
    request.ifr_flags &= (short)~IFF_UP;
    CHECK_INT(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
}

static void nothing_there(void)
{
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), -1);
    CHECK(dap_chain_net_vpn_client_tun_get_esock() == NULL);
    CHECK_INT(t_tun_devices(), 0);
}

static void around_init(void)
{
    t_context("before tun_init");
    nothing_there();
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", NULL), -1);
    CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    nothing_there();
    t_context("before tun_init, with a gateway");
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", "10.66.0.1"), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    nothing_there();
    t_context("after tun_init, with its gateway");
    CHECK_INT(dap_chain_net_vpn_client_tun_init("10.66.0.1"), 0);
    nothing_there();
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", NULL), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
}

static void bad_addresses(void)
{
    static const char *const BAD[] = {"", " ", "10.66.0", "10.66.0.256", "10.66.0.2/24", "ten", "::1", "-1.2.3.4",
                                      "10.66.0.2 ", "1.2.3.4.5"};
    char *endless = malloc(100001);
    memset(endless, '9', 100000);
    endless[100000] = 0;
    for (size_t i = 0; i <= sizeof(BAD) / sizeof(BAD[0]); i++) {
        const char *bad = i < sizeof(BAD) / sizeof(BAD[0]) ? BAD[i] : endless;
        t_context("address '%.20s'", bad);
        CHECK_INT(dap_chain_net_vpn_client_tun_init(bad), -1);
        CHECK_INT(dap_chain_net_vpn_client_tun_init("10.66.0.1"), 0);
        CHECK_INT(dap_chain_net_vpn_client_tun_create(bad, "10.66.0.1"), -1);
        CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", bad), -1);
        nothing_there();
    }
    free(endless);
    t_context("a multicast address");
    CHECK_INT(dap_chain_net_vpn_client_tun_create("224.0.0.1", "10.66.0.1"), -1);
    t_context("a gateway that shares no /8 with the address");
    CHECK_INT(dap_chain_net_vpn_client_tun_create("198.18.0.5", "9.9.9.9"), -1);
    t_context("one address for both");
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", "10.66.0.2"), -1);
    t_context("no address at all");
    CHECK_INT(dap_chain_net_vpn_client_tun_create("0.0.0.0", "10.66.0.1"), -1);
    nothing_there();
}

static void life_of_a_device(void)
{
    char name[IF_NAMESIZE] = "";
    t_context("first device");
    CHECK_INT(dap_chain_net_vpn_client_tun_init("10.66.0.1"), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", "10.66.0.1"), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
    dap_events_socket_t *es = dap_chain_net_vpn_client_tun_get_esock();
    CHECK(es != NULL);
    CHECK_INT(t_tun_devices(), 1);
    CHECK(device_of("10.66.0.2", name));
    CHECK(is_routed(name, "10.66.0.0", "255.255.255.0"));

    t_context("created again: the second replaces the first");
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.3", "10.66.0.1"), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
    CHECK_INT(t_tun_devices(), 1);
    char again[IF_NAMESIZE] = "";
    CHECK(!device_of("10.66.0.2", again));
    CHECK(device_of("10.66.0.3", again));
    CHECK_STR(again, name);

    es = dap_chain_net_vpn_client_tun_get_esock();
    /* 10.200.0.2/24 is this host's; the names of the devices tell whether the old one was touched. */
    static const struct { const char *address, *gateway; int code; } REFUSED[] = {
        {"10.200.0.9", "10.200.0.1", -2}, {"198.18.0.5", "9.9.9.9", -1}, {"10.66.0.4", "10.66.0.4", -1}};
    for (size_t i = 0; i < sizeof(REFUSED) / sizeof(REFUSED[0]); i++) {
        t_context("a create that returns %d leaves the device as it was", REFUSED[i].code);
        unsigned index = if_nametoindex(name);
        CHECK_INT(dap_chain_net_vpn_client_tun_create(REFUSED[i].address, REFUSED[i].gateway), REFUSED[i].code);
        CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
        CHECK(dap_chain_net_vpn_client_tun_get_esock() == es);
        CHECK(device_of("10.66.0.3", again));
        CHECK(index != 0 && if_nametoindex(name) == index);
    }
    t_context("created again with the same addresses: the device stays");
    unsigned index = if_nametoindex(name);
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.3", "10.66.0.1"), 0);
    CHECK(if_nametoindex(name) == index && dap_chain_net_vpn_client_tun_get_esock() != NULL);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);

    t_context("a gateway in another /24: the smallest subnet with both is routed");
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.3", "10.67.0.1"), 0);
    CHECK(device_of("10.66.0.3", again));
    CHECK_STR(again, name);
    CHECK(is_routed(name, "10.66.0.0", "255.254.0.0"));

    t_context("set down: created but not active");
    set_down(name);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 1);

    t_context("deleted");
    CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    nothing_there();
    CHECK(!device_of("10.66.0.3", name));
    t_context("deleted twice");
    CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    nothing_there();
}

/* Somebody else removes the device. */
static void deleted_from_outside(void)
{
    char name[IF_NAMESIZE] = "", command[64];
    t_context("deleted from outside");
    t_usage_t before = t_usage();
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", "10.66.0.1"), 0);
    CHECK(device_of("10.66.0.2", name));
    snprintf(command, sizeof(command), "ip link del %s", name);
    CHECK_INT(system(command), 0);
    for (int i = 0; i < 100 && dap_chain_net_vpn_client_tun_get_esock(); i++)
        t_sleep_ms(10);
    nothing_there();
    t_context("created after that");
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", "10.66.0.1"), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_status(), 0);
    CHECK(dap_chain_net_vpn_client_tun_get_esock() != NULL);
    CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    nothing_there();
    CHECK_USAGE(before);
}

/* The program's releases take nothing from the library. */
static void surplus_releases(void)
{
    t_context("surplus releases");
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", "10.66.0.1"), 0);
    dap_events_socket_t *es = dap_chain_net_vpn_client_tun_get_esock();
    CHECK_INT(dap_embedded_retain(), 0);
    for (int i = 0; i < 3; i++)
        dap_embedded_release();
    CHECK_INT(dap_events_thread_get_count(), 2);
    CHECK(es != NULL && dap_chain_net_vpn_client_tun_get_esock() == es);
    CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    CHECK_INT(dap_events_thread_get_count(), 0);
    t_context("a retain of the program outlives the device");
    CHECK_INT(dap_embedded_retain(), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", "10.66.0.1"), 0);
    CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    CHECK_INT(dap_events_thread_get_count(), 2);
    dap_embedded_release();
    CHECK_INT(dap_events_thread_get_count(), 0);
}

static void rounds(void)
{
    t_usage_t before = t_usage();
    for (int i = 0; i < 50; i++) {
        t_context("round %d", i);
        CHECK_INT(dap_chain_net_vpn_client_tun_init("10.66.0.1"), 0);
        CHECK_INT(dap_chain_net_vpn_client_tun_create("10.66.0.2", "10.66.0.1"), 0);
        CHECK_INT(dap_chain_net_vpn_client_tun_delete(), 0);
    }
    CHECK_USAGE(before);
}

static char ipv6_switch(const char *device)
{
    char path[128], value = '?';
    snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", device);
    FILE *file = fopen(path, "r");
    if (file && fread(&value, 1, 1, file) != 1)
        value = '?';
    if (file)
        fclose(file);
    return value;
}

/* The legacy helpers that no header declares, with their legacy prototypes. */
static void helpers(void)
{
    t_context("helpers");
    char name[IF_NAMESIZE] = "tun7";
    int fd = tun_device_create(name);
    CHECK(fd >= 0);
    CHECK_STR(name, "tun7");
    CHECK(if_nametoindex("tun7") != 0);
    CHECK(tun_device_create(name) < 0);
    CHECK_INT(close(fd), 0);
    CHECK(if_nametoindex("tun7") == 0);
    char any[IF_NAMESIZE] = "";
    fd = tun_device_create(any);
    CHECK(fd >= 0);
    CHECK(if_nametoindex(any) != 0);
    CHECK_INT(close(fd), 0);
    CHECK_INT(tun_device_create(NULL), -EINVAL);
    nothing_there();

    if (ipv6_switch("veth-cli") != '?') {
        disableIPV6("veth-cli");
        CHECK_INT(ipv6_switch("veth-cli"), '1');
        enableIPV6("veth-cli");
        CHECK_INT(ipv6_switch("veth-cli"), '0');
    }
    char lo_before = ipv6_switch("lo");
    disableIPV6("../conf/lo");
    disableIPV6("no-such-device");
    disableIPV6("lo/../lo");
    CHECK_INT(ipv6_switch("lo"), lo_before);

    char *connection = NULL, *device = NULL;
    save_current_connection_interface_data(&connection, &device);
    CHECK(device == NULL || if_nametoindex(device) != 0);
    free(connection);
    free(device);
}

int main(void)
{
    t_need_box();
    setenv("CELLFRAME_VPN_CONFIG", t_server_config("tun"), 1);
    CHECK(dap_config_default() != NULL);
    around_init();
    bad_addresses();
    life_of_a_device();
    deleted_from_outside();
    surplus_releases();
    rounds();
    helpers();
    return t_result();
}
