/* For an invalid configuration init returns the documented code, logs a line that names section, key, value and the
 * expected value, and leaves nothing behind: a valid configuration then works in the same process. Where the C module
 * ran, init starts the service, and such a line warns. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

#include <dap_chain_net_srv_vpn.h>

typedef struct mistake {
    const char *name;
    const char *server;  /* lines of [server] */
    const char *srv_vpn; /* lines of [srv_vpn] */
    int code;
    const char *key;   /* the log line names key and value; "" if there is none */
    const char *value;
} mistake_t;

#define NETWORK(address, mask) "network_address=" address "\nnetwork_mask=" mask "\n"
#define OK NETWORK("10.77.0.0", "255.255.255.0")
#define ON "enabled=true\nlisten_address=[127.0.0.1:8089]\n"

static const mistake_t MISTAKES[] = {
    {"no network", ON, "network_mask=255.255.255.0\n", -2, "network_address", ""},
    {"no mask", ON, "network_address=10.77.0.0\n", -2, "network_mask", ""},
    {"neither", ON, "net=backbone\n", -2, "network_address", ""},
    {"empty network", ON, NETWORK("", "255.255.255.0"), -2, "network_address", ""},
    {"empty mask", ON, NETWORK("10.77.0.0", ""), -2, "network_mask", ""},
    {"a prefix behind the address", ON, NETWORK("0.0.0.1/24", "255.255.255.0"), -2, "network_address", "0.0.0.1/24"},
    {"a word for the network", ON, NETWORK("home", "255.255.255.0"), -2, "network_address", "home"},
    {"an octet too large", ON, NETWORK("10.256.0.0", "255.255.255.0"), -2, "network_address", "10.256.0.0"},
    {"no address behind the server's", ON, NETWORK("10.77.0.254", "255.255.255.0"), -2, "network_address",
     "10.77.0.255"},
    {"an octet too many", ON, NETWORK("10.1.0.0.0", "255.255.255.0"), -2, "network_address", "10.1.0.0.0"},
    {"an IPv6 network", ON, NETWORK("fd00::1", "255.255.255.0"), -2, "network_address", "fd00::1"},
    {"a word for the mask", ON, NETWORK("10.77.0.0", "wide"), -2, "network_mask", "wide"},
    {"a non-contiguous mask", ON, NETWORK("10.77.0.0", "255.0.255.0"), -2, "network_mask", "255.0.255.0"},
    {"an inverted mask", ON, NETWORK("10.77.0.0", "0.0.0.255"), -2, "network_mask", "0.0.0.255"},
    {"a mask of zeros", ON, NETWORK("10.77.0.0", "0.0.0.0"), -2, "network_mask", "0.0.0.0"},
    {"a /31", ON, NETWORK("10.77.0.0", "255.255.255.254"), -2, "network_mask", "255.255.255.254"},
    {"a /32", ON, NETWORK("10.77.0.0", "255.255.255.255"), -2, "network_mask", "255.255.255.255"},
    {"the loopback", ON, NETWORK("127.0.0.0", "255.255.255.0"), -2, "network_address", "127.0.0.0"},
    {"a word for isolation", ON, OK "client_isolation=enabled\n", -2, "client_isolation", "enabled"},
    {"a list for isolation", ON, OK "client_isolation=[true,true]\n", -2, "client_isolation", "[true,true]"},
    {"nothing for isolation", ON, OK "client_isolation=\n", -2, "client_isolation", ""},
    {"a list that never ends", ON, OK "client_isolation=[true\n", -2, "client_isolation", "never closed"},
    {"isolation misspelt", ON, OK "client_isolaton=true\n", -2, "client_isolation", "misspelt"},
    {"isolation without =", ON, OK "client_isolation true\n", -2, "client_isolation", "no `=`"},
    {"a word for the free order", ON, OK "allow_free_srv=never\n", -2, "allow_free_srv", "never"},
    {"a word for the gate", ON, OK "gate=shut\n", -2, "gate", "shut"},
    {"a number for the key's proof", ON, OK "prove_key=7\n", -2, "prove_key", "7"},
    {"a word for a time", ON, OK "payment_timeout=soon\n", -2, "payment_timeout", "soon"},
    {"a time out of bounds", ON, OK "payment_timeout=4\n", -2, "payment_timeout", "4"},
    {"a unit behind a number", ON, OK "grace_bytes=1G\n", -2, "grace_bytes", "1G"},
    {"a number below its bounds", ON, OK "session_queue=1\n", -2, "session_queue", "1"},
    {"a name for a name server", ON, OK "dns=[one.one]\n", -2, "dns", "one.one"},
    {"a list for a device", ON, OK "device=[vpn0,vpn1]\n", -2, "device", "[vpn0,vpn1]"},
    {"a word for a limit", ON "max_streams=many\n", OK, -2, "[server] max_streams", "many"},
    {"a limit out of bounds", ON "idle_timeout=0\n", OK, -2, "[server] idle_timeout", "0"},
    {"a word for the server", "enabled=nein\n", OK, -2, "[server] enabled", "nein"},
    {"a list for the pin", ON, OK "[vpn_client]\nserver_pin=[sha256:00]\n", -2, "[vpn_client] server_pin", "[sha256:00]"},
    {"the server is off", "enabled=false\n", NETWORK("10.77.0.0", "255.255.255.0"), -100, "enabled", ""},
};

