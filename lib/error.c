/* SPDX-License-Identifier: MIT */
/* error: what a code means, in words. Fixed text: nothing is kept, nothing allocated. */
#include "migbuf/error.h"

const char *migbuf_strerror(int code)
{
    static const char *const text[] = {
        [0] = "success",
        [-MIGBUF_E_INVALID] = "invalid argument",
        [-MIGBUF_E_RANGE] = "number out of range",
        [-MIGBUF_E_NOMEM] = "out of memory",
        [-MIGBUF_E_EXISTS] = "that id is there already",
        [-MIGBUF_E_NOTFOUND] = "not found",
        [-MIGBUF_E_CLOCK] = "time went backwards",
        [-MIGBUF_E_STRUCT] = "a struct is of another version, or a field unknown to this library is set",
        [-MIGBUF_E_IN_USE] = "the bytes are in use",
        [-MIGBUF_E_NOSPACE] = "does not fit",
        [-MIGBUF_E_STATE] = "not possible in this state",
        [-MIGBUF_E_PROTOCOL] = "the text is not what its format says",
        [-MIGBUF_E_TOO_BIG] = "longer than the bound set for it",
        [-MIGBUF_E_PEER] = "the other side answered with an error",
        [-MIGBUF_E_TIMEOUT] = "the deadline passed",
        [-MIGBUF_E_CLOSED] = "the other side closed the connection",
        [-MIGBUF_E_SYSTEM] = "a system call failed",
        [-MIGBUF_E_UNSUPPORTED] = "not supported here",
        [-MIGBUF_E_UNKNOWN] = "sent, but no answer came: it may have been carried out or not",
    };

    if (code >= 0)
        return text[0];
    if (code < -(int)(sizeof text / sizeof *text) + 1)
        return "unknown error";
    return text[-code];
}
