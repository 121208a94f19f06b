/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_QMP_SOCKET_H
#define MIGBUF_QMP_SOCKET_H
/**
 * @file qmp_socket.h
 * QMP over a unix socket: the engine of migbuf/qmp.h with the system calls added.
 *
 * Two ways to use one handle, which may be mixed:
 *
 * - Blocking. migbuf_qmp_socket_call() sends a command and waits for its answer. Events that come meanwhile are kept
 *   for migbuf_qmp_socket_event().
 * - In the host's own poll loop. Watch migbuf_qmp_socket_fd() for migbuf_qmp_socket_wanted(). Call
 *   migbuf_qmp_socket_step() when it is ready. Use migbuf_qmp_command() and migbuf_qmp_next() on
 *   migbuf_qmp_socket_engine().
 *
 * **Every wait ends.** `timeout_ms` counts on CLOCK_MONOTONIC from the call; interrupted system calls go on with what
 * is left. The time in which arrived bytes are looked at is part of it: at most 256 KiB are read between two looks at
 * the clock, and what they cost is in proportion to their length (qmp.h).
 *
 * **The process.** The socket is close-on-exec, sends do not raise SIGPIPE, signals and threads are not touched. A
 * handle belongs to one thread at a time.
 *
 * **One client.** QEMU serves one client per monitor. A second connection is accepted by the kernel and hears nothing
 * until the first one leaves.
 *
 * Where a function takes a `struct migbuf_error *` it comes last and may be NULL. All functions that move bytes share
 * these errors:
 *
 * | error | means |
 * |---|---|
 * | MIGBUF_E_TIMEOUT | the deadline passed |
 * | MIGBUF_E_CLOSED | the peer closed, or it takes no more bytes, which is noticed when something is sent. What it had said by then can still be taken |
 * | MIGBUF_E_SYSTEM | a system call failed: os_errno |
 * | MIGBUF_E_NOMEM | nothing is lost: call again |
 * | MIGBUF_E_PROTOCOL, MIGBUF_E_TOO_BIG | the engine is broken, see migbuf/qmp.h |
 *
 * Closed and broken are for ever: free the handle and open another.
 *
 * Link with -lmigbuf-qmp.
 */
#include "migbuf/qmp.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A connection: a file descriptor and an engine. */
struct migbuf_qmp_socket;

/**
 * Connects to the monitor's socket and waits until the negotiation is done.
 *
 * - `path` is that of a file, 1 … 107 bytes long. An abstract address cannot be given so: connect to it, and hand the
 *   descriptor to migbuf_qmp_socket_adopt().
 * - The greeting is left in the engine for migbuf_qmp_next(), for who wants QEMU's version.
 * - `options` and `allocator` as in migbuf_qmp_new().
 *
 * Example: migbuf_qmp_socket_open("/run/vm1/qmp", NULL, NULL, 5000, &s, &error).
 *
 * Errors: the shared ones. MIGBUF_E_TIMEOUT without a greeting means in most cases that another client holds the
 * monitor. MIGBUF_E_SYSTEM when nobody listens (ECONNREFUSED, ENOENT). MIGBUF_E_TOO_BIG when the path does not fit a
 * unix address (the error's need and have are bytes). MIGBUF_E_INVALID (also for an empty path), MIGBUF_E_RANGE and
 * MIGBUF_E_STRUCT. *s is untouched then. The caller owns *s and gives it back with migbuf_qmp_socket_free().
 * Test: test_qmp_socket, a_monitor_that_does_not_greet; test_qmp_qemu, a_busy_monitor
 */
MIGBUF_API int migbuf_qmp_socket_open(const char *path, const struct migbuf_qmp_options *options,
                                      const struct migbuf_allocator *allocator, uint32_t timeout_ms,
                                      struct migbuf_qmp_socket **s, struct migbuf_error *error);

/**
 * Takes over a connected stream socket on which nothing has been read yet (one end of a socketpair, a descriptor from
 * systemd). Does not wait: the negotiation happens in the first call, or in the steps. Sets close-on-exec and no other
 * flag; reads and writes never block whether or not O_NONBLOCK is set.
 *
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE, MIGBUF_E_STRUCT, MIGBUF_E_NOMEM, MIGBUF_E_SYSTEM (not a descriptor); the
 * descriptor stays the caller's then. On success it is closed by migbuf_qmp_socket_free().
 * Test: test_qmp_socket, an_abstract_address_is_adopted
 */
MIGBUF_API int migbuf_qmp_socket_adopt(int32_t fd, const struct migbuf_qmp_options *options,
                                       const struct migbuf_allocator *allocator, struct migbuf_qmp_socket **s,
                                       struct migbuf_error *error);

/** Closes the connection and frees everything, messages handed out included. QEMU goes on. NULL is fine. */
MIGBUF_API void migbuf_qmp_socket_free(struct migbuf_qmp_socket *s);