/* What the C module runs on. The host has 10.200.0.2/24. */
static const mistake_t TAKEN[] = {
    {"bits outside the mask", ON, NETWORK("10.77.12.0", "255.255.0.0"), 0, "network_address = 10.77.12.0",
     "10.77.12.1 in 10.77.0.0/16"},
    {"the gateway for the network", ON, NETWORK("10.77.0.1", "255.255.255.0"), 0, "network_address = 10.77.0.1",
     "10.77.0.1 in 10.77.0.0/24"},
    {"a host for the network", ON, NETWORK("10.77.0.4", "255.255.255.0"), 0, "network_address = 10.77.0.4",
     "10.77.0.5 in 10.77.0.0/24"},
    {"three numbers", ON, NETWORK("10.77.0", "255.255.255.0"), 0, "network_address = 10.77.0:", "10.77.0.0"},
    {"an octal number", ON, NETWORK("012.77.0.0", "255.255.255.0"), 0, "network_address = 012.77.0.0", "10.77.0.0"},
    {"a hexadecimal mask", ON, NETWORK("10.77.0.0", "0xffffff00"), 0, "network_mask = 0xffffff00", "255.255.255.0"},
    {"the host's own network", ON, NETWORK("10.200.0.0", "255.255.255.0"), 0, "network_address = 10.200.0.0",
     "10.200.0.2/24 on veth-cli"},
    {"a network around the host's", ON, NETWORK("10.192.0.0", "255.240.0.0"), 0, "network_address = 10.192.0.0",
     "10.200.0.2/24 on veth-cli"},
    {"a network inside the host's", ON, NETWORK("10.200.0.0", "255.255.255.252"), 0, "network_address = 10.200.0.0",
     "10.200.0.2/24 on veth-cli"},
    {"a key without effect", ON, NETWORK("10.77.0.0", "255.255.255.0") "auto_cpu_reassignment=true\n", 0,
     "auto_cpu_reassignment = true", "no effect"},
};

static dap_config_t *open_config(const char *name, const char *server, const char *srv_vpn)
{
    char text[1024];
    snprintf(text, sizeof(text), "[general]\nstate_dir=%s\n[server]\n%s[srv_vpn]\nenabled=true\n%s", t_path("state"),
             server, srv_vpn);
    dap_config_t *config = dap_config_open(t_write_file(name, text));
    if (!CHECK(config != NULL))
        exit(1);
    return config;
}

static void good_one(void)
{
    dap_config_t *config = open_config("good.cfg", ON, NETWORK("10.77.0.0", "255.255.255.0"));
    CHECK_INT(dap_chain_net_srv_vpn_init(config), 0);
    CHECK_INT(t_tun_devices(), 1);
    dap_chain_net_srv_vpn_deinit();
    CHECK_INT(t_tun_devices(), 0);
    dap_config_close(config);
}

/* The number of lines of this level that name the mistake. */
static int lines_that_name(char *log, const mistake_t *mistake, const char *level)
{
    int count = 0;
    for (char *line = strtok(log, "\n"); line; line = strtok(NULL, "\n")) {
        /* A key of another section names it itself. */
        const char *section = mistake->code == -100 ? "[server]" : *mistake->key == '[' ? "" : "[srv_vpn]";
        count += strstr(line, level) && strstr(line, section) && strstr(line, mistake->key)
            && strstr(line, mistake->value) && strstr(line, "expected");
    }
    return count;
}

static void one_mistake(void *arg)
{
    const mistake_t *mistake = arg;
    t_context("%s", mistake->name);
    dap_config_t *config = open_config("bad.cfg", mistake->server, mistake->srv_vpn);
    t_usage_t before = t_usage();
    t_capture_begin();
    int code = dap_chain_net_srv_vpn_init(config);
    char *log = t_capture_end();
    CHECK_INT(code, mistake->code);
    CHECK_USAGE(before);
    char *copy = strdup(log);
    if (!CHECK(copy && lines_that_name(copy, mistake, " ERROR ") > 0))
        t_note("  expected one line with the section, '%s', '%s' and 'expected'; logged:\n%s", mistake->key,
               mistake->value, log);
    free(copy);
    free(log);
    dap_chain_net_srv_vpn_deinit();
    dap_config_close(config);
    good_one();
}

static void one_taken(void *arg)
{
    const mistake_t *mistake = arg;
    t_context("%s", mistake->name);
    dap_config_t *config = open_config("taken.cfg", mistake->server, mistake->srv_vpn);
    t_capture_begin();
    int code = dap_chain_net_srv_vpn_init(config);
    char *log = t_capture_end();
    CHECK_INT(code, 0);
    CHECK_INT(t_tun_devices(), 1);
    char *copy = strdup(log);
    if (!CHECK(copy && lines_that_name(copy, mistake, " WARN ") == 1))
        t_note("  expected one warning with the section, '%s', '%s' and 'expected'; logged:\n%s", mistake->key,
               mistake->value, log);
    free(copy);
    free(log);
    dap_chain_net_srv_vpn_deinit();
    CHECK_INT(t_tun_devices(), 0);
    dap_config_close(config);
}

int main(void)
{
    t_need_box();
    size_t count = sizeof(MISTAKES) / sizeof(MISTAKES[0]);
    for (size_t i = 0; i < count; i++)
        t_in_child(MISTAKES[i].name, one_mistake, (void *)&MISTAKES[i]);
    size_t taken = sizeof(TAKEN) / sizeof(TAKEN[0]);
    for (size_t i = 0; i < taken; i++)
        t_in_child(TAKEN[i].name, one_taken, (void *)&TAKEN[i]);
    t_note("%zu invalid configurations, %zu that are taken with a warning", count, taken);
    return t_result();
}
