/* The ABI's constants, for the preprocessor and the compiler, and the source forms that legacy code relies on. */
#include "harness.h"

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_vpn_client.h>

#if DAP_CHAIN_NET_SRV_VPN_ID != 1
#error "DAP_CHAIN_NET_SRV_VPN_ID must be a number the preprocessor can compare"
#endif
#if VPN_PACKET_OP_CODE_VPN_SEND != 0xbc || VPN_PROBLEM_CODE_NO_FREE_ADDR != 1
#error "the packet codes must be numbers the preprocessor can compare"
#endif

static void numbers(void)
{
    CHECK_INT(DAP_CHAIN_NET_SRV_VPN_ID, 0x0000000000000001);
    CHECK_INT(DAP_STREAM_CH_NET_SRV_ID_VPN, 'S');
    CHECK_INT(DAP_STREAM_CH_NET_SRV_ID, 'R');
    CHECK_INT(DAP_STREAM_CH_PKT_TYPE_NET_SRV_VPN_CLIENT, 0x01);
    CHECK_INT(DAP_STREAM_CH_PKT_TYPE_NET_SRV_VPN_DATA, 0x02);
    CHECK_STR(DAP_CHAIN_NET_SRV_VPN_CDB_GDB_PREFIX, "srv.vpn");
    CHECK_INT(sizeof(DAP_CHAIN_NET_SRV_VPN_CDB_GDB_PREFIX), sizeof("srv.vpn"));
    CHECK_INT(TUN_MTU, 0xFFFF);
    CHECK_INT(VPN_PACKET_OP_CODE_CONNECTED, 0xa9);
    CHECK_INT(VPN_PACKET_OP_CODE_CONNECT, 0xaa);
    CHECK_INT(VPN_PACKET_OP_CODE_DISCONNECT, 0xab);
    CHECK_INT(VPN_PACKET_OP_CODE_SEND, 0xac);
    CHECK_INT(VPN_PACKET_OP_CODE_RECV, 0xad);
    CHECK_INT(VPN_PACKET_OP_CODE_PROBLEM, 0xae);
    CHECK_INT(VPN_PACKET_OP_CODE_VPN_METADATA, 0xb0);
    CHECK_INT(VPN_PACKET_OP_CODE_VPN_RESERVED, 0xb1);
    CHECK_INT(VPN_PACKET_OP_CODE_VPN_ADDR_REQUEST, 0xb2);
    CHECK_INT(VPN_PACKET_OP_CODE_VPN_ADDR_REPLY, 0xb3);
    CHECK_INT(VPN_PACKET_OP_CODE_VPN_SEND, 0xbc);
    CHECK_INT(VPN_PACKET_OP_CODE_VPN_RECV, 0xbd);
    CHECK_INT(VPN_PACKET_OP_CODE_PING, 0xc0);
    CHECK_INT(VPN_PACKET_OP_CODE_PONG, 0xc1);
    CHECK_INT(VPN_PROBLEM_CODE_NO_FREE_ADDR, 1);
    CHECK_INT(VPN_PROBLEM_CODE_TUNNEL_DOWN, 2);
    CHECK_INT(VPN_PROBLEM_CODE_PACKET_LOST, 3);
    CHECK_INT(VPN_PROBLEM_CODE_ALREADY_ASSIGNED_ADDR, 4);
    CHECK_INT(VPN_CLIENT_STATUS_NOT_STARTED, 0);
    CHECK_INT(VPN_CLIENT_STATUS_STARTED, 1);
    CHECK_INT(VPN_CLIENT_STATUS_STOPPED, 2);
    CHECK_INT(VPN_CLIENT_STATUS_CONN_LOST, 3);
}

static void source_forms(void)
{
    /* Each member has its offset on the wire: write it through the anonymous union, read it back as bytes. */
    union {
        dap_stream_ch_vpn_pkt_t pkt;
        unsigned char bytes[64];
    } wire;
    memset(&wire, 0, sizeof(wire));
    dap_stream_ch_vpn_pkt_t *pkt = &wire.pkt;
    pkt->header.op_code = VPN_PACKET_OP_CODE_VPN_SEND;
    pkt->header.op_data.data_size = 0x01020304;
    pkt->data[0] = 0x7f;
    CHECK_INT(wire.bytes[4], 0xbc);
    CHECK_INT(wire.bytes[12], 0x04);
    CHECK_INT(wire.bytes[15], 0x01);
    CHECK_INT(wire.bytes[20], 0x7f);
    CHECK_INT(pkt->header.op_problem.code, 0x01020304);
    CHECK_INT(pkt->header.op_connect.addr_size, 0x01020304);
    pkt->header.op_connect.port = 0xa1a2;
    CHECK(pkt->header.raw.op_data_raw == 0x0000a1a201020304u);

    dap_chain_net_srv_ch_vpn_t ch_vpn = {.usage_id = 7};
    dap_stream_ch_t ch = {.internal = &ch_vpn};
    CHECK(CH_VPN(&ch) == &ch_vpn && CH_VPN(&ch)->usage_id == 7);
    dap_chain_net_srv_vpn_tun_socket_t tun_socket = {.worker_id = 3};
    dap_events_socket_t es = {._inheritor = &tun_socket};
    dap_events_socket_t *es_ptr = &es;
    CHECK(CH_SF_TUN_SOCKET(es_ptr) == &tun_socket && CH_SF_TUN_SOCKET(es_ptr)->worker_id == 3);
    CHECK_INT(((dap_chain_net_srv_uid_t){.uint64 = DAP_CHAIN_NET_SRV_VPN_ID}).uint64, 1);
}

int main(void)
{
    numbers();
    source_forms();
    return t_result();
}
