#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long s_checks, s_failures;
static char s_context[256];

static bool t_verdict(bool held, const char *file, int line, const char *format, ...)
{
    __atomic_add_fetch(&s_checks, 1, __ATOMIC_RELAXED);
    if (held)
        return true;
    __atomic_add_fetch(&s_failures, 1, __ATOMIC_RELAXED);
    va_list args;
    va_start(args, format);
    printf("FAIL %s:%d: ", file, line);
    vprintf(format, args);
    printf("%s%s\n", s_context[0] ? ", with " : "", s_context);
    fflush(stdout);
    va_end(args);
    return false;
}

bool t_check(bool held, const char *file, int line, const char *what)
{
    return t_verdict(held, file, line, "%s", what);
}

bool t_check_int(long long actual, long long expected, const char *file, int line, const char *what)
{
    return t_verdict(actual == expected, file, line, "%s is %lld, expected %lld", what, actual, expected);
}

bool t_check_between(long long actual, long long low, long long high, const char *file, int line, const char *what)
{
    return t_verdict(actual >= low && actual <= high, file, line, "%s is %lld, expected %lld..%lld", what, actual, low,
                     high);
}

bool t_check_str(const char *actual, const char *expected, const char *file, int line, const char *what)
{
    return t_verdict(actual && strcmp(actual, expected) == 0, file, line, "%s is \"%s\", expected \"%s\"", what,
                     actual ? actual : "(NULL)", expected);
}

bool t_check_has(const char *text, const char *part, const char *file, int line, const char *what)
{
    return t_verdict(text && strstr(text, part), file, line, "%s is \"%s\", expected \"%s\" in it", what,
                     text ? text : "(NULL)", part);
}

void t_context(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(s_context, sizeof(s_context), format, args);
    va_end(args);
}

void t_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    printf("\n");
    fflush(stdout);
    va_end(args);
}

int t_result(void)
{
    printf("%ld checks, %ld failed\n", s_checks, s_failures);
    if (!s_checks)
        printf("FAIL: no check ran\n");
    fflush(stdout);
    return s_failures || !s_checks ? 1 : 0;
}

_Noreturn void t_skip(const char *why)
{
    const char *strict = getenv("VPN_TESTS_MUST_NOT_SKIP");
    printf("skipped: %s\n", why);
    fflush(stdout);
    exit(strict && strcmp(strict, "1") == 0 ? 1 : 77);
}

void t_need_box(void)
{
    if (!getenv("VPN_TEST_BOX"))
        t_skip("needs its own network namespaces: start it with c-tests/scripts/box.sh");
}

bool t_in_child(const char *name, void (*body)(void *), void *arg)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        s_checks = s_failures = 0;
        body(arg);
        fflush(NULL);
        exit(s_failures ? 1 : 0);
    }
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    bool held = pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return t_verdict(held, __FILE__, __LINE__, "'%s': %s %d", name, WIFSIGNALED(status) ? "killed by signal" : "exit code",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static int s_saved_stderr = -1, s_capture = -1;

void t_capture_begin(void)
{
    fflush(stderr);
    s_capture = memfd_create("stderr", MFD_CLOEXEC);
    s_saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    if (s_capture < 0 || s_saved_stderr < 0 || dup2(s_capture, STDERR_FILENO) < 0) {
        perror("capturing stderr");
        exit(1);
    }
}

char *t_capture_end(void)
{
    fflush(stderr);
    dup2(s_saved_stderr, STDERR_FILENO);
    close(s_saved_stderr);
    struct stat stat = {0};
    fstat(s_capture, &stat);
    char *text = calloc(1, (size_t)stat.st_size + 1);
    if (!text || pread(s_capture, text, (size_t)stat.st_size, 0) != stat.st_size) {
        perror("reading the captured stderr");
        exit(1);
    }
    close(s_capture);
    return text;
}

int t_count_lines(const char *text)
{
    int lines = 0;
    for (const char *at = text; *at; at++)
        lines += *at == '\n' || !at[1];
    return lines;
}

const char *t_path(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    const char *root = getenv("VPN_TEST_TMP");
    snprintf(path, sizeof(paths[0]), "%s/%s", root ? root : "/nonexistent", name);
    return path;
}

const char *t_write_file(const char *name, const char *text)
{
    const char *path = t_path(name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
    return path;
}

const char *t_server_config(const char *state)
{
    char name[64], text[1024];
    snprintf(name, sizeof(name), "%s.cfg", state);
    snprintf(text, sizeof(text),
             "[general]\nstate_dir=%s\n"
             "[server]\nenabled=true\nlisten_address=[0.0.0.0:8089]\n"
             "[srv_vpn]\nenabled=true\nnetwork_address=10.77.0.0\nnetwork_mask=255.255.255.0\nnet=backbone\n"
             "allow_free_srv=true\n"
             "[resources]\nthreads_cnt=2\n",
             t_path(state));
    return t_write_file(name, text);
}

static int t_count_entries(const char *folder)
{
    int count = 0;
    DIR *dir = opendir(folder);
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

static int t_count_devices(const char *prefix)
{
    int count = 0;
    struct if_nameindex *devices = if_nameindex();
    for (struct if_nameindex *device = devices; device && device->if_index; device++)
        count += strncmp(device->if_name, prefix, strlen(prefix)) == 0;
    if_freenameindex(devices);
    return count;
}

static t_usage_t usage_now(void)
{
    return (t_usage_t){
        .fds = t_count_entries("/proc/self/fd"),
        .threads = t_count_entries("/proc/self/task"),
        .devices = t_count_devices(""),
    };
}

static bool usage_is(t_usage_t a, t_usage_t b)
{
    return a.fds == b.fds && a.threads == b.threads && a.devices == b.devices;
}

t_usage_t t_usage(void)
{
    t_usage_t usage = usage_now();
    for (int i = 0, same = 0; i < 100 && same < 4; i++) {
        t_sleep_ms(20);
        t_usage_t now = usage_now();
        same = usage_is(usage, now) ? same + 1 : 0;
        usage = now;
    }
    return usage;
}

bool t_check_usage(t_usage_t before, const char *file, int line)
{
    t_usage_t now = usage_now();
    for (int i = 0; i < 40 && !usage_is(now, before); i++) {
        t_sleep_ms(50);
        now = usage_now();
    }
    bool fds = t_check_int(now.fds, before.fds, file, line, "open descriptors");
    bool threads = t_check_int(now.threads, before.threads, file, line, "threads");
    bool devices = t_check_int(now.devices, before.devices, file, line, "network devices");
    return fds && threads && devices;
}

long t_rss_kib(void)
{
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &pages, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

long long t_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void t_sleep_ms(long ms)
{
    struct timespec span = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&span, &span) < 0 && errno == EINTR)
        ;
}

int t_tun_devices(void)
{
    return t_count_devices("tun");
}
