/* The harness of the C tests: checks that print their location and continue, captured log output, measured resources.
 *
 * A test's main ends with `return t_result();`: 0 if every check held, 1 if one failed or none ran. A test that needs
 * its own namespaces calls t_need_box() first, which exits with 77 ("skipped: why") outside of them.
 */
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CHECK(condition) t_check((condition), __FILE__, __LINE__, #condition)
#define CHECK_INT(actual, expected) \
    t_check_int((long long)(actual), (long long)(expected), __FILE__, __LINE__, #actual)
#define CHECK_BETWEEN(actual, low, high) \
    t_check_between((long long)(actual), (long long)(low), (long long)(high), __FILE__, __LINE__, #actual)
#define CHECK_STR(actual, expected) t_check_str((actual), (expected), __FILE__, __LINE__, #actual)
#define CHECK_HAS(text, part) t_check_has((text), (part), __FILE__, __LINE__, #text)

bool t_check(bool held, const char *file, int line, const char *what);
bool t_check_int(long long actual, long long expected, const char *file, int line, const char *what);
bool t_check_between(long long actual, long long low, long long high, const char *file, int line, const char *what);
bool t_check_str(const char *actual, const char *expected, const char *file, int line, const char *what);
bool t_check_has(const char *text, const char *part, const char *file, int line, const char *what);

/* Sets the context that a failure of the following checks prints. An empty text clears it. */
void t_context(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Prints a line of progress to stdout. */
void t_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
int t_result(void);
/* Prints "skipped: why" and exits with 77, or with 1 if VPN_TESTS_MUST_NOT_SKIP is 1. */
_Noreturn void t_skip(const char *why);
/* Skips unless scripts/box.sh runs this program and so gives the test its own devices, addresses and ports. */
void t_need_box(void);

/* Runs body(arg) in a child process and checks that it exits with 0. The child counts its own checks. */
bool t_in_child(const char *name, void (*body)(void *), void *arg);

/* Capture stderr between the two calls. t_capture_end returns the text, which the caller frees. */
void t_capture_begin(void);
char *t_capture_end(void);
int t_count_lines(const char *text);

/* Returns a path in the box's scratch directory, which is removed with the box. Valid until the fourth next call. */
const char *t_path(const char *name);
/* Writes text to t_path(name) and returns the path. */
const char *t_write_file(const char *name, const char *text);
/* Returns the configuration of a server on 0.0.0.0:8089 that leases 10.77.0.0/24, with its state in t_path(state). */
const char *t_server_config(const char *state);

typedef struct t_usage {
    int fds;
    int threads;
    int devices; /* network devices of this namespace */
} t_usage_t;

/* Counts until five counts in a row, 20 ms apart, are equal: what a thread opens for a moment does not count. */
t_usage_t t_usage(void);
/* Checks that fds, threads and devices are back at `before`, allowing a thread two seconds to finish its exit. */
bool t_check_usage(t_usage_t before, const char *file, int line);
#define CHECK_USAGE(before) t_check_usage((before), __FILE__, __LINE__)
long t_rss_kib(void);
/* Returns milliseconds on the monotonic clock. */
long long t_now_ms(void);
void t_sleep_ms(long ms);
/* Counts the network devices whose name begins with "tun". */
int t_tun_devices(void);
