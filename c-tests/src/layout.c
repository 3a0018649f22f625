/* The sizes, alignments and offsets of the C ABI on x86-64 Linux: checked by the compiler, as C11 and as C++17. */
#include <stddef.h>
#include <stdio.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_srv_vpn_cmd.h>
#include <dap_chain_net_vpn_client.h>
#include <dap_chain_net_vpn_client_tun.h>

#ifdef __cplusplus
#define ASSERT(condition) static_assert(condition, #condition)
#define ALIGN(type) alignof(type)
#else
#define ASSERT(condition) _Static_assert(condition, #condition)
#define ALIGN(type) _Alignof(type)
#endif
#define TYPE(type, size, align) \
    ASSERT(sizeof(type) == (size)); \
    ASSERT(ALIGN(type) == (align))
#define AT(type, member, offset) ASSERT(offsetof(type, member) == (offset))

TYPE(dap_stream_ch_vpn_pkt_t, 20, 1);
AT(dap_stream_ch_vpn_pkt_t, header.sock_id, 0);
AT(dap_stream_ch_vpn_pkt_t, header.op_code, 4);
AT(dap_stream_ch_vpn_pkt_t, header.usage_id, 8);
AT(dap_stream_ch_vpn_pkt_t, header.op_connect.addr_size, 12);
AT(dap_stream_ch_vpn_pkt_t, header.op_connect.port, 16);
AT(dap_stream_ch_vpn_pkt_t, header.op_data.data_size, 12);
AT(dap_stream_ch_vpn_pkt_t, header.op_problem.code, 12);
AT(dap_stream_ch_vpn_pkt_t, header.raw.op_data_raw, 12);
AT(dap_stream_ch_vpn_pkt_t, data, 20);
ASSERT(sizeof(((dap_stream_ch_vpn_pkt_t *)0)->header) == 20);
ASSERT(sizeof(((dap_stream_ch_vpn_pkt_t *)0)->header.sock_id) == 4);
ASSERT(sizeof(((dap_stream_ch_vpn_pkt_t *)0)->header.op_connect.port) == 2);
ASSERT(sizeof(((dap_stream_ch_vpn_pkt_t *)0)->header.op_data.data_size) == 4);
ASSERT(sizeof(((dap_stream_ch_vpn_pkt_t *)0)->header.raw.op_data_raw) == 8);

TYPE(dap_chain_net_srv_vpn_tun_socket_t, 48, 8);
AT(dap_chain_net_srv_vpn_tun_socket_t, worker_id, 0);
AT(dap_chain_net_srv_vpn_tun_socket_t, worker, 8);
AT(dap_chain_net_srv_vpn_tun_socket_t, es, 16);
AT(dap_chain_net_srv_vpn_tun_socket_t, clients, 24);
AT(dap_chain_net_srv_vpn_tun_socket_t, queue_tun_msg_input, 32);
AT(dap_chain_net_srv_vpn_tun_socket_t, buf_size_aux, 40);

TYPE(dap_chain_net_srv_ch_vpn_t, 104, 8);
AT(dap_chain_net_srv_ch_vpn_t, usage_id, 0);
AT(dap_chain_net_srv_ch_vpn_t, net_srv, 8);
AT(dap_chain_net_srv_ch_vpn_t, is_allowed, 16);
AT(dap_chain_net_srv_ch_vpn_t, tun_socket, 24);
AT(dap_chain_net_srv_ch_vpn_t, addr_ipv4, 32);
AT(dap_chain_net_srv_ch_vpn_t, ch, 40);
AT(dap_chain_net_srv_ch_vpn_t, hh, 48);

TYPE(dap_chain_net_srv_ch_vpn_info_t, 120, 8);
AT(dap_chain_net_srv_ch_vpn_info_t, addr_ipv4, 0);
AT(dap_chain_net_srv_ch_vpn_info_t, is_on_this_worker, 4);
AT(dap_chain_net_srv_ch_vpn_info_t, is_reassigned_once, 5);
AT(dap_chain_net_srv_ch_vpn_info_t, usage_id, 8);
AT(dap_chain_net_srv_ch_vpn_info_t, ch_vpn, 16);
AT(dap_chain_net_srv_ch_vpn_info_t, ch_vpn_uuid, 24);
AT(dap_chain_net_srv_ch_vpn_info_t, queue_msg, 32);
AT(dap_chain_net_srv_ch_vpn_info_t, worker, 40);
AT(dap_chain_net_srv_ch_vpn_info_t, esocket, 48);
AT(dap_chain_net_srv_ch_vpn_info_t, esocket_uuid, 56);
AT(dap_chain_net_srv_ch_vpn_info_t, hh, 64);

TYPE(dap_chain_net_srv_vpn_item_ipv4_t, 16, 8);
AT(dap_chain_net_srv_vpn_item_ipv4_t, addr, 0);
AT(dap_chain_net_srv_vpn_item_ipv4_t, next, 8);

TYPE(dap_chain_net_srv_vpn_t, 24, 8);
AT(dap_chain_net_srv_vpn_t, ipv4_unleased, 0);
AT(dap_chain_net_srv_vpn_t, ch_vpn_ipv4, 8);
AT(dap_chain_net_srv_vpn_t, parent, 16);

TYPE(dap_chain_net_vpn_client_status_t, 4, 4);
TYPE(UT_hash_handle, 56, 8);

TYPE(dap_stream_ch_pkt_hdr_t, 16, 1);
AT(dap_stream_ch_pkt_hdr_t, id, 0);
AT(dap_stream_ch_pkt_hdr_t, enc_type, 1);
AT(dap_stream_ch_pkt_hdr_t, type, 2);
AT(dap_stream_ch_pkt_hdr_t, padding, 3);
AT(dap_stream_ch_pkt_hdr_t, seq_id, 4);
AT(dap_stream_ch_pkt_hdr_t, data_size, 12);

TYPE(dap_stream_ch_chain_net_srv_remain_service_store_t, 16, 8);
AT(dap_stream_ch_chain_net_srv_remain_service_store_t, limits_bytes, 0);
AT(dap_stream_ch_chain_net_srv_remain_service_store_t, limits_ts, 8);

int main(void)
{
    puts("the layouts are those of the ABI: this file compiled");
    return 0;
}
