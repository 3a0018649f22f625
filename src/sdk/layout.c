/* The sizes, alignments and offsets of the C ABI on 64-bit Linux, as C11 and as C++17. This file only has to
 * compile, with the headers of the linked SDK. sdk/visible.rs asserts the same in Rust. */
#include <stddef.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_srv_vpn_cmd.h>
#include <dap_chain_net_vpn_client.h>
#include <dap_chain_net_vpn_client_tun.h>
#include <dap_stream_ch_chain_net_srv_pkt.h>

#ifdef __cplusplus
#define VPN_ASSERT(condition) static_assert(condition, #condition)
#define VPN_ALIGN_OF(type) alignof(type)
#else
#define VPN_ASSERT(condition) _Static_assert(condition, #condition)
#define VPN_ALIGN_OF(type) _Alignof(type)
#endif
#define VPN_TYPE(type, size, align) \
    VPN_ASSERT(sizeof(type) == (size)); \
    VPN_ASSERT(VPN_ALIGN_OF(type) == (align))
#define VPN_AT(type, member, offset) VPN_ASSERT(offsetof(type, member) == (offset))

VPN_TYPE(dap_stream_ch_vpn_pkt_t, 20, 1);
VPN_AT(dap_stream_ch_vpn_pkt_t, header.sock_id, 0);
VPN_AT(dap_stream_ch_vpn_pkt_t, header.op_code, 4);
VPN_AT(dap_stream_ch_vpn_pkt_t, header.usage_id, 8);
VPN_AT(dap_stream_ch_vpn_pkt_t, header.op_connect.addr_size, 12);
VPN_AT(dap_stream_ch_vpn_pkt_t, header.op_connect.port, 16);
VPN_AT(dap_stream_ch_vpn_pkt_t, header.op_data.data_size, 12);
VPN_AT(dap_stream_ch_vpn_pkt_t, header.op_problem.code, 12);
VPN_AT(dap_stream_ch_vpn_pkt_t, header.raw.op_data_raw, 12);
VPN_AT(dap_stream_ch_vpn_pkt_t, data, 20);
VPN_ASSERT(sizeof(((dap_stream_ch_vpn_pkt_t *)0)->header) == 20);
VPN_ASSERT(sizeof(((dap_stream_ch_vpn_pkt_t *)0)->header.sock_id) == 4);
VPN_ASSERT(sizeof(((dap_stream_ch_vpn_pkt_t *)0)->header.op_connect.port) == 2);
VPN_ASSERT(sizeof(((dap_stream_ch_vpn_pkt_t *)0)->header.op_data.data_size) == 4);
VPN_ASSERT(sizeof(((dap_stream_ch_vpn_pkt_t *)0)->header.raw.op_data_raw) == 8);

VPN_TYPE(dap_chain_net_srv_vpn_tun_socket_t, 48, 8);
VPN_AT(dap_chain_net_srv_vpn_tun_socket_t, worker_id, 0);
VPN_AT(dap_chain_net_srv_vpn_tun_socket_t, worker, 8);
VPN_AT(dap_chain_net_srv_vpn_tun_socket_t, es, 16);
VPN_AT(dap_chain_net_srv_vpn_tun_socket_t, clients, 24);
VPN_AT(dap_chain_net_srv_vpn_tun_socket_t, queue_tun_msg_input, 32);
VPN_AT(dap_chain_net_srv_vpn_tun_socket_t, buf_size_aux, 40);

VPN_TYPE(dap_chain_net_srv_ch_vpn_t, 104, 8);
VPN_AT(dap_chain_net_srv_ch_vpn_t, usage_id, 0);
VPN_AT(dap_chain_net_srv_ch_vpn_t, net_srv, 8);
VPN_AT(dap_chain_net_srv_ch_vpn_t, is_allowed, 16);
VPN_AT(dap_chain_net_srv_ch_vpn_t, tun_socket, 24);
VPN_AT(dap_chain_net_srv_ch_vpn_t, addr_ipv4, 32);
VPN_AT(dap_chain_net_srv_ch_vpn_t, ch, 40);
VPN_AT(dap_chain_net_srv_ch_vpn_t, hh, 48);

VPN_TYPE(dap_chain_net_srv_ch_vpn_info_t, 120, 8);
VPN_AT(dap_chain_net_srv_ch_vpn_info_t, addr_ipv4, 0);
VPN_AT(dap_chain_net_srv_ch_vpn_info_t, is_on_this_worker, 4);
VPN_AT(dap_chain_net_srv_ch_vpn_info_t, is_reassigned_once, 5);
VPN_AT(dap_chain_net_srv_ch_vpn_info_t, usage_id, 8);
VPN_AT(dap_chain_net_srv_ch_vpn_info_t, ch_vpn, 16);
VPN_AT(dap_chain_net_srv_ch_vpn_info_t, ch_vpn_uuid, 24);
VPN_AT(dap_chain_net_srv_ch_vpn_info_t, queue_msg, 32);
VPN_AT(dap_chain_net_srv_ch_vpn_info_t, worker, 40);
VPN_AT(dap_chain_net_srv_ch_vpn_info_t, esocket, 48);
VPN_AT(dap_chain_net_srv_ch_vpn_info_t, esocket_uuid, 56);
VPN_AT(dap_chain_net_srv_ch_vpn_info_t, hh, 64);

VPN_TYPE(dap_chain_net_srv_vpn_item_ipv4_t, 16, 8);
VPN_AT(dap_chain_net_srv_vpn_item_ipv4_t, addr, 0);
VPN_AT(dap_chain_net_srv_vpn_item_ipv4_t, next, 8);

VPN_TYPE(dap_chain_net_srv_vpn_t, 24, 8);
VPN_AT(dap_chain_net_srv_vpn_t, ipv4_unleased, 0);
VPN_AT(dap_chain_net_srv_vpn_t, ch_vpn_ipv4, 8);
VPN_AT(dap_chain_net_srv_vpn_t, parent, 16);

VPN_TYPE(dap_chain_net_vpn_client_status_t, 4, 4);
VPN_TYPE(UT_hash_handle, 56, 8);

VPN_TYPE(dap_stream_ch_pkt_hdr_t, 16, 1);
VPN_AT(dap_stream_ch_pkt_hdr_t, id, 0);
VPN_AT(dap_stream_ch_pkt_hdr_t, enc_type, 1);
VPN_AT(dap_stream_ch_pkt_hdr_t, type, 2);
VPN_AT(dap_stream_ch_pkt_hdr_t, padding, 3);
VPN_AT(dap_stream_ch_pkt_hdr_t, seq_id, 4);
VPN_AT(dap_stream_ch_pkt_hdr_t, data_size, 12);

VPN_TYPE(dap_stream_ch_chain_net_srv_remain_service_store_t, 16, 8);
VPN_AT(dap_stream_ch_chain_net_srv_remain_service_store_t, limits_bytes, 0);
VPN_AT(dap_stream_ch_chain_net_srv_remain_service_store_t, limits_ts, 8);
