// The headers in C++: linkage, the packet's anonymous union, and the macros.
#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_srv_vpn_cmd.h>
#include <dap_chain_net_vpn_client.h>
#include <dap_chain_net_vpn_client_tun.h>

#include <cstdio>
#include <type_traits>

static_assert(std::is_same<decltype(&dap_chain_net_vpn_client_status), dap_chain_net_vpn_client_status_t (*)()>::value,
              "the status function's type");

int main()
{
    dap_stream_ch_vpn_pkt_t packet{};
    packet.header.op_data.data_size = 7;
    dap_chain_net_srv_ch_vpn_t ch_vpn{};
    dap_stream_ch_t ch{};
    ch.internal = &ch_vpn;
    void *functions[] = {
        reinterpret_cast<void *>(&dap_chain_net_srv_vpn_pre_init),
        reinterpret_cast<void *>(&dap_chain_net_srv_vpn_init),
        reinterpret_cast<void *>(&dap_chain_net_srv_vpn_deinit),
        reinterpret_cast<void *>(&com_vpn_statistics),
        reinterpret_cast<void *>(&com_vpn_client),
        reinterpret_cast<void *>(&dap_chain_net_vpn_client_pkt_in),
        reinterpret_cast<void *>(&ch_sf_tun_addr_leased),
        reinterpret_cast<void *>(&dap_config_default),
    };
    for (void *function : functions) {
        if (!function)
            return 1;
    }
    bool right = packet.header.op_problem.code == 7 && CH_VPN(&ch) == &ch_vpn
        && dap_chain_net_vpn_client_status() == VPN_CLIENT_STATUS_NOT_STARTED
        && dap_chain_net_vpn_client_get_stream_ch() == nullptr && dap_chain_net_vpn_client_start(nullptr, nullptr, 0) == -1;
    log_it_info("called from C++: %s", right ? "right" : "wrong");
    std::puts(right ? "ok" : "FAIL");
    return right ? 0 : 1;
}
