/* SPDX-License-Identifier: MIT */
/*
 * What the adapter costs: query-status by migbuf_qmp_socket_call() against a bare loop (write the line, read until a
 * line feed, look at nothing) on two monitors of the same QEMU, in alternating blocks. Prints the ratio of the
 * throughputs; 1 means that the adapter costs nothing. QEMU reads a monitor byte by byte, and each byte costs it some
 * microseconds, so both number their commands alike: with "id":1 for ever the bare loop would win by the digits. Usage:
 * bench_qmp [blocks] [calls per block]. Exit code 77 without QEMU.
 */
#include "migbuf/qmp_socket.h"
#include "qmp_qemu.h"
#include <sys/socket.h>
#include <sys/un.h>

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the bare loop ---- */

static bool read_line(int fd)
{
    static char buffer[4096];
    ssize_t n;

    do
        n = read(fd, buffer, sizeof buffer);
    while (n > 0 && buffer[n - 1] != '\n');
    return n > 0;
}

static bool bare_call(int fd, const char *line)
{
    return write(fd, line, strlen(line)) == (ssize_t)strlen(line) && read_line(fd);
}

static int bare_open(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 || !read_line(fd) ||
        !bare_call(fd, "{\"execute\":\"qmp_capabilities\"}\n"))
        return -1;
    return fd;
}

/* ---- blocks ---- */

static double bare_block(int fd, int calls)
{
    static int id;
    double start = now_s();
    char line[64];

    for (int i = 0; i < calls; i++) {
        snprintf(line, sizeof line, "{\"execute\":\"query-status\",\"id\":%d}\n", ++id);
        if (!bare_call(fd, line))
            exit(1);
    }
    return now_s() - start;
}

static double adapter_block(struct migbuf_qmp_socket *s, int calls)
{
    struct migbuf_qmp_message m;
    double start = now_s();

    for (int i = 0; i < calls; i++)
        if (migbuf_qmp_socket_call(s, "query-status", NULL, 5000, &m, NULL) < 0)
            exit(1);
    return now_s() - start;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print_quartiles(const char *name, double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, compare);
    printf("%-28s median %.3f  quartiles %.3f … %.3f\n", name, values[n / 2], values[n / 4], values[3 * n / 4]);
}

static void measure(int fd, struct migbuf_qmp_socket *s, int blocks, int calls)
{
    double *ratio = calloc((size_t)blocks, sizeof *ratio), *bare_us = calloc((size_t)blocks, sizeof *bare_us);

    if (!ratio || !bare_us)
        exit(1);
    bare_block(fd, calls);
    adapter_block(s, calls);
    for (int i = 0; i < blocks; i++) {
        double adapter, bare;

        if (i % 2) {
            adapter = adapter_block(s, calls);
            bare = bare_block(fd, calls);
        } else {
            bare = bare_block(fd, calls);
            adapter = adapter_block(s, calls);
        }
        ratio[i] = bare / adapter;
        bare_us[i] = bare / calls * 1e6;
    }
    printf("%d blocks of %d calls\n", blocks, calls);
    print_quartiles("bare loop, us per call", bare_us, blocks);
    print_quartiles("adapter / bare throughput", ratio, blocks);
    free(ratio);
    free(bare_us);
}

int main(int argc, char **argv)
{
    int blocks = argc > 1 ? atoi(argv[1]) : 31, calls = argc > 2 ? atoi(argv[2]) : 500, fd, rc = 1;
    struct migbuf_qmp_socket *s = NULL;
    struct qemu qemu;

    if (qemu_start(&qemu, "pretty=off") <= 0)
        return 77;
    fd = bare_open(qemu.second);
    if (blocks > 0 && calls > 0 && fd >= 0 && migbuf_qmp_socket_open(qemu.qmp, NULL, NULL, 5000, &s, NULL) == 0) {
        measure(fd, s, blocks, calls);
        rc = 0;
    }
    migbuf_qmp_socket_free(s);
    if (fd >= 0)
        close(fd);
    qemu_stop(&qemu);
    return rc;
}
