/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_QMP_H
#define MIGBUF_QMP_H
/**
 * @file qmp.h
 * QMP without I/O: bytes in, messages out; commands in, bytes out.
 *
 * The engine knows the protocol of QEMU's monitor: greeting, negotiation, ids, events between replies. It makes no
 * system call; whoever owns the connection carries the bytes. migbuf/qmp_socket.h does that for a unix socket. A host
 * whose own monitor code reads the lines already needs migbuf_qmp_parse() only.
 *
 *     migbuf_qmp_new(NULL, NULL, &q);
 *     migbuf_qmp_command(q, "query-status", NULL, &id);           may come before the greeting
 *     loop:
 *         received n bytes: migbuf_qmp_feed(q, bytes, n);
 *         migbuf_qmp_output(q, …): write them, then migbuf_qmp_sent(q, how many);
 *         while (migbuf_qmp_next(q, &message) == 1) …             the message with that id is the answer
 *     migbuf_qmp_free(q);
 *
 * ## What is accepted
 *
 * Messages are told apart by their JSON structure, not by lines. CR LF, no line end at all, several messages in one
 * read, one message in many reads and a monitor with pretty=on are all the same.
 *
 * | what a peer sends | what becomes of it |
 * |---|---|
 * | an integer above INT64_MAX, below INT64_MIN | becomes 9223372036854775807, -9223372036854775808 |
 * | half a surrogate pair (\\ud800) | becomes \\ufffd; \\u0000 stays |
 * | duplicate keys | the last one counts |
 * | braces match, but it is not JSON: a raw control byte in a string, 1e400, more than 256 levels | MIGBUF_QMP_INVALID; the next message is read as usual |
 * | JSON, but no message: two kinds at once, an id nobody waits for | the same |
 * | the stream makes no sense: bytes outside an object, a reply before the greeting, a second greeting, a refused negotiation | the engine is broken: MIGBUF_E_PROTOCOL |
 * | a message longer than the bound | the engine is broken: MIGBUF_E_TOO_BIG |
 *
 * - The first three are repaired in the text that is handed out: QEMU may send them, and a JSON parser with 64-bit
 *   numbers refuses them. So any parser can take the text.
 * - When the id of an invalid message can be read, it ends the wait for that id.
 * - A broken engine is broken for ever. Every call that moves on returns that error, after the messages that came
 *   before have been taken.
 *
 * ## Threads and memory
 *
 * One handle, one thread at a time; any thread. No globals of ours. Whatever a peer sends costs time in proportion to
 * its length (some ms a MiB) and the memory of that length: no tree is built of it.
 *
 * Only the arguments of a caller's command are read by jansson, whose memory comes from its own process-wide allocator,
 * not from the handle's. A host may set that one (json_set_alloc_funcs), a library must not, and this one does not.
 *
 * - jansson does not survive every failed allocation. So all that a text can need (10 MB and 40 times its length at
 *   most) is asked for in one piece first, and MIGBUF_E_NOMEM said where it is not there. It is given back before the
 *   call returns.
 * - jansson's first object in a process picks a hash seed. It may read /dev/urandom then, unless the host called
 *   json_object_seed() before.
 *
 * Source: docs/interop/qmp-spec.rst of QEMU, and the behaviour of QEMU 7.2.22 as measured.
 *
 * Link with -lmigbuf-qmp.
 */
#include "migbuf/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The first message: text is the value of "QMP" (version and capabilities), id 0. Comes once. */
#define MIGBUF_QMP_GREETING 1
/** A command succeeded: text is the value of "return". */
#define MIGBUF_QMP_RETURN 2
/**
 * A command failed: name is the class ("GenericError", "DeviceNotFound", …), text the description. QEMU sends an error
 * without an id when it could not parse a command. Such an error carries the id of the command that has waited longest,
 * or 0.
 */
#define MIGBUF_QMP_ERROR 3
/** name is the event's name, text its data ("{}" when it has none), id 0. */
#define MIGBUF_QMP_EVENT 4
/** Not a message, see above: text says why in an English sentence; id is the command that it answered, or 0. */
#define MIGBUF_QMP_INVALID 5

/* The member `id` of a message as migbuf_qmp_parse() finds it. */
#define MIGBUF_QMP_ID_NONE 0   /**< there is none */
#define MIGBUF_QMP_ID_NUMBER 1 /**< an integer of 0 or more */
#define MIGBUF_QMP_ID_OTHER 2  /**< anything else; text commands of other programs may use strings */

/**
 * One message. The record is the caller's; `name` and `text` are not, and are never NULL. They live:
 *
 * - until the next call of migbuf_qmp_next(), migbuf_qmp_reply(), migbuf_qmp_event() or migbuf_qmp_free() on the same
 *   handle, whatever it returns;
 * - after migbuf_qmp_parse(), as long as the caller's line.
 *
 * Feeding and sending do not touch them.
 */
