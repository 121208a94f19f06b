/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_LINK_H
#define MIGBUF_LINK_H
/**
 * @file link.h
 * U, what a link carries: from whatever counter a host has.
 *
 *   struct migbuf_link       one per link: holds U and its mean
 *   struct migbuf_link_flow  one per counter
 *
 *   each tick:
 *     for every flow of the link
 *       migbuf_link_flow_update(flow, now, its counter, &rate); sum the rates
 *       (or migbuf_link_tcp_update, which also tells a sender that pauses)
 *     migbuf_link_update(link, now, sum, flags)
 *       flags: MIGBUF_LINK_AT_LEAST where some flow waits for its sender, else 0
 *     migbuf_link_now(link)   for the clamps of the buffer
 *     migbuf_link_mean(link)  for planner and admission
 *
 * Rules, each because its absence has broken a throttle:
 *
 * - **A link that carried nothing is not a slow link.** A rate of 0 never lowers U. U = 0 would stop every guest, and
 *   then there would never be anything to send again.
 * - **What was limited elsewhere shows a lower bound**: by its sender, by a limit per flow, by TCP's app_limited. It
 *   raises U when it is above, and never lowers it.
 * - **Samples that say nothing let U return**, in a minute, to the best that is known of the link. Otherwise a dip
 *   would stay for ever: U seems halved, so admission lets one flow run where two would fit, and one flow alone never
 *   shows more.
 * - **Planning and admission use the mean over the last minute** (time constant 60 s), so that a dip of a second does
 *   not turn the plan over. The mean is never below 100'000 bytes/s: nothing can be planned over a link that stands
 *   still.
 *
 * A counter may be:
 *
 * - bytes a host pushed itself;
 * - tcpi_bytes_acked;
 * - `processed` of an operation of LXD or Incus;
 * - a network card's tx_bytes, which counts everything: too much, never too little.
 *
 * U is then what was seen on the wire, overheads included.
 *
 * Times are ms of any monotonic clock. Records are plain: copy, store. Any thread.
 *
 * Link with -lmigbuf.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The sample is a lower bound of what the link could carry. */
#define MIGBUF_LINK_AT_LEAST 1u

/** Never planned with less, bytes/s. */
#define MIGBUF_LINK_LEAST 100000.0

/** What is known of a link. A record. */
struct migbuf_link {
    double latest;  /**< U, bytes/s; 0 before the first sample */
    double mean;    /**< the same, smoothed */
    double best;    /**< the highest mean so far, or the nominal speed */
    uint64_t at_ms; /**< of the last sample */
};

/** One counter that rises. A record. */
struct migbuf_link_flow {
    uint64_t at_ms; /**< of the last sample */
    uint64_t bytes; /**< where the counter stood */
    uint32_t known;    /**< 1: at_ms and bytes are of an earlier sample */
    uint32_t reserved; /**< 0 */
};

/**
 * Nothing measured yet. `nominal` > 0 (bytes/s; a card's speed, a setting) is taken until there is a sample; 0: nothing
 * known. Where the card is not the bottleneck (a WAN), give 0. Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE below 0.
 * Test: test_link, update_examples
 */
MIGBUF_API int migbuf_link_init(struct migbuf_link *l, double nominal_bytes_per_s);

/**
 * A sample of what the link carried since the last one. flags: 0 or MIGBUF_LINK_AT_LEAST. Returns 1 when it counted, 0
 * when it said nothing (a rate of 0; a lower bound below U).
 *
 *   counts:  latest = rate;  mean += (1 - exp(-dt / 60 s)) (latest - mean), the first sample alone;
 *            best = max(best, mean)
 *   else:    latest and mean += (1 - exp(-dt / 60 s)) (best - each), where they are below best
 *   dt: since the last sample
 *
 * Example: 1e9, then 60 s later 5e8: latest 5e8, mean 1e9 - 5e8 (1 - 1/e) = 683'939'721. Nothing for a minute: latest
 * 816'060'279.
 * Errors: MIGBUF_E_CLOCK when now_ms is before the last sample, MIGBUF_E_RANGE, MIGBUF_E_INVALID; nothing has changed
 * then.
 * Test: test_link, update_examples; test_link, a_dip_passes
 */
MIGBUF_API int migbuf_link_update(struct migbuf_link *l, uint64_t now_ms, double bytes_per_s, uint32_t flags);

/**
 * U, bytes/s: the last sample, held. 0 when nothing is known: no clamp then.
 * Test: test_link, silence_and_lower_bounds_never_lower_it
 */
MIGBUF_API double migbuf_link_now(const struct migbuf_link *l);
/**
 * The mean U for planning, at least MIGBUF_LINK_LEAST. Nothing known: MIGBUF_LINK_LEAST.
 * Test: test_link, a_dip_passes
 */
MIGBUF_API double migbuf_link_mean(const struct migbuf_link *l);

/**
 * A counter that was not looked at yet. Errors: MIGBUF_E_INVALID.
 * Test: test_link, a_flow_is_its_differences
 */
MIGBUF_API int migbuf_link_flow_init(struct migbuf_link_flow *f);

/**
 * The counter stands at `bytes` now. Returns 1 and the rate since the last time, or 0 (rate 0) when there is none:
 *
 * - the first time;
 * - less than 50 ms after the last: the counter is kept as it was, because short windows show bursts;
 * - when the counter went down (another process, another operation): it starts again.
 *
 * Example: 1'000'000 at 1000 ms, 6'000'000 at 1500 ms -> 10'000'000. Errors: MIGBUF_E_CLOCK, MIGBUF_E_INVALID.
 * Test: test_link, a_flow_is_its_differences
 */
MIGBUF_API int migbuf_link_flow_update(struct migbuf_link_flow *f, uint64_t now_ms, uint64_t bytes,
                                       double *bytes_per_s);

