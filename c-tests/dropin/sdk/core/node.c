/* Stands in for the node: calls each part through its C symbols and prints each result on a line, for dropin.py. */
#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_srv_vpn_cmd.h>
#include <dap_chain_net_vpn_client.h>
#include <dap_chain_net_vpn_client_tun.h>

#include "standin.h"

int main(void)
{
    printf("pre_init %d\n", dap_chain_net_srv_vpn_pre_init());
    printf("tag %s\n", standin_tag ? standin_tag : "none");
    printf("init %d\n", dap_chain_net_srv_vpn_init(NULL));
    dap_chain_net_srv_vpn_deinit();
    printf("client_start %d\n", dap_chain_net_vpn_client_start(dap_chain_net_by_name("standin"), "192.0.2.1", 8079));
    printf("client_status %d\n", (int)dap_chain_net_vpn_client_status());
    printf("tun_status %d\n", dap_chain_net_vpn_client_tun_status());
    /* The command calls the client's part. */
    char *words[] = {"vpn_client", "status", "-net", "standin", NULL};
    void *reply = NULL;
    printf("command %d\n", com_vpn_client(4, words, &reply, 1));
    printf("command_says %.*s\n", reply ? (int)strcspn(reply, "\n") : 4, reply ? (char *)reply : "none");
    free(reply);
    return 0;
}
