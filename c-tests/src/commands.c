/* Calls the commands vpn_stat and vpn_client like the node's command line and checks the code and reply of each. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

#include <dap_chain_net_srv_vpn.h>
#include <dap_chain_net_srv_vpn_cmd.h>
#include <dap_chain_net_vpn_client.h>

enum { WORDS_MAX = 16, ANY_CODE = 4711 };

typedef struct command {
    const char *words[WORDS_MAX];
    int code;
    const char *reply; /* part of it */
} command_t;

#define NET "-net", "backbone"
#define NO_ADDRESS "VPN server address not defined, use -addr <vpn server ipv4 address> parameter"
#define NO_PORT "VPN server port not defined, use -port <vpn server port>"

static const command_t COMMANDS[] = {
    {{"vpn_stat", NET}, 0, "No VPN connections"},
    {{"vpn_stat"}, 0, "No VPN connections"},
    {{"vpn_stat", "--nonsense", "%s%n", ""}, 0, "No VPN connections"},
    {{"vpn_stat", "-net"}, 0, "No VPN connections"},
    {{"vpn_stat", "-net", "no-such-net"}, -2, "no-such-net"},
    {{"vpn_stat", "-json"}, 0, "\"sessions\":[]"},
    {{"vpn_stat", "-history"}, 0, "No services in the account book"},
    {{"vpn_stat", "-history", "-json", NET}, 0, "\"services\":[]"},
    {{"vpn_stat", "-history", "-csv"}, 0, "number,service,client,"},
    {{"vpn_stat", "-history", "--nonsense", "%s%n", ""}, -1, "parameter \"--nonsense\" not recognized; expected -history"},
    {{"vpn_stat", "-history", "-limit"}, -1, "parameter -limit has no value; expected a number"},
    {{"vpn_client", "status", NET}, 0, "VPN client not started"},
    {{"vpn_client", "status", NET, "-json"}, 0, "\"state\":\"not started\""},
    {{"vpn_client", "status", "-json", NET}, 0, "\"address\":null"},
    {{"vpn_client", "status", "-json"}, -2, "-net"},
    {{"vpn_client", "stop", NET}, 0, "VPN client stopped successfully"},
    {{"vpn_client", "start", NET}, 0, NO_ADDRESS},
    {{"vpn_client", "start", NET, "-port", "8089"}, 0, NO_ADDRESS},
    {{"vpn_client", "start", NET, "-addr", "127.0.0.1"}, 0, NO_PORT},
    {{"vpn_client", "start", NET, "-addr", "127.0.0.1", "-port"}, 0, NO_PORT},
    {{"vpn_client", "start", NET, "-addr", "127.0.0.1", "-port", "none"}, 0, NO_PORT},
    {{"vpn_client", "start", NET, "-addr", "127.0.0.1", "-port", "0"}, 0, NO_PORT},
    {{"vpn_client", "start", NET, "-addr", "127.0.0.1", "-port", "1"}, -2, "Can't connect to VPN server"},
    {{"vpn_client", "check", NET}, 0, NO_ADDRESS},
    {{"vpn_client", "check", NET, "-addr", "127.0.0.1"}, 0, NO_PORT},
    {{"vpn_client", "check", NET, "-addr", "127.0.0.1", "-port", "1"}, -2, "Can't connect to VPN server"},
    {{"vpn_client", "check", NET, "-addr", "127.0.0.1", "-port", "8089"}, 0, "tested VPN server successfully"},
    {{"vpn_client", "check", "result", NET, "-H", "octal"}, -1, "invalid parameter -H, valid values: -H <hex | base58>"},
    {{"vpn_client", "start", "-H", "", NET}, -1, "invalid parameter -H"},
    {{"vpn_client", NET}, -1, "not recognized"},
    {{"vpn_client", "dance", NET}, -1, "parameter dance not recognized"},
    {{"vpn_client", "status"}, -2, "-net"},
    {{"vpn_client", "status", "-net"}, -2, "-net"},
    {{"vpn_client", "status", "-net", "no-such-net"}, -2, "no-such-net"},
    {{"vpn_client", "init", NET}, 0, "Wallet not defined, use -w <wallet_name> or -wallet <wallet_name> parameter"},
    {{"vpn_client", "init", NET, "-w", "purse"}, 0, "Token not defined, use -token <token_name> parameter"},
    {{"vpn_client", "init", NET, "-w", "purse", "-token", "CELL"}, 0, "Value of datoshi not defined, use -value"},
    {{"vpn_client", "init", NET, "-wallet", "purse", "-token", "CELL", "-value", "0"}, 0, "Value of datoshi have to be"},
    {{"vpn_client", "init", NET, "-wallet", "purse", "-token", "CELL", "-value", "1"}, ANY_CODE, "VPN client"},
};