/** What the kernel knows about a TCP connection. A record. */
struct migbuf_link_tcp {
    uint64_t acked_bytes; /**< tcpi_bytes_acked: a counter for migbuf_link_flow_update */
    uint64_t delivery_bytes_per_s; /**< tcpi_delivery_rate: the kernel's own estimate, of the last flight of segments */
    uint64_t unsent_bytes;    /**< waiting in the socket: > 0 says that the link, not the sender, is the limit */
    uint64_t busy_us; /**< tcpi_busy_time: how long it has had something to send, since it exists; not in a pause */
    uint32_t flags;   /**< MIGBUF_LINK_AT_LEAST: the sender was slower than the connection (app_limited) */
    uint32_t reserved; /**< 0 */
};

/**
 * TCP_INFO of a connected socket. Reads only; the descriptor stays the caller's. Linux.
 *
 * Of a multipath connection (MPTCP) it is the sum of its subflows, with the longest busy time, on Linux 5.16 and newer;
 * before, its first subflow alone. Where a subflow has left, the sum is smaller than before.
 * Errors: MIGBUF_E_SYSTEM (error->os_errno: not a socket, …), MIGBUF_E_UNSUPPORTED: not TCP, a kernel before 4.10 (it
 * does not tell rate and busy time), or not Linux.
 * Test: test_link, a_real_connection; test_link, a_multipath_connection
 */
MIGBUF_API int migbuf_link_tcp(int fd, struct migbuf_link_tcp *tcp, struct migbuf_error *error);

/** Room for an address with its port: "[fe80::1%eth0]:65535". */
#define MIGBUF_LINK_ADDRESS 64

/** A TCP connection of this machine, whoever owns it. A record. */
struct migbuf_link_connection {
    char local[MIGBUF_LINK_ADDRESS];  /**< "10.0.0.1:44321", "[2001:db8::1]:8443" */
    char remote[MIGBUF_LINK_ADDRESS]; /**< the other side's */
    uint64_t cookie; /**< the kernel's number for this socket: the same connection has the same, another never */
    struct migbuf_link_tcp tcp; /**< what the kernel knows about it */
};

/**
 * The established TCP connections between two addresses, by sock_diag: for a socket that QEMU or another process owns.
 * Returns how many. No privilege is needed. Linux; sees the network namespace of the calling thread only.
 *
 * - `local` and `remote` are "ADDRESS:PORT", "ADDRESS" or ":PORT" (IPv6 in brackets); NULL for any.
 * - A link-local address may have its interface, "fe80::1%eth0" or "fe80::1%2". Without it, those of all interfaces are
 *   found.
 * - IPv4 within IPv6 counts as IPv4.
 * - Each subflow of a multipath connection is one of its own.
 *
 * Example: migbuf_link_connections(NULL, "10.0.0.2:8443", list, 16, &error) -> 2, one for NBD and one for memory.
 * Errors: MIGBUF_E_INVALID (an address that is none, nowhere to write), MIGBUF_E_TOO_BIG with need and have
 * connections, MIGBUF_E_SYSTEM, MIGBUF_E_TIMEOUT (the kernel did not answer within a second), MIGBUF_E_UNSUPPORTED;
 * nothing is written then.
 * Test: test_link, a_connection_of_another_process; test_link, a_link_local_address
 */
MIGBUF_API int migbuf_link_connections(const char *local, const char *remote, struct migbuf_link_connection *list,
                                       size_t capacity, struct migbuf_error *error);

/** One TCP connection over time. A record. */
struct migbuf_link_tcp_flow {
    struct migbuf_link_flow flow; /**< of the acknowledged bytes */
    uint64_t busy_us;             /**< of the last sample */
};

/**
 * A connection that was not looked at yet. Errors: MIGBUF_E_INVALID.
 * Test: test_link, pauses_are_lower_bounds
 */
MIGBUF_API int migbuf_link_tcp_flow_init(struct migbuf_link_tcp_flow *f);

/**
 * What a connection carried since the last time: as migbuf_link_flow_update on its acknowledged bytes.
 *
 * *flags is MIGBUF_LINK_AT_LEAST when that says little about the link, else 0. It says little when the connection had
 * nothing to send for more than a tenth of the time (a pause, a sender that is slower), or when the kernel marks its
 * sender as the limit.
 *
 * Example: 1'250'000 bytes acknowledged and 990 ms busy in 1000 ms -> 1, 1'250'000 bytes/s, flags 0; the same with 500
 * ms busy -> flags MIGBUF_LINK_AT_LEAST. Errors: MIGBUF_E_CLOCK, MIGBUF_E_INVALID.
 * Test: test_link, pauses_are_lower_bounds
 */
MIGBUF_API int migbuf_link_tcp_update(struct migbuf_link_tcp_flow *f, uint64_t now_ms,
                                      const struct migbuf_link_tcp *tcp, double *bytes_per_s, uint32_t *flags);

/**
 * A network card's tx_bytes (/sys/class/net/NAME/statistics/tx_bytes), and its nominal speed in bytes/s, 0 where the
 * card does not tell (a bridge, no carrier). Either pointer may be NULL. Linux; /sys shows the network namespace it was
 * mounted in.
 *
 * Errors: MIGBUF_E_INVALID for a name that is none (empty, a slash, over 15 bytes), MIGBUF_E_NOTFOUND, MIGBUF_E_SYSTEM,
 * MIGBUF_E_UNSUPPORTED.
 * Test: test_link, a_real_card
 */
MIGBUF_API int migbuf_link_card(const char *name, uint64_t *tx_bytes, uint64_t *speed_bytes_per_s,
                                struct migbuf_error *error);

#ifdef __cplusplus
}
#endif
#endif
