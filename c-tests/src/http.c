/* GET /remain_limits_vpn against a running server: valid, invalid and hostile requests. After each of them the server
 * still answers a valid one. */
#include "harness.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <dap_chain_net.h>
#include <dap_chain_net_srv_vpn.h>

enum { PORT = 8089, REPLY_MAX = 65536 };
#define PATH "/remain_limits_vpn"
#define HASH "0x0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"

typedef struct reply {
    int status; /* 0 if the server closed the connection without a status line */
    char body[REPLY_MAX];
} reply_t;

static int connected(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval patience = {.tv_sec = 15};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Sends the bytes and reads until the server closes the connection. A server that refuses early may reset it. */
static void exchange(const char *bytes, size_t size, reply_t *reply)
{
    static char all[REPLY_MAX];
    memset(reply, 0, sizeof(*reply));
    int fd = connected();
    if (!CHECK(fd >= 0))
        return;
    for (size_t sent = 0; sent < size;) {
        ssize_t step = send(fd, bytes + sent, size - sent, MSG_NOSIGNAL);
        if (step <= 0)
            break;
        sent += (size_t)step;
    }
    size_t have = 0;
    ssize_t step;
    while (have < sizeof(all) - 1 && (step = recv(fd, all + have, sizeof(all) - 1 - have, 0)) > 0)
        have += (size_t)step;
    close(fd);
    all[have] = 0;
    sscanf(all, "HTTP/1.%*d %d", &reply->status);
    char *body = strstr(all, "\r\n\r\n");
    if (body)
        snprintf(reply->body, sizeof(reply->body), "%s", body + 4);
}

static void get(const char *target, reply_t *reply)
{
    size_t size = strlen(target) + 128;
    char *request = malloc(size);
    int length = snprintf(request, size, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", target);
    exchange(request, (size_t)length, reply);
    free(request);
}

/* Accepts a JSON object: braces and quotes balance, and only white space follows. */
static bool is_json_object(const char *text)
{
    int depth = 0;
    bool quoted = false;
    const char *at = text;
    while (isspace((unsigned char)*at))
        at++;
    if (*at != '{')
        return false;
    for (; *at; at++) {
        if (quoted && *at == '\\' && at[1])
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else if (!quoted && (*at == '{' || *at == '}'))
            depth += *at == '{' ? 1 : -1;
        if (depth == 0)
            break;
    }
    if (*at++ != '}')
        return false;
    while (isspace((unsigned char)*at))
        at++;
    return !*at;
}

static char s_good[512], s_good_reordered[512];
static char s_good_body[REPLY_MAX];

static void check_limits(const reply_t *reply)
{
    static const char *const KEYS[] = {"\"net_id\"", "\"srv_uid\"", "\"user_pkey_hash\"", "\"server_pkey_hash\"",
                                       "\"limit_bytes\"", "\"limit_sec\""};
    CHECK_INT(reply->status, 200);
    CHECK(is_json_object(reply->body));
    for (size_t i = 0; i < sizeof(KEYS) / sizeof(KEYS[0]); i++)
        CHECK_HAS(reply->body, KEYS[i]);
}

static void good_requests(const dap_chain_net_t *net)
{
    reply_t reply;
    snprintf(s_good, sizeof(s_good), PATH "?net_id=%" PRIu64 "&user_pkey_hash=" HASH, (uint64_t)net->pub.id.uint64);
    snprintf(s_good_reordered, sizeof(s_good_reordered), PATH "?user_pkey_hash=" HASH "&net_id=%" PRIu64,
             (uint64_t)net->pub.id.uint64);
    t_context("both parameters");
    get(s_good, &reply);
    check_limits(&reply);
    CHECK_HAS(reply.body, "0123456789");
    snprintf(s_good_body, sizeof(s_good_body), "%s", reply.body);
    t_context("the parameters in the other order");
    get(s_good_reordered, &reply);
    CHECK_STR(reply.body, s_good_body);
}

static void still_serving(void)
{
    reply_t reply;
    get(s_good, &reply);
    CHECK_INT(reply.status, 200);
    CHECK_STR(reply.body, s_good_body);
}

/* Targets with missing or malformed parts, or with an unknown network, get 400 or 404 with a JSON error, or 200 with
   all keys, and no other reply. */
static void wrong_parameters(void)
{
    static const char *const TARGETS[] = {
        PATH,
        PATH "?",
        PATH "?&&&===",
        PATH "?net_id",
        PATH "?net_id=",
        PATH "?net_id=&user_pkey_hash=",
        PATH "?net_id=1",
        PATH "?user_pkey_hash=" HASH,
        PATH "?net_id=abc&user_pkey_hash=" HASH,
        PATH "?net_id=-1&user_pkey_hash=" HASH,
        PATH "?net_id=0&user_pkey_hash=" HASH,
        PATH "?net_id=99999999999999999999999999999999&user_pkey_hash=" HASH,
        PATH "?net_id=1&user_pkey_hash=0x1",
        PATH "?net_id=1&user_pkey_hash=",
        PATH "?net_id=1&user_pkey_hash=zzzz",
        PATH "?net_id=1&user_pkey_hash=" HASH "00",
        PATH "?net_id=1&net_id=2&user_pkey_hash=" HASH "&user_pkey_hash=" HASH,
        PATH "?net_id=%31&user_pkey_hash=%00%ff%",
        PATH "?net_id=1&user_pkey_hash=%s%n%s%n%d%x",
        PATH "?user_pkey_hash=net_id=1",
        PATH "?net_id=1;user_pkey_hash=" HASH,
        PATH "?xnet_id=1&xuser_pkey_hash=" HASH,
        PATH "?net_id=1&user_pkey_hash=../../../etc/passwd",
    };
    for (size_t i = 0; i < sizeof(TARGETS) / sizeof(TARGETS[0]); i++) {
        reply_t reply;
        t_context("GET %s", TARGETS[i]);
        get(TARGETS[i], &reply);
        CHECK(is_json_object(reply.body));
        if (reply.status == 400 || reply.status == 404)
            CHECK_HAS(reply.body, "error");
        else
            check_limits(&reply);
        still_serving();
    }
    reply_t reply;
    t_context("GET " PATH);
    get(PATH, &reply);
    CHECK_INT(reply.status, 400);
}

static void huge_parameters(void)
{
    static const size_t SIZES[] = {900, 1023, 1024, 1025, 2000, 8192, 20000, 300000};
    for (size_t i = 0; i < sizeof(SIZES) / sizeof(SIZES[0]); i++) {
        for (int in_key = 0; in_key < 2; in_key++) {
            char *target = malloc(SIZES[i] + 128);
            int length = sprintf(target, "%s", in_key ? PATH "?net_id=1&" : PATH "?net_id=1&user_pkey_hash=");
            memset(target + length, 'A', SIZES[i]);
            target[(size_t)length + SIZES[i]] = 0;
            reply_t reply;
            t_context("%zu bytes of %s", SIZES[i], in_key ? "parameter name" : "hash");
            get(target, &reply);
            CHECK(reply.status == 0 || reply.status == 400 || reply.status == 413 || reply.status == 414
                  || reply.status == 431);
            free(target);
            still_serving();
        }
    }
}

static void broken_requests(void)
{
#define RAW(text) {text, sizeof(text) - 1}
    static const struct { const char *bytes; size_t size; } RAWS[] = {
        RAW("G"),
        RAW("GET\r\n\r\n"),
        RAW("GET " PATH "\r\n\r\n"),
        RAW("GET " PATH " HTTP/9.9\r\n\r\n"),
        RAW("GET " PATH "?net_id=\0\0&user_pkey_hash=\0 HTTP/1.1\r\n\r\n"),
        RAW("GET " PATH "?\xff\xfe\x80\x81 HTTP/1.1\r\n\r\n"),
        RAW("GET \xc3\x28 HTTP/1.1\r\nHost: \xff\r\n\r\n"),
        RAW("POST " PATH " HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx"),
        RAW("POST " PATH " HTTP/1.1\r\nContent-Length: -5\r\n\r\n"),
        RAW("BREW " PATH " HTTP/1.1\r\n\r\n"),
        RAW("HEAD " PATH " HTTP/1.1\r\n\r\n"),
        RAW("GET /nothing/here HTTP/1.1\r\n\r\n"),
        RAW("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        RAW("\0\0\0\0\0\0\0\0"),
    };
    for (size_t i = 0; i < sizeof(RAWS) / sizeof(RAWS[0]); i++) {
        t_context("raw request %zu", i);
        int fd = connected();
        CHECK(fd >= 0 && send(fd, RAWS[i].bytes, RAWS[i].size, MSG_NOSIGNAL) == (ssize_t)RAWS[i].size);
        shutdown(fd, SHUT_WR);
        char bytes[4096];
        while (recv(fd, bytes, sizeof(bytes), 0) > 0)
            ;
        close(fd);
        still_serving();
    }
    reply_t reply;
    t_context("an unknown path");
    get("/nothing/here", &reply);
    CHECK_INT(reply.status, 404);

    size_t size = 200000;
    char *head = malloc(size);
    int length = sprintf(head, "GET " PATH " HTTP/1.1\r\n");
    memset(head + length, 'h', size - (size_t)length);
    t_context("an endless header");
    exchange(head, size, &reply);
    CHECK(reply.status == 0 || (reply.status >= 400 && reply.status < 500));
    free(head);
    still_serving();
}

/* Waits until the server has a place for a request: it gives one back when its thread has seen the connection's end. */
static void serving_again(void)
{
    reply_t reply = {0};
    for (int i = 0; i < 100 && reply.status != 200; i++) {
        get(s_good, &reply);
        if (reply.status != 200)
            t_sleep_ms(100);
    }
    CHECK_STR(reply.body, s_good_body);
}

/* Connections that send nothing, or half a request, must not block other connections. */
static void idle_connections(void)
{
    int fds[64];
    t_context("%zu idle connections", sizeof(fds) / sizeof(fds[0]));
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        fds[i] = connected();
        if (i % 2 && fds[i] >= 0)
            CHECK(send(fds[i], "GET /remain", 11, MSG_NOSIGNAL) == 11);
    }
    serving_again();
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        close(fds[i]);
    serving_again();
}

int main(void)
{
    t_need_box();
    setenv("CELLFRAME_VPN_CONFIG", t_server_config("http"), 1);
    dap_config_t *config = dap_config_default();
    CHECK_INT(dap_chain_net_srv_vpn_init(config), 0);
    dap_chain_net_t *net = dap_chain_net_by_name("backbone");
    if (CHECK(net != NULL)) {
        good_requests(net);
        wrong_parameters();
        huge_parameters();
        broken_requests();
        idle_connections();
    }
    dap_chain_net_srv_vpn_deinit();
    t_context("after deinit");
    CHECK_INT(connected(), -1);
    return t_result();
}
