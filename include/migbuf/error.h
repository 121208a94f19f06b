/* SPDX-License-Identifier: MIT */
#ifndef MIGBUF_ERROR_H
#define MIGBUF_ERROR_H
/**
 * @file error.h
 * Result codes, and the detail a caller may ask for.
 *
 * - Every function that can fail returns an `int`: 0 or a count on success, one of the negative codes below on failure.
 * - After a failure the handle and every output are as they were before the call.
 * - A `struct migbuf_error *`, where a function takes one, comes last and may be NULL. It is written on failure only.
 *
 * Link with -lmigbuf.
 */
#include <stddef.h>
#include <stdint.h>

/** Marks what the library exports. */
#if defined(__GNUC__)
#define MIGBUF_API __attribute__((visibility("default")))
#else
#define MIGBUF_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A pointer that must not be NULL is, or a value makes no sense (NaN, an unknown constant, a text that is not one).
 */
#define MIGBUF_E_INVALID (-1)
/** A number is outside the range its documentation gives. */
#define MIGBUF_E_RANGE (-2)
/** The allocator returned NULL. */
#define MIGBUF_E_NOMEM (-3)
/** That id is there already. */
#define MIGBUF_E_EXISTS (-4)
/** No such id, node or device. */
#define MIGBUF_E_NOTFOUND (-5)
/** Time went backwards. */
#define MIGBUF_E_CLOCK (-6)
/** A struct's size field is smaller than its first version, or a field this library does not know is not zero. */
#define MIGBUF_E_STRUCT (-7)
/** Refused because the bytes are in use; the error's `need` and `have` tell the numbers. */
#define MIGBUF_E_IN_USE (-8)
/** Does not fit; the error's `need` and `have` tell the numbers. */
#define MIGBUF_E_NOSPACE (-9)
/** The call is not possible in this state. */
#define MIGBUF_E_STATE (-10)
/** A text is not what its format says (JSON, QMP, a saved state). */
#define MIGBUF_E_PROTOCOL (-11)
/** Longer than the bound that was set for it. */
#define MIGBUF_E_TOO_BIG (-12)
/** The other side answered with an error of its own. */
#define MIGBUF_E_PEER (-13)
/** The deadline passed. */
#define MIGBUF_E_TIMEOUT (-14)
/** The other side closed the connection. */
#define MIGBUF_E_CLOSED (-15)
/** A system call failed; the error's `os_errno` tells which way. */
#define MIGBUF_E_SYSTEM (-16)
/** This build, this peer or this file system cannot do it. */
#define MIGBUF_E_UNSUPPORTED (-17)
/** Nobody knows whether it was carried out: it was sent, and no answer came. */
#define MIGBUF_E_UNKNOWN (-18)

/* What became of something that was asked of QEMU. There are three outcomes, not two: a command whose answer did not
 * come may have been carried out, or may be carried out later. */
#define MIGBUF_OUTCOME_DONE 1    /**< it was carried out */
#define MIGBUF_OUTCOME_REFUSED 2 /**< nothing of it was carried out, and nothing will be */
#define MIGBUF_OUTCOME_UNKNOWN 3 /**< neither is known: a time-out, a lost connection, a cancelled call, a part of it */

/**
 * Detail of a failure. `text` is a fixed English sentence (static storage, never NULL once written). The numbers are in
 * the unit the failing function documents (bytes, mostly), and 0 where they mean nothing.
 */
struct migbuf_error {
    int32_t code;     /**< the MIGBUF_E_… that was returned */
    int32_t os_errno; /**< errno of the failing system call, else 0 */
    const char *text; /**< what went wrong, in one sentence */
    uint64_t need;    /**< how much was asked for */
    uint64_t have;    /**< how much there is */
    uint64_t caution; /**< the part of `need` that is there only because a figure is not known; else 0 */
};

/**
 * The meaning of a result code, as a short English sentence in static storage. Never NULL: an unknown code gives
 * "unknown error", 0 and counts give "success". Any thread.
 *
 * Example: migbuf_strerror(MIGBUF_E_CLOCK) -> "time went backwards".
 * Test: test_error, every_code_has_a_text_of_its_own
 */
MIGBUF_API const char *migbuf_strerror(int code);

/**
 * A peer's text for a terminal or a log. A byte becomes a backslash, x and two hex digits where it could move a cursor,
 * begin another line, hide something or change the order of reading, and where it is no UTF-8. All else stays as it is.
 *
 * - Returns the length of the whole result: at most four times that of the text.
 * - Writes as much of it to `out` as fits `out_bytes`, NUL-terminated and cut between two characters. out_bytes 0 (then
 *   out may be NULL) asks for the length.
 * - A NULL text is an empty one.
 *
 * Example: the five bytes ESC, "[2J", newline -> a backslash, "x1b[2J", a backslash, "x0a": 11 bytes.
 * What counts: U+0000 to 1F, 7F to 9F, marks and overrides of direction, and characters without a width (U+061C, 200B
 * to 200F, 2028 to 202E, 2060 to 206F, FEFF). Source: ours, after the Unicode categories Cc, Cf, Zl and Zp. Any thread.
 * Test: test_error, a_peers_text_becomes_printable
 */
MIGBUF_API size_t migbuf_printable(const char *text, char *out, size_t out_bytes);

/**
 * Where a handle takes its memory from. One function does it all, as realloc does:
 *
 * | pointer | new_bytes | it |
 * |---|---|---|
 * | NULL | above 0 | allocates |
 * | not NULL | 0 | frees, and must succeed |
 * | not NULL | above 0 | moves |
 *
 * - `old_bytes` is what was asked for before.
 * - It may return NULL when there is no memory. The library then returns MIGBUF_E_NOMEM with nothing changed.
 * - The record is copied by the `_new` function that takes it. NULL in its place means malloc, realloc and free.
 * - These are the only function pointers in the whole interface: from Go, pass NULL.
 * - Functions without a handle need no memory, but for the readers of report.h, which say where theirs comes from.
 */
struct migbuf_allocator {
    void *context; /**< whatever resize needs; handed to it */
    /** As said above; must not call the library. */
    void *(*resize)(void *context, void *pointer, size_t old_bytes, size_t new_bytes);
};

#ifdef __cplusplus
}
#endif
#endif
