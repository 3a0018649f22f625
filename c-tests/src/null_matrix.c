/* Calls every export with each pointer argument NULL and checks the documented code and log line, or NULL's meaning.
 *
 * `null_matrix bare` runs before any init; `null_matrix around` before init, between init and deinit, and after. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_srv_vpn_cmd.h>
#include <dap_chain_net_vpn_client.h>
#include <dap_chain_net_vpn_client_tun.h>

/* Legacy helpers that no header declares. */
extern int tun_device_create(char *dev);
extern void save_current_connection_interface_data(char **name, char **device);
extern void disableIPV6(const char *device);
extern void enableIPV6(const char *device);
extern void m_client_tun_new(dap_events_socket_t *es, void *arg);

static const char *s_phase;
static int s_tuns_of_host;

static void begin(const char *call)
{
    t_context("%s, %s", call, s_phase);
    t_capture_begin();
}

static void end(int lines)
{
    char *log = t_capture_end();
    if (!CHECK_INT(t_count_lines(log), lines))
        t_note("  logged: %s", log);
    free(log);
    t_context("%s", "");
}

/* RESULT(expected, log lines, call): the call returns exactly that. */
#define RESULT(expected, lines, call) \
    do { \
        begin(#call); \
        long long got = (long long)(call); \
        end(lines); \
        t_context("%s", s_phase); \
        t_check_int(got, (expected), __FILE__, __LINE__, #call); \
    } while (0)
#define RETURNS(lines, call) \
    do { \
        begin(#call); \
        call; \
        end(lines); \
    } while (0)

static void client(dap_chain_net_t *net)
{
    static const char host[] = "127.0.0.1";
    RESULT(-1, 1, dap_chain_net_vpn_client_start(NULL, host, 1));
    RESULT(-1, 1, dap_chain_net_vpn_client_start(net, NULL, 1));
    RESULT(-1, 1, dap_chain_net_vpn_client_start(NULL, NULL, 0));
    RESULT(-1, 1, dap_chain_net_vpn_client_start(net, "", 1));
    RESULT(-1, 1, dap_chain_net_vpn_client_start(net, host, 0));
    RESULT(-1, 1, dap_chain_net_vpn_client_check(NULL, host, 1, 16, 16, 100));
    RESULT(-1, 1, dap_chain_net_vpn_client_check(net, NULL, 1, 16, 16, 100));
    RESULT(-1, 1, dap_chain_net_vpn_client_check(net, "", 1, 16, 16, 100));
    RESULT(-1, 1, dap_chain_net_vpn_client_check(net, host, 0, 16, 16, 100));
    RESULT(0, 1, dap_chain_net_vpn_client_check_result(NULL, "hex"));
    RESULT(0, 1, dap_chain_net_vpn_client_check_result(net, NULL));
    RESULT(-1, 1, dap_chain_net_vpn_client_update(NULL, "wallet", "TOKEN", 1));
    RESULT(-1, 1, dap_chain_net_vpn_client_update(net, NULL, "TOKEN", 1));
    RESULT(-1, 1, dap_chain_net_vpn_client_update(net, "wallet", NULL, 1));
    char *text = NULL;
    uint64_t value = 0;
    RESULT(-1, 1, dap_chain_net_vpn_client_get_wallet_info(NULL, &text, &text, &value));
    CHECK(text == NULL);
    if (getenv("VPN_TEST_BOX")) /* this call reads the store, which outside the box is the host's */
        RESULT(0, 0, dap_chain_net_vpn_client_get_wallet_info(net, NULL, NULL, NULL));
    RETURNS(0, dap_chain_net_vpn_client_set_order_state_callback(NULL));
    RETURNS(1, dap_chain_net_vpn_client_pkt_in(NULL, NULL));
    dap_stream_ch_t ch;
    dap_stream_ch_pkt_t pkt;
    memset(&ch, 0, sizeof(ch));
    memset(&pkt, 0, sizeof(pkt));
    RETURNS(1, dap_chain_net_vpn_client_pkt_in(&ch, NULL));
    RETURNS(1, dap_chain_net_vpn_client_pkt_in(NULL, &pkt));
    RETURNS(1, dap_chain_net_vpn_client_pkt_out(NULL));
}

static void tun(void)
{
    RESULT(-1, 1, dap_chain_net_vpn_client_tun_init(NULL));
    RESULT(-1, 1, dap_chain_net_vpn_client_tun_create(NULL, "10.66.0.1"));
    RESULT(-1, 1, dap_chain_net_vpn_client_tun_create("10.66.0.2", NULL));
    RESULT(-1, 1, dap_chain_net_vpn_client_tun_create(NULL, NULL));
    RESULT(-1, 0, dap_chain_net_vpn_client_tun_status());
    RESULT(0, 0, dap_chain_net_vpn_client_tun_get_esock());

    dap_chain_net_srv_ch_vpn_t ch_vpn;
    memset(&ch_vpn, 0, sizeof(ch_vpn));
    unsigned char bytes[28] = {0};
    dap_stream_ch_vpn_pkt_t *pkt = (dap_stream_ch_vpn_pkt_t *)bytes;
    RESULT(-1, 1, ch_sf_tun_addr_leased(NULL, pkt, sizeof(bytes)));
    RESULT(-1, 1, ch_sf_tun_addr_leased(&ch_vpn, NULL, sizeof(bytes)));
    RETURNS(1, ch_sf_tun_client_send(NULL, bytes, sizeof(bytes)));
    RETURNS(1, ch_sf_tun_client_send(&ch_vpn, NULL, sizeof(bytes)));
    RETURNS(1, m_client_tun_new(NULL, NULL));
    RETURNS(1, disableIPV6(NULL));
    RETURNS(1, enableIPV6(NULL));
    RETURNS(0, save_current_connection_interface_data(NULL, NULL));
}

static void commands(void)
{
    char name[] = "vpn_stat";
    char *argv[] = {name, NULL};
    void *reply = NULL;
    RESULT(-1, 1, com_vpn_statistics(1, argv, NULL, 1));
    RESULT(-1, 1, com_vpn_client(1, argv, NULL, 1));
    RESULT(-1, 1, com_vpn_client(1, NULL, &reply, 1));
    free(reply);
}

/* NULL as configuration selects the node's own. */
static void own_configuration(void)
{
    t_context("init(NULL)");
    CHECK_INT(dap_chain_net_srv_vpn_init(NULL), 0);
    CHECK_INT(dap_chain_net_vpn_client_init(NULL), 0);
    CHECK_INT(t_tun_devices(), 1);
    t_context("init(NULL) while the service is up");
    CHECK_INT(dap_chain_net_srv_vpn_init(NULL), -3);
    CHECK_INT(dap_chain_net_vpn_client_init(NULL), 0);
    CHECK_INT(t_tun_devices(), 1);
    dap_chain_net_vpn_client_deinit();
    dap_chain_net_srv_vpn_deinit();
    CHECK_INT(t_tun_devices(), 0);
}

static void matrix(const char *phase)
{
    s_phase = phase;
    t_note("%s", phase);
    client(dap_chain_net_by_name("backbone"));
    tun();
    commands();
    CHECK_INT(t_tun_devices() - s_tuns_of_host, strcmp(phase, "between init and deinit") == 0 ? 1 : 0);
}

int main(int argc, char **argv)
{
    const char *mode = argc == 2 ? argv[1] : "";
    s_tuns_of_host = t_tun_devices();
    if (strcmp(mode, "bare") == 0) {
        matrix("before any init");
    } else if (strcmp(mode, "around") == 0) {
        t_need_box();
        setenv("CELLFRAME_VPN_CONFIG", t_server_config("null"), 1);
        matrix("before init");
        dap_config_t *config = dap_config_default();
        CHECK(config != NULL);
        CHECK_INT(dap_chain_net_srv_vpn_pre_init(), 0);
        CHECK_INT(dap_chain_net_srv_vpn_init(config), 0);
        CHECK_INT(dap_chain_net_vpn_client_init(config), 0);
        matrix("between init and deinit");
        dap_chain_net_vpn_client_deinit();
        dap_chain_net_srv_vpn_deinit();
        matrix("after deinit");
        own_configuration();
        matrix("after the second deinit");
    } else {
        fprintf(stderr, "usage: %s bare|around\n", argv[0]);
        return 2;
    }
    return t_result();
}