struct migbuf_qmp_message {
    int32_t kind;         /**< MIGBUF_QMP_… */
    int32_t id_kind;      /**< MIGBUF_QMP_ID_…, as it stood in the message */
    uint64_t id;          /**< the command's id, 0 where there is none */
    const char *name;     /**< event name or error class, NUL-terminated; "" for the other kinds */
    const char *text;     /**< JSON (greeting, return, event) or plain UTF-8 (error, invalid); NUL-terminated */
    uint64_t text_bytes;  /**< its length without the NUL; a description may hold a NUL inside */
    int64_t seconds;      /**< an event's timestamp, since 1970; -1 where QEMU had none or the message is no event */
    int64_t microseconds; /**< 0 … 999999, or -1 as above */
    uint64_t lost_events; /**< on an event: how many older ones were dropped since the one delivered before it */
};

/** Bounds. Fill with migbuf_qmp_options_init(), then change what must be. */
struct migbuf_qmp_options {
    uint64_t size;              /**< sizeof, set by _init */
    uint64_t max_message_bytes; /**< longest message and longest arguments; 1024 … 2^30, default 1 MiB.
                                     query-qmp-schema of QEMU 7.2 is 207'009 bytes */
    uint64_t max_events; /**< events (and invalid messages nobody waits for) kept until taken; when one more comes
                              the oldest is dropped and counted in lost_events; 1 … 1'000'000, default 256 */
    uint64_t max_event_bytes; /**< memory of those that are kept: their text and some 150 bytes each. When one more would
                              go beyond it, as many of the oldest as need be are dropped and counted. The newest is kept
                              even where it is longer. 1024 … 2^40, default 4 MiB */
};

/**
 * The engine. Memory: at most three times max_message_bytes for the message being read, the events that were not taken
 * (max_event_bytes, or one message where that is longer), and what the host leaves there: the greeting and answers not
 * taken, commands not sent. Each call takes time in proportion to the bytes or messages it moves, however many wait.
 */
struct migbuf_qmp;

/**
 * Fills *options with the defaults. `size` is sizeof *options in the caller's build.
 *
 * Example: migbuf_qmp_options_init(&o, sizeof o) -> 0, o.max_message_bytes 1048576, o.max_events 256, o.max_event_bytes
 * 4194304.
 * Errors: MIGBUF_E_INVALID (NULL), MIGBUF_E_STRUCT (size smaller than the first version or above 65536).
 * Test: test_qmp, options_are_checked
 */
MIGBUF_API int migbuf_qmp_options_init(struct migbuf_qmp_options *options, uint64_t size);

/**
 * A new engine that waits for a greeting. `options` and `allocator` may be NULL (the defaults, malloc); both are
 * copied.
 *
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_STRUCT, MIGBUF_E_RANGE, MIGBUF_E_NOMEM; *engine is untouched then.
 * The caller owns *engine and gives it back with migbuf_qmp_free().
 * Test: test_qmp, options_are_checked
 */
MIGBUF_API int migbuf_qmp_new(const struct migbuf_qmp_options *options, const struct migbuf_allocator *allocator,
                              struct migbuf_qmp **engine);

/** Frees the engine and every message it handed out. NULL is fine. */
MIGBUF_API void migbuf_qmp_free(struct migbuf_qmp *engine);

/**
 * Queues a command and gives it an id: 1, 2, 3, … in the order of the calls. Before the negotiation has ended the
 * command waits; migbuf_qmp_output() then shows it right behind.
 *
 * - `name` has 1 … 128 characters of [A-Za-z0-9_.-].
 * - `arguments` is the text of one JSON object, or NULL. It is checked and copied as it stands, because QEMU answers a
 *   command that it cannot parse without an id, which would fail another command.
 * - So it must not hold what QEMU refuses: duplicate keys, \\u0000, half a surrogate pair; nor integers beyond int64.
 *
 * Example: migbuf_qmp_command(q, "stop", NULL, &id) -> 0, id 1; after the negotiation migbuf_qmp_output() shows
 * {"execute":"stop","id":1} and a line feed.
 * Errors: MIGBUF_E_INVALID (name, or arguments that are not as said); MIGBUF_E_TOO_BIG (arguments longer than
 * max_message_bytes, nested deeper than 256 levels, or of more values than 16384 and one for each 16 bytes);
 * MIGBUF_E_NOMEM; or the code that broke the engine. *id is untouched then. Keeps no pointer.
 * Test: test_qmp, a_wrong_command_changes_nothing
 */
MIGBUF_API int migbuf_qmp_command(struct migbuf_qmp *engine, const char *name, const char *arguments, uint64_t *id);

/**
 * The bytes to send next; *bytes_count 0 when there is nothing (then *bytes is still not NULL). They stay where they
 * are until the next migbuf_qmp_command() or migbuf_qmp_sent().
 *
 * Errors: MIGBUF_E_INVALID, or the code that broke the engine.
 * Test: test_qmp, any_cut_is_the_whole
 */
MIGBUF_API int migbuf_qmp_output(const struct migbuf_qmp *engine, const char **bytes, uint64_t *bytes_count);

