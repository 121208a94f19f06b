/* SPDX-License-Identifier: MIT */
/* The worked examples of link.h, a real TCP connection and a real network card. */
#include "unit.h"
#include "migbuf/link.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

START_TEST(update_examples)
{
    struct migbuf_link l;

    ck_assert_int_eq(migbuf_link_init(&l, 0), 0);
    ck_near(migbuf_link_now(&l), 0);
    ck_near(migbuf_link_mean(&l), MIGBUF_LINK_LEAST);
    ck_assert_int_eq(migbuf_link_update(&l, 1000, 1e9, 0), 1);
    ck_near(migbuf_link_mean(&l), 1e9);
    ck_assert_int_eq(migbuf_link_update(&l, 61000, 5e8, 0), 1);
    ck_near(migbuf_link_now(&l), 5e8);
    ck_near(migbuf_link_mean(&l), 683939721);
    ck_assert_int_eq(migbuf_link_update(&l, 121000, 0, 0), 0);
    ck_near(migbuf_link_now(&l), 816060279);
    ck_assert_int_eq(migbuf_link_update(&l, 120999, 1, 0), MIGBUF_E_CLOCK);
}
END_TEST

START_TEST(silence_and_lower_bounds_never_lower_it)
{
    struct migbuf_link l;

    ck_assert_int_eq(migbuf_link_init(&l, 1.25e8), 0);
    for (uint64_t t = 0; t < 100; t++) {
        ck_assert_int_eq(migbuf_link_update(&l, t * 1000, 0, 0), 0);
        ck_assert_int_eq(migbuf_link_update(&l, t * 1000, 1e6, MIGBUF_LINK_AT_LEAST), 0);
    }
    ck_near(migbuf_link_now(&l), 1.25e8);
    ck_near(migbuf_link_mean(&l), 1.25e8);
    ck_assert_int_eq(migbuf_link_update(&l, 100000, 2e8, MIGBUF_LINK_AT_LEAST), 1);
    ck_near(migbuf_link_now(&l), 2e8);
}
END_TEST

/* A dip, then one flow that is held by its own limit: it takes a minute or two, not for ever. */
START_TEST(a_dip_passes)
{
    struct migbuf_link l;

    ck_assert_int_eq(migbuf_link_init(&l, 1e9), 0);
    for (uint64_t t = 1; t <= 30; t++)
        ck_assert_int_eq(migbuf_link_update(&l, t * 1000, 4e8, 0), 1);
    ck_assert(migbuf_link_mean(&l) < 8e8);
    for (uint64_t t = 31; t <= 210; t++)
        ck_assert_int_eq(migbuf_link_update(&l, t * 1000, 4e8, MIGBUF_LINK_AT_LEAST), 0);
    ck_assert(migbuf_link_now(&l) > 9.5e8 && migbuf_link_now(&l) <= 1e9 && migbuf_link_mean(&l) > 9.5e8);
}
END_TEST

START_TEST(a_flow_is_its_differences)
{
    struct migbuf_link_flow f;
    double rate = 42;

    ck_assert_int_eq(migbuf_link_flow_init(&f), 0);
    ck_assert_int_eq(migbuf_link_flow_update(&f, 1000, 1000000, &rate), 0);
    ck_near(rate, 0);
    ck_assert_int_eq(migbuf_link_flow_update(&f, 1049, 5000000, &rate), 0);
    ck_assert_int_eq(migbuf_link_flow_update(&f, 1500, 6000000, &rate), 1);
    ck_near(rate, 1e7);
    ck_assert_int_eq(migbuf_link_flow_update(&f, 1600, 6000000, &rate), 1);
    ck_near(rate, 0);
    ck_assert_int_eq(migbuf_link_flow_update(&f, 1700, 10, &rate), 0); /* another operation */
    ck_assert_int_eq(migbuf_link_flow_update(&f, 1800, 20, &rate), 1);
    ck_near(rate, 100);
    ck_assert_int_eq(migbuf_link_flow_update(&f, 1799, 30, &rate), MIGBUF_E_CLOCK);
    ck_assert_int_eq(migbuf_link_flow_update(NULL, 1799, 30, &rate), MIGBUF_E_INVALID);
}
END_TEST