/**
 * Sends a command and waits for its answer, at most timeout_ms (1 … 2^32-1). `name` and `arguments` as in
 * migbuf_qmp_command().
 *
 * | returns | *message |
 * |---|---|
 * | 0 | the answer: QEMU carried the command out |
 * | MIGBUF_E_PEER | the answer: QEMU's error |
 * | MIGBUF_E_PROTOCOL, and migbuf_qmp_is_ready() is 1 | the MIGBUF_QMP_INVALID one: the answer came but is not JSON; the handle is not broken |
 * | MIGBUF_E_TIMEOUT | untouched. The command may still be carried out; its answer is dropped when it comes and never taken for another's |
 * | any other error | untouched |
 *
 * The texts of *message live until the next migbuf_qmp_socket_call(), _call_fd() or _event() on the handle, and as
 * migbuf/qmp.h says.
 *
 * Example: migbuf_qmp_socket_call(s, "query-status", NULL, 5000, &m, NULL) -> 0, m.text {"status": "running", …}.
 * Errors: also the shared ones, those of migbuf_qmp_command(), MIGBUF_E_RANGE (timeout_ms 0).
 * Test: test_qmp_socket, a_call_and_the_events_around_it; test_qmp_socket, a_late_answer_is_not_the_next_ones
 */
MIGBUF_API int migbuf_qmp_socket_call(struct migbuf_qmp_socket *s, const char *name, const char *arguments,
                                      uint32_t timeout_ms, struct migbuf_qmp_message *message,
                                      struct migbuf_error *error);

/**
 * As migbuf_qmp_socket_call(), with a file descriptor that travels with the command's first byte (SCM_RIGHTS):
 * "add-fd", "getfd".
 *
 * - QEMU keeps only the newest descriptor it was sent. So this waits first, within the same deadline, until no other
 *   command is on its way.
 * - `fd` stays the caller's and may be closed when the call is over.
 * - After MIGBUF_E_TIMEOUT the command may go out later without the descriptor; QEMU then refuses it.
 *
 * Example: migbuf_qmp_socket_call_fd(s, "add-fd", NULL, fd, 5000, &m, NULL) -> 0, m.text {"fd": 11, "fdset-id": 0}.
 * Test: test_qmp_socket, a_descriptor_travels_alone; test_qmp_qemu, a_file_by_descriptor
 */
MIGBUF_API int migbuf_qmp_socket_call_fd(struct migbuf_qmp_socket *s, const char *name, const char *arguments,
                                         int32_t fd, uint32_t timeout_ms, struct migbuf_qmp_message *message,
                                         struct migbuf_error *error);

/**
 * The same without waiting, for the host's own poll loop. The command is queued, and the descriptor goes with its first
 * byte at once or in the next steps. *id is for migbuf_qmp_reply(). `fd` stays the caller's and may be closed at once.
 *
 * Errors: MIGBUF_E_STATE before the negotiation and while another command is unanswered: nothing was queued, try again
 * later. The shared ones except MIGBUF_E_TIMEOUT; those of migbuf_qmp_command(); MIGBUF_E_SYSTEM for a bad descriptor.
 * Test: test_qmp_socket, a_descriptor_without_waiting
 */
MIGBUF_API int migbuf_qmp_socket_command_fd(struct migbuf_qmp_socket *s, const char *name, const char *arguments,
                                            int32_t fd, uint64_t *id, struct migbuf_error *error);

/**
 * The oldest event: returns 1, or 0 when none came in timeout_ms (0: looks without waiting). Its texts live as
 * long as those of an answer.
 *
 * Errors: the shared ones except MIGBUF_E_TIMEOUT, once no event is left. *message is untouched unless 1 is returned.
 * Test: test_qmp_socket, a_call_and_the_events_around_it
 */
MIGBUF_API int migbuf_qmp_socket_event(struct migbuf_qmp_socket *s, uint32_t timeout_ms,
                                       struct migbuf_qmp_message *message, struct migbuf_error *error);

/**
 * The descriptor to poll; -1 for NULL. Do not read, write or close it.
 * Test: test_qmp_socket, the_hosts_own_poll_loop
 */
MIGBUF_API int32_t migbuf_qmp_socket_fd(const struct migbuf_qmp_socket *s);

/**
 * What to poll it for: POLLIN, with POLLOUT while something waits to be sent; 0 once closed or broken, and for NULL.
 * Test: test_qmp_socket, the_hosts_own_poll_loop
 */
MIGBUF_API int32_t migbuf_qmp_socket_wanted(const struct migbuf_qmp_socket *s);

/**
 * Sends and receives what is possible at once; at most 256 KiB in, so that one busy monitor cannot hold up a loop.
 * Returns 0, or the shared errors except MIGBUF_E_TIMEOUT.
 * Test: test_qmp_socket, the_hosts_own_poll_loop
 */
MIGBUF_API int migbuf_qmp_socket_step(struct migbuf_qmp_socket *s, struct migbuf_error *error);

/**
 * The engine inside, for migbuf_qmp_command(), _next(), _reply() and _forget(); do not feed, mark as sent or free it.
 * NULL for NULL.
 * Test: test_qmp_socket, a_late_answer_is_not_the_next_ones
 */
MIGBUF_API struct migbuf_qmp *migbuf_qmp_socket_engine(struct migbuf_qmp_socket *s);

#ifdef __cplusplus
}
#endif
#endif
