/* Calls every function of the embedded SDK with NULL and zero for each argument. It must return, with any value.
 *
 * `embedded_null NAME...` calls each named function in a process of its own, first in one that has started nothing,
 * then in one whose VPN service is up. scripts/symbols.py --embedded lists the names. */
#include "harness.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <dap_chain_net_srv_vpn.h>

enum { PATIENCE_S = 10 };

/* Pointers, integers and the small structs of this header are passed in integer registers, so six zeros are enough for
 * each of these functions (System V ABI, x86-64). */
typedef long (*function_t)(long, long, long, long, long, long);

typedef struct call {
    const char *name;
    bool running;
} call_t;

static void call(void *arg)
{
    const call_t *which = arg;
    alarm(PATIENCE_S);
    if (which->running) {
        setenv("CELLFRAME_VPN_CONFIG", t_server_config("embedded"), 1);
        CHECK_INT(dap_chain_net_srv_vpn_init(dap_config_default()), 0);
    }
    union {
        void *address;
        function_t function;
    } entry = {.address = dlsym(RTLD_DEFAULT, which->name)};
    if (!CHECK(entry.address != NULL))
        return;
    entry.function(0, 0, 0, 0, 0, 0);
    entry.function(0, 0, 0, 0, 0, 0);
    if (which->running)
        dap_chain_net_srv_vpn_deinit();
}

int main(int argc, char **argv)
{
    t_need_box();
    CHECK_BETWEEN(argc - 1, 20, 1000);
    for (int i = 1; i < argc; i++) {
        for (int running = 0; running < 2; running++) {
            call_t which = {.name = argv[i], .running = running};
            t_context("%s", running ? "the service up" : "nothing started");
            t_in_child(argv[i], call, &which);
            CHECK_INT(t_tun_devices(), 0);
        }
    }
    t_note("%d functions", argc - 1);
    return t_result();
}
