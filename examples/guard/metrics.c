/* SPDX-License-Identifier: MIT */
/* Answers whoever asks with what is counted now. See metrics.h. */
#include "metrics.h"
#include "tell.h"
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENT_MS 200

struct text {
    char *at;
    size_t room, length;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(t->length < t->room ? t->at + t->length : NULL, t->length < t->room ? t->room - t->length : 0, format, args);
    va_end(args);
    t->length += n > 0 ? (size_t)n : 0;
}

/* A name of the server's: printable, then as a label wants it. */
static void put_label(struct text *t, const char *name)
{
    char value[PRINTABLE_SIZE];

    for (const char *at = printable(name, value); *at; at++)
        put(t, *at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
}

static double value_of(const struct guarded *g, int which)
{
    switch (which) {
    case 0:
        return (double)g->state_bytes;
    case 1:
        return (double)g->omega_bytes;
    case 2:
        return (double)g->overlay_bytes;
    case 3:
        return (double)g->reserve_bytes;
    case 4:
        return g->limit_bytes_per_s == UINT64_MAX ? -1 : (double)g->limit_bytes_per_s;
    case 5:
        return migbuf_link_now(&g->link);
    case 6:
        return g->stopped;
    case 7:
        return *g->error != 0;
    case 8:
        return (double)g->peak_bytes;
    case 9:
        return (double)g->paused_ms / 1000;
    default:
        return (double)g->decisions;
    }
}

static void put_totals(struct text *t, const struct totals *totals)
{
    put(t, "# HELP migbuf_guard_migrations_total Migrations under guard that are over, by what became of them.\n"
           "# TYPE migbuf_guard_migrations_total counter\n");
    for (int k = 0; k < FATES; k++)
        put(t, "migbuf_guard_migrations_total{outcome=\"%s\"} %llu\n", fate_names[k], (unsigned long long)totals->ended[k]);
    put(t, "# HELP migbuf_guard_pauses_total Guests stopped for want of room, in migrations that are over.\n"
           "# TYPE migbuf_guard_pauses_total counter\nmigbuf_guard_pauses_total %llu\n"
           "# HELP migbuf_guard_paused_seconds_total How long these stood.\n"
           "# TYPE migbuf_guard_paused_seconds_total counter\nmigbuf_guard_paused_seconds_total %.3f\n"
           "# HELP migbuf_guard_limits_not_given_back_total VMs whose own limits could not be given back.\n"
           "# TYPE migbuf_guard_limits_not_given_back_total counter\nmigbuf_guard_limits_not_given_back_total %llu\n",
        (unsigned long long)totals->pauses, (double)totals->paused_ms / 1000, (unsigned long long)totals->not_given_back);
}

size_t metrics_text(char *out, size_t room, const struct guarded *const *vms, size_t count, bool server_up,
                    uint64_t unguarded, const struct totals *totals)
{
    static const struct {
        const char *name, *kind, *help;
    } metric[] = {
        { "state_volume_bytes", "gauge", "Size of the VM's state volume (size.state)." },
        { "buffer_bytes", "gauge", "What of it overlays may take." },
        { "overlay_bytes", "gauge", "What the VM's overlay takes." },
        { "reserve_bytes", "gauge", "Kept free for drains ahead." },
        { "limit_bytes_per_second", "gauge", "Growth the limits in force let through; -1: no limit, 0: paused." },
        { "link_bytes_per_second", "gauge", "Speed of the link by the server's progress; 0: not known." },
        { "paused", "gauge", "1 while the guest is paused by this program." },
        { "failing", "gauge", "1 when the last tick could not do its work." },
        { "overlay_peak_bytes", "gauge", "The most that the VM's overlay took." },
        { "paused_seconds", "gauge", "How long this program has let the guest stand in this migration." },
        { "decisions_total", "counter", "Decisions that changed something." },
    };
    struct text t = { out, room, 0 };

    put(&t, "# HELP migbuf_guard_server_up Whether LXD or Incus answered last time.\n# TYPE migbuf_guard_server_up gauge\n"
            "migbuf_guard_server_up %d\n"
            "# HELP migbuf_guard_unguarded_migrations Running migrations of VMs that cannot be guarded.\n"
            "# TYPE migbuf_guard_unguarded_migrations gauge\nmigbuf_guard_unguarded_migrations %llu\n",
        server_up, (unsigned long long)unguarded);
    put_totals(&t, totals);
    for (size_t k = 0; k < sizeof metric / sizeof *metric; k++) {
        put(&t, "# HELP migbuf_guard_%s %s\n# TYPE migbuf_guard_%s %s\n", metric[k].name, metric[k].help, metric[k].name,
            metric[k].kind);
        for (size_t i = 0; i < count; i++) {
            put(&t, "migbuf_guard_%s{project=\"", metric[k].name);
            put_label(&t, vms[i]->project);
            put(&t, "\",vm=\"");
            put_label(&t, vms[i]->name);
            put(&t, "\"} %.17g\n", value_of(vms[i], (int)k));
        }
    }
    return t.length;
}

int metrics_listen(uint16_t port, char error[FAIL_SIZE])
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), yes = 1;

    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 16)) {
        fail(error, "--metrics %u: %s", port, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

void metrics_answer(int listener, const struct guarded *const *vms, size_t count, bool server_up, uint64_t unguarded,
                    const struct totals *totals)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    size_t room, length;
    char head[160], request[4096], *text;
    int n;

    if (fd < 0)
        return;
    room = metrics_text(NULL, 0, vms, count, server_up, unguarded, totals) + 1;
    text = malloc(room);
    if (text && poll(&ready, 1, CLIENT_MS) == 1 && recv(fd, request, sizeof request, 0) > 4 && !memcmp(request, "GET ", 4)) {
        length = metrics_text(text, room, vms, count, server_up, unguarded, totals);
        n = snprintf(head, sizeof head,
                     "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %zu\r\n\r\n", length);
        /* Both fit a socket's buffer; a client that takes nothing gets what it gets. */
        if (send(fd, head, (size_t)n, MSG_NOSIGNAL) == n)
            (void)!send(fd, text, length, MSG_NOSIGNAL);
    }
    free(text);
    close(fd);
}