/* A pair of connected TCP sockets on this machine. */
static void connect_pair(int pair[2])
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert(listener >= 0 && !bind(listener, (struct sockaddr *)&a, sizeof a) && !listen(listener, 1));
    ck_assert(!getsockname(listener, (struct sockaddr *)&a, &length));
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert(!connect(pair[0], (struct sockaddr *)&a, sizeof a));
    pair[1] = accept(listener, NULL, NULL);
    ck_assert(pair[1] >= 0);
    close(listener);
}

START_TEST(a_real_connection)
{
    static char block[65536];
    struct migbuf_link_tcp t = { .acked_bytes = 42 };
    struct migbuf_error e;
    int pair[2], pipes[2];

    connect_pair(pair);
    for (int k = 0; k < 64; k++) {
        ck_assert(write(pair[0], block, sizeof block) == (ssize_t)sizeof block);
        for (size_t got = 0; got < sizeof block;) {
            ssize_t n = read(pair[1], block, sizeof block - got);

            ck_assert(n > 0);
            got += (size_t)n;
        }
    }
    ck_assert_int_eq(migbuf_link_tcp(pair[0], &t, &e), 0);
    ck_assert(t.acked_bytes >= 63 * sizeof block && t.acked_bytes <= 64 * sizeof block + 1);
    ck_assert(t.delivery_bytes_per_s > 0 && !(t.flags & ~MIGBUF_LINK_AT_LEAST));
    ck_assert(!pipe(pipes));
    ck_assert_int_eq(migbuf_link_tcp(pipes[0], &t, &e), MIGBUF_E_SYSTEM);
    ck_assert_int_ne(e.os_errno, 0);
    ck_assert_int_eq(migbuf_link_tcp(-1, &t, NULL), MIGBUF_E_SYSTEM);
    ck_assert_int_eq(migbuf_link_tcp(pair[0], NULL, NULL), MIGBUF_E_INVALID);
    for (int k = 0; k < 2; k++) {
        close(pair[k]);
        close(pipes[k]);
    }
    ck_assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    ck_assert_int_eq(migbuf_link_tcp(pair[0], &t, &e), MIGBUF_E_UNSUPPORTED);
    close(pair[0]);
    close(pair[1]);
}
END_TEST

START_TEST(pauses_are_lower_bounds)
{
    struct migbuf_link_tcp t = { .acked_bytes = 1000, .busy_us = 500 };
    struct migbuf_link_tcp_flow f;
    uint32_t flags = 7;
    double rate = 7;

    ck_assert_int_eq(migbuf_link_tcp_flow_init(&f), 0);
    ck_assert_int_eq(migbuf_link_tcp_update(&f, 1000, &t, &rate, &flags), 0);
    ck_assert_uint_eq(flags, 0);
    t.acked_bytes += 1250000, t.busy_us += 990000;
    ck_assert_int_eq(migbuf_link_tcp_update(&f, 2000, &t, &rate, &flags), 1);
    ck_near(rate, 1250000);
    ck_assert_uint_eq(flags, 0);
    t.acked_bytes += 1250000, t.busy_us += 500000;
    ck_assert_int_eq(migbuf_link_tcp_update(&f, 3000, &t, &rate, &flags), 1);
    ck_near(rate, 1250000);
    ck_assert_uint_eq(flags, MIGBUF_LINK_AT_LEAST);
    t.acked_bytes += 10000, t.busy_us += 49000;
    ck_assert_int_eq(migbuf_link_tcp_update(&f, 3049, &t, &rate, &flags), 0); /* too soon: not lost */
    ck_assert_int_eq(migbuf_link_tcp_update(&f, 3100, &t, &rate, &flags), 1);
    ck_near(rate, 100000);
    ck_assert_uint_eq(flags, MIGBUF_LINK_AT_LEAST);
    t.acked_bytes += 10000, t.busy_us += 100000, t.flags = MIGBUF_LINK_AT_LEAST;
    ck_assert_int_eq(migbuf_link_tcp_update(&f, 3200, &t, &rate, &flags), 1);
    ck_assert_uint_eq(flags, MIGBUF_LINK_AT_LEAST);
    t = (struct migbuf_link_tcp){ .acked_bytes = 1, .busy_us = 1 }; /* another connection */
    ck_assert_int_eq(migbuf_link_tcp_update(&f, 3300, &t, &rate, &flags), 0);
    t.acked_bytes = 1000001, t.busy_us = 100001;
    ck_assert_int_eq(migbuf_link_tcp_update(&f, 3400, &t, &rate, &flags), 1);
    ck_near(rate, 1e7);
    ck_assert_uint_eq(flags, 0);
    ck_assert_int_eq(migbuf_link_tcp_update(&f, 3399, &t, &rate, &flags), MIGBUF_E_CLOCK);
    ck_assert_int_eq(migbuf_link_tcp_update(&f, 3500, NULL, &rate, &flags), MIGBUF_E_INVALID);
}
END_TEST