/**
 * Says that the first `bytes_count` bytes of migbuf_qmp_output() have left.
 *
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_RANGE (more than there were); nothing changes then.
 * Test: test_qmp, any_cut_is_the_whole
 */
MIGBUF_API int migbuf_qmp_sent(struct migbuf_qmp *engine, uint64_t bytes_count);

/**
 * Takes bytes that have arrived, in any portions. Messages that they complete can be taken with migbuf_qmp_next();
 * migbuf_qmp_output() may have become longer.
 *
 * Until it returns it holds all messages of the portion, some 150 bytes beside each, and keeps what the bounds allow
 * then. Portions of 16 KiB are a good size.
 *
 * Errors: MIGBUF_E_INVALID. MIGBUF_E_NOMEM: nothing was taken, feed the same bytes again later. MIGBUF_E_PROTOCOL and
 * MIGBUF_E_TOO_BIG: the engine is broken (see above), the messages before that point are there. Keeps no pointer.
 * Test: test_qmp, cut_at_every_byte_and_glued
 */
MIGBUF_API int migbuf_qmp_feed(struct migbuf_qmp *engine, const char *bytes, uint64_t bytes_count);

/**
 * The oldest message, in the order of arrival. Returns 1, or 0 when there is none. *message is untouched unless 1 is
 * returned. For how long its texts live see struct migbuf_qmp_message.
 *
 * Example: after the greeting, an event STOP and the answer to command 1 were fed, three calls give
 * MIGBUF_QMP_GREETING, MIGBUF_QMP_EVENT "STOP" with text "{}", MIGBUF_QMP_RETURN with id 1; a fourth returns 0. The
 * answer to the negotiation is not handed out.
 * Errors: MIGBUF_E_INVALID, or, once no message is left, the code that broke the engine.
 * Test: test_qmp, messages_come_in_the_order_of_arrival
 */
MIGBUF_API int migbuf_qmp_next(struct migbuf_qmp *engine, struct migbuf_qmp_message *message);

/**
 * The answer to one command, taken out of the queue past whatever stands before it. Returns 1, or 0 when it has not
 * come.
 *
 * Errors: as migbuf_qmp_next(); MIGBUF_E_NOTFOUND when nobody waits for that id (never given out, taken, forgotten).
 * Test: test_qmp, answers_find_who_waits
 */
MIGBUF_API int migbuf_qmp_reply(struct migbuf_qmp *engine, uint64_t id, struct migbuf_qmp_message *message);

/**
 * The oldest event, past whatever stands before it. Returns 1, or 0 when there is none. Errors: as migbuf_qmp_next().
 * Test: test_qmp, events_are_bounded_in_bytes_too
 */
MIGBUF_API int migbuf_qmp_event(struct migbuf_qmp *engine, struct migbuf_qmp_message *message);

/**
 * Says that nobody waits for that answer any more (a deadline passed). It is dropped when it comes, or now if it is
 * there, and can never be taken for another's. The command itself is not called back: QEMU carries it out all the same.
 *
 * Errors: MIGBUF_E_INVALID, MIGBUF_E_NOTFOUND.
 * Test: test_qmp, a_forgotten_answer_is_nobodys
 */
MIGBUF_API int migbuf_qmp_forget(struct migbuf_qmp *engine, uint64_t id);

/**
 * 1 once the negotiation has ended, 0 before, MIGBUF_E_INVALID, or the code that broke the engine.
 * Test: test_qmp, negotiation_comes_first_and_commands_wait_for_it
 */
MIGBUF_API int migbuf_qmp_is_ready(const struct migbuf_qmp *engine);

/**
 * How many commands have no answer yet, forgotten ones among them; 0 for NULL.
 * Test: test_qmp, negotiation_comes_first_and_commands_wait_for_it
 */
MIGBUF_API uint64_t migbuf_qmp_pending(const struct migbuf_qmp *engine);

/**
 * Reads one message without an engine, for a host that has a monitor of its own. Allocates nothing.
 *
 * - `line` holds exactly one message; white space and line ends around it are fine.
 * - It is *written to*: repairs as above, NULs behind the parts handed out. The pointers in *message point into it. So
 *   give memory of C that lives as long as they are used.
 * - `id` is taken as it stands.
 * - The length is not bounded: the caller has the line already.
 *
 * Example: {"timestamp":{"seconds":5,"microseconds":7},"event":"STOP"} -> 0, kind MIGBUF_QMP_EVENT, name "STOP", text
 * "{}", text_bytes 2, seconds 5, microseconds 7, id_kind MIGBUF_QMP_ID_NONE.
 * Errors: MIGBUF_E_INVALID (NULL); *message untouched. A line that is no message is no error of this call: it returns 0
 * with kind MIGBUF_QMP_INVALID, and `id` where it could be read.
 * Test: test_qmp, one_line_of_a_hosts_own_monitor
 */
MIGBUF_API int migbuf_qmp_parse(char *line, uint64_t line_bytes, struct migbuf_qmp_message *message);

#ifdef __cplusplus
}
#endif
#endif
