/* Cellframe networks. */
#include "internal.h"
#include "dap_chain_net.h"

struct dap_chain_net *vpn_glue_net_by_name(const char *name)
{
    return dap_chain_net_by_name(name);
}

struct dap_chain_net *vpn_glue_net_by_id(uint64_t id)
{
    dap_chain_net_id_t net_id;
    memset(&net_id, 0, sizeof(net_id));
    net_id.uint64 = id;
    return dap_chain_net_by_id(net_id);
}

uint64_t vpn_glue_net_id(const struct dap_chain_net *net)
{
    return net->pub.id.uint64;
}

const char *vpn_glue_net_name(const struct dap_chain_net *net)
{
    return net->pub.name;
}

const char *vpn_glue_net_store_prefix(const struct dap_chain_net *net)
{
    return net->pub.gdb_groups_prefix;
}