/* Found without its descriptor, by either address, both, one port; and nothing else. */
static void ck_found(int pair[2], const char *address, const char *other)
{
    struct migbuf_link_connection c[2];
    struct migbuf_link_tcp t;
    struct migbuf_error e;
    struct sockaddr_storage a;
    socklen_t length = sizeof a;
    char local[64], remote[64], text[64];

    ck_assert(!getsockname(pair[0], (struct sockaddr *)&a, &length));
    snprintf(local, sizeof local, "%s:%u", address, ntohs(((struct sockaddr_in *)&a)->sin_port));
    length = sizeof a;
    ck_assert(!getpeername(pair[0], (struct sockaddr *)&a, &length));
    snprintf(remote, sizeof remote, "%s:%u", address, ntohs(((struct sockaddr_in *)&a)->sin_port));
    ck_assert(write(pair[0], "12345", 5) == 5 && read(pair[1], text, 5) == 5);
    do /* until the acknowledgement has come */
        ck_assert_int_eq(migbuf_link_tcp(pair[0], &t, &e), 0);
    while (t.acked_bytes < 5);
    ck_assert_msg(migbuf_link_connections(local, remote, c, 2, &e) == 1, "%s %s", local, remote);
    ck_assert_str_eq(c->local, local);
    ck_assert_str_eq(c->remote, remote);
    ck_assert_int_eq(migbuf_link_tcp(pair[0], &t, &e), 0);
    ck_assert(c->tcp.acked_bytes == t.acked_bytes && t.acked_bytes >= 5 && t.acked_bytes <= 6 && c->cookie);
    ck_assert_int_eq(migbuf_link_connections(NULL, remote, c + 1, 1, &e), 1);
    ck_assert(c[1].cookie == c[0].cookie);
    ck_assert_int_eq(migbuf_link_connections(NULL, strrchr(remote, ':'), c, 2, &e), 1);
    ck_assert_int_eq(migbuf_link_connections(remote, local, c, 2, &e), 1); /* the other end is here as well */
    ck_assert(c->cookie != c[1].cookie);
    ck_assert_int_eq(migbuf_link_connections(other, remote, c, 2, &e), 0);
    ck_assert_int_eq(migbuf_link_connections(local, remote, NULL, 0, &e), MIGBUF_E_TOO_BIG);
    ck_assert(e.need == 1 && e.have == 0);
}