typedef int (*entry_t)(int, char **, void **, int);

/* Passes exact copies of the words, so that a read past their end hits freed or foreign memory. */
static int call(entry_t entry, const char *const *words, char **reply)
{
    int argc = 0;
    while (argc < WORDS_MAX && words[argc])
        argc++;
    char **argv = calloc((size_t)argc + 1, sizeof(*argv));
    for (int i = 0; i < argc; i++)
        argv[i] = strdup(words[i]);
    void *text = NULL;
    int code = entry(argc, argv, &text, 1);
    *reply = text;
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    free(argv);
    return code;
}

static void table(void)
{
    for (size_t i = 0; i < sizeof(COMMANDS) / sizeof(COMMANDS[0]); i++) {
        const command_t *command = &COMMANDS[i];
        char line[256] = "";
        for (int word = 0; word < WORDS_MAX && command->words[word]; word++)
            snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s ", command->words[word]);
        t_context("%s", line);
        char *reply = NULL;
        int code = call(strcmp(command->words[0], "vpn_stat") == 0 ? com_vpn_statistics : com_vpn_client,
                        command->words, &reply);
        if (command->code != ANY_CODE)
            CHECK_INT(code, command->code);
        CHECK_HAS(reply, command->reply);
        free(reply);
    }
}

static void insane_arguments(void)
{
    char *huge = malloc(100001);
    memset(huge, 'x', 100000);
    huge[100000] = 0;
    const char *const lines[][WORDS_MAX] = {
        {"vpn_client", huge, NET},
        {"vpn_client", "status", "-net", huge},
        {"vpn_client", "start", NET, "-addr", huge, "-port", "1"},
        {"vpn_client", "start", NET, "-addr", "127.0.0.1", "-port", huge},
        {"vpn_client", "start", NET, "-addr", "127.0.0.1", "-port", "-1"},
        {"vpn_client", "start", NET, "-addr", "127.0.0.1", "-port", "65536"},
        {"vpn_client", "start", NET, "-addr", "127.0.0.1", "-port", "99999999999999999999"},
        {"vpn_client", "start", NET, "-addr", "", "-port", "8089"},
        {"vpn_client", "%n%s%n%s", NET},
        {"vpn_client", "\xff\xfe", NET},
        {"vpn_client", "", NET},
        {"vpn_client"},
        {""},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        t_context("invalid arguments, line %zu", i);
        char *reply = NULL;
        int code = call(com_vpn_client, lines[i], &reply);
        CHECK(code <= 0);
        CHECK(reply != NULL && *reply);
        CHECK(dap_chain_net_vpn_client_status() != VPN_CLIENT_STATUS_STARTED);
        free(reply);
    }
    t_context("no words at all");
    void *reply = NULL;
    char *none[] = {NULL};
    CHECK(com_vpn_client(0, none, &reply, 1) < 0);
    CHECK(com_vpn_client(-1, none, &reply, 1) < 0);
    CHECK(com_vpn_client(INT32_MIN, none, &reply, 1) < 0);
    CHECK(reply != NULL);
    t_context("a NULL word");
    char name[] = "vpn_client", net[] = "-net";
    char *holes[] = {name, NULL, net, NULL, NULL};
    CHECK(com_vpn_client(4, holes, &reply, 1) < 0);
    t_context("the reply replaces that of an earlier call");
    char status[] = "status", backbone[] = "backbone";
    char *words[] = {name, status, net, backbone, NULL};
    CHECK_INT(com_vpn_client(4, words, &reply, 1), 0);
    CHECK_HAS((char *)reply, "VPN client not started");
    free(reply);
    free(huge);
}

int main(void)
{
    t_need_box();
    setenv("CELLFRAME_VPN_CONFIG", t_server_config("commands"), 1);
    dap_config_t *config = dap_config_default();
    CHECK_INT(dap_chain_net_srv_vpn_cmd_init(), 0);
    t_context("before init");
    char *reply = NULL;
    CHECK_INT(call(com_vpn_statistics, COMMANDS[0].words, &reply), 0);
    CHECK_HAS(reply, "No VPN connections");
    free(reply);
    CHECK_INT(dap_chain_net_srv_vpn_init(config), 0);
    CHECK_INT(dap_chain_net_vpn_client_init(config), 0);
    table();
    insane_arguments();
    dap_chain_net_vpn_client_deinit();
    dap_chain_net_srv_vpn_deinit();
    return t_result();
}