START_TEST(a_connection_of_another_process)
{
    struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    struct migbuf_link_connection c;
    struct migbuf_error e;
    static const char *const no_address[] = {
        "",           ":",       "x",     "1.2.3",    "1.2.3.4:", "1.2.3.4:0",       "1.2.3.4:65536", "1.2.3.4:80x",
        "[::1",       "[::1]80", "[]:80", "[::1]:-1", "fe80::1%", "fe80::1%no-such", "fe80::1%0",     "fe80::1%2x",
        "1.2.3.4%lo", "%lo"
    };
    int pair[2], listener;
    socklen_t length = sizeof six;

    connect_pair(pair);
    ck_found(pair, "127.0.0.1", "127.0.0.2");
    close(pair[0]);
    close(pair[1]);
    listener = socket(AF_INET6, SOCK_STREAM, 0);
    if (listener >= 0 && !bind(listener, (struct sockaddr *)&six, sizeof six)) { /* a machine without IPv6 */
        ck_assert(!listen(listener, 1) && !getsockname(listener, (struct sockaddr *)&six, &length));
        pair[0] = socket(AF_INET6, SOCK_STREAM, 0);
        ck_assert(!connect(pair[0], (struct sockaddr *)&six, sizeof six));
        pair[1] = accept(listener, NULL, NULL);
        ck_found(pair, "[::1]", "::2");
        close(pair[0]);
        close(pair[1]);
    }
    close(listener);
    for (size_t k = 0; k < sizeof no_address / sizeof *no_address; k++)
        ck_assert_msg(migbuf_link_connections(no_address[k], NULL, &c, 1, &e) == MIGBUF_E_INVALID, "%s", no_address[k]);
    ck_assert_int_eq(migbuf_link_connections(NULL, NULL, NULL, 1, &e), MIGBUF_E_INVALID);
}
END_TEST

/* An address of this machine that needs its interface. */
static bool link_local(struct sockaddr_in6 *address, char zone[IF_NAMESIZE])
{
    struct ifaddrs *all, *a;
    bool found = false;

    if (getifaddrs(&all))
        return false;
    for (a = all; a && !found; a = a->ifa_next) {
        if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET6)
            continue;
        memcpy(address, a->ifa_addr, sizeof *address);
        found = IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr);
        snprintf(zone, IF_NAMESIZE, "%s", a->ifa_name);
    }
    freeifaddrs(all);
    return found;
}

START_TEST(a_link_local_address)
{
    struct sockaddr_in6 a;
    struct migbuf_link_connection c[2];
    struct migbuf_error e;
    char zone[IF_NAMESIZE], host[INET6_ADDRSTRLEN], text[128];
    socklen_t length = sizeof a;
    int listener = socket(AF_INET6, SOCK_STREAM, 0), fd = socket(AF_INET6, SOCK_STREAM, 0);

    if (listener < 0 || !link_local(&a, zone) || bind(listener, (struct sockaddr *)&a, sizeof a)) {
        printf("# no link-local address here\n");
        return;
    }
    ck_assert(!listen(listener, 1) && !getsockname(listener, (struct sockaddr *)&a, &length));
    ck_assert(!connect(fd, (struct sockaddr *)&a, sizeof a));
    inet_ntop(AF_INET6, &a.sin6_addr, host, sizeof host);
    snprintf(text, sizeof text, "[%s%%%s]:%u", host, zone, ntohs(a.sin6_port));
    ck_assert_int_eq(migbuf_link_connections(NULL, text, c, 2, &e), 1);
    ck_assert_str_eq(c->remote, text); /* what is told is taken again */
    snprintf(text, sizeof text, "[%s%%%u]:%u", host, a.sin6_scope_id, ntohs(a.sin6_port));
    ck_assert_int_eq(migbuf_link_connections(NULL, text, c, 2, &e), 1);
    snprintf(text, sizeof text, "[%s]:%u", host, ntohs(a.sin6_port));
    ck_assert_int_eq(migbuf_link_connections(NULL, text, c, 2, &e), 1);
    snprintf(text, sizeof text, "[%s%%%s]:%u", host, "lo", ntohs(a.sin6_port));
    ck_assert_int_eq(migbuf_link_connections(NULL, text, c, 2, &e), 0); /* on another one */
    close(fd);
    close(listener);
}
END_TEST

#define MPTCP 262

static uint64_t sum_of(const struct migbuf_link_connection *c, int count)
{
    uint64_t sum = 0;

    for (int k = 0; k < count; k++)
        sum += c[k].tcp.acked_bytes;
    return sum;
}

/* Two paths in a network of our own. TCP_INFO of the connection tells of the first one alone. */
START_TEST(a_multipath_connection)
{
    static char bytes[1 << 20];
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(5555), .sin_addr.s_addr = htonl(0x0a090001) };
    struct migbuf_link_connection c[4];
    struct migbuf_link_tcp t = { .acked_bytes = 0 };
    int listener, fd, other, count = 0;
    uint64_t sent = 0;

    if (unshare(CLONE_NEWNET) ||
        system("ip link set lo up && ip addr add 10.9.0.1/24 dev lo && ip addr add 10.9.0.2/24 dev lo && "
               "ip mptcp limits set subflow 2 && ip mptcp endpoint add 10.9.0.2 dev lo subflow") ||
        (listener = socket(AF_INET, SOCK_STREAM, MPTCP)) < 0) {
        printf("# no multipath here\n");
        return;
    }
    fd = socket(AF_INET, SOCK_STREAM, MPTCP);
    ck_assert(!bind(listener, (struct sockaddr *)&a, sizeof a) && !listen(listener, 1));
    ck_assert(!connect(fd, (struct sockaddr *)&a, sizeof a));
    other = accept(listener, NULL, NULL);
    while (count < 2 || c[0].tcp.acked_bytes < 100000 ||
           c[1].tcp.acked_bytes < 100000) { /* until both have carried some */
        ssize_t n = send(fd, bytes, sizeof bytes, MSG_DONTWAIT);

        sent += n > 0 ? (uint64_t)n : 0;
        while (recv(other, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
            ;
        count = migbuf_link_connections(NULL, "10.9.0.1:5555", c, 4, NULL);
        ck_assert(count == 1 || count == 2);
    }
    do { /* what is on its way */
        while (recv(other, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
            ;
        ck_assert_int_eq(migbuf_link_tcp(fd, &t, NULL), 0);
        count = migbuf_link_connections(NULL, "10.9.0.1:5555", c, 4, NULL);
    } while (t.unsent_bytes || sum_of(c, count) < sent || t.acked_bytes != sum_of(c, count));
    ck_assert_int_eq(count, 2);
    ck_assert(t.acked_bytes > c[0].tcp.acked_bytes && t.acked_bytes > c[1].tcp.acked_bytes);
    close(fd);
    close(other);
    close(listener);
}
END_TEST

START_TEST(a_real_card)
{
    struct migbuf_error e;
    uint64_t tx = 0, speed = 42;
    int rc = migbuf_link_card("lo", &tx, &speed, &e);

    if (rc != MIGBUF_E_NOTFOUND) { /* a build room without /sys */
        ck_assert_int_eq(rc, 0);
        ck_assert_uint_eq(speed, 0);
        ck_assert_int_eq(migbuf_link_card("lo", NULL, NULL, NULL), 0);
    }
    ck_assert_int_eq(migbuf_link_card("no-such-card", &tx, &speed, &e), MIGBUF_E_NOTFOUND);
    ck_assert_int_eq(migbuf_link_card("../lo", &tx, &speed, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_link_card("..", &tx, &speed, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_link_card("", &tx, &speed, &e), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_link_card("sixteen-letters-", &tx, &speed, &e), MIGBUF_E_INVALID);
}
END_TEST

START_TEST(nonsense_is_refused_and_nothing_written)
{
    struct migbuf_link l, before;

    ck_assert_int_eq(migbuf_link_init(NULL, 0), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_link_init(&l, NAN), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_link_init(&l, -1), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_link_init(&l, 7), 0);
    before = l;
    ck_assert_int_eq(migbuf_link_update(&l, 1, INFINITY, 0), MIGBUF_E_RANGE);
    ck_assert_int_eq(migbuf_link_update(&l, 1, NAN, 0), MIGBUF_E_INVALID);
    ck_assert_int_eq(migbuf_link_update(&l, 1, 1, 2), MIGBUF_E_INVALID);
    ck_assert_mem_eq(&l, &before, sizeof l);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { update_examples,
                                   silence_and_lower_bounds_never_lower_it,
                                   a_dip_passes,
                                   a_flow_is_its_differences,
                                   a_real_connection,
                                   pauses_are_lower_bounds,
                                   a_connection_of_another_process,
                                   a_link_local_address,
                                   a_multipath_connection,
                                   a_real_card,
                                   nonsense_is_refused_and_nothing_written,
                                   NULL };

    return unit_run("link", tests, WATCHDOG_S);
}
